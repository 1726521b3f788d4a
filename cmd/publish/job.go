package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/vantagecompute/slurm-factory-publish/publish"
)

// A job is one publish, from its flags to its report.
type job struct {
	flags   *flags
	options publish.Options
	env     environment
	log     *slog.Logger
	report  *report
}

func (j *job) run(ctx context.Context, source, where string) error {
	src, err := publish.Open(ctx, source, j.options.Selection)
	if err != nil {
		return sourceError(err)
	}
	defer src.Close()
	d, err := j.flags.storage.open(ctx, where, j.log)
	if err != nil {
		return err
	}
	defer d.close()
	cdn, err := j.flags.cdn.open(ctx, d, j.log)
	if err != nil {
		return err
	}
	plan, err := publish.NewPlan(ctx, src, func(p string) publish.Store { return d.mirror(p) }, j.options)
	if err != nil {
		return err
	}
	j.report.planned(plan, cdn, d.parts)
	if j.flags.dryRun {
		return j.dryRun(ctx, plan)
	}
	return j.carryOut(ctx, plan, d, cdn)
}

// sourceError: a source that cannot be opened is invalid, unless we were stopped.
func sourceError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fail(exitSource, err)
}

// dryRun checks what would be sent, so that what it prints is what a real run does.
func (j *job) dryRun(ctx context.Context, plan *publish.Plan) error {
	findings, err := plan.Check(ctx)
	if err != nil {
		return err
	}
	j.report.found(plan, findings)
	if plan.Blocked() || hasError(findings) {
		return &publish.FindingsError{Findings: findings}
	}
	return nil
}

func hasError(findings []publish.Finding) bool {
	for _, f := range findings {
		if f.Severity == publish.Error {
			return true
		}
	}
	return false
}

func (j *job) carryOut(ctx context.Context, plan *publish.Plan, d *destination, cdn *cdn) error {
	p := newProgress(j.env, plan)
	out, err := plan.Apply(ctx, p)
	p.stop()
	j.report.applied(plan, out, d)
	var findings *publish.FindingsError
	if err != nil && !(errors.As(err, &findings) && j.options.KeepGoing) {
		return err
	}
	j.report.indexed = true
	for _, m := range plan.Mirrors {
		sweepErr := m.Sweep(ctx, d.mirror(m.Path))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if sweepErr != nil { // everything is published all the same
			j.report.warn(m.Path, "unfinished uploads of others are left over: "+sweepErr.Error())
		}
	}
	var all []publish.Shown
	for _, m := range plan.Mirrors {
		all = append(all, m.Shown())
	}
	told, cdnErr := cdn.tell(ctx, out.Token, out.Stale, all)
	j.report.Invalidate = told
	j.report.requests(d)
	return errors.Join(cdnErr, err)
}
