package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A job is one publish, from its flags to its report.
type job struct {
	flags   *flags
	options publish.Options
	env     cli.Env
	log     *slog.Logger
	report  *cli.Report

	observer cli.Observer
	// verify reads the index back from the destination when it has been replaced.
	verify bool
}

// do runs the job, and says why if it was stopped.
func (j *job) do(ctx context.Context, source, where string) error {
	return cli.Stopped(ctx, j.run(ctx, source, where))
}

func (j *job) run(ctx context.Context, source, where string) error {
	if err := apart(source, where); err != nil {
		return err
	}
	j.observer.Begin(cli.PartScan)
	src, err := publish.Open(ctx, source, j.options.Selection)
	if err != nil {
		return sourceError(err)
	}
	defer src.Close()
	j.observer.Scanned(src)
	j.observer.Begin(cli.PartPlan)
	d, err := j.flags.storage.open(ctx, where, j.log)
	if err != nil {
		return err
	}
	defer d.close()
	cdn, err := j.flags.cdn.open(ctx, d, j.log)
	if err != nil {
		return err
	}
	plan, err := publish.NewPlan(ctx, src, func(p string) mirror.Store { return d.mirror(p) }, j.options)
	if err != nil {
		return err
	}
	j.report.SetPlan(plan, cdn.paths(plan.Stale()), d.parts.Threshold, d.parts.PartSize)
	j.observer.Planned(plan, j.report)
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
	return cli.Fail(cli.ExitSource, err)
}

// dryRun checks what would be sent, so that what it prints is what a real run does.
func (j *job) dryRun(ctx context.Context, plan *publish.Plan) error {
	findings, err := plan.Check(ctx)
	if err != nil {
		return err
	}
	j.report.Update(plan, findings)
	if plan.Blocked() || hasError(findings) {
		return &buildcache.FindingsError{Findings: findings, Held: plan.Blocked()}
	}
	return nil
}

func hasError(findings []buildcache.Finding) bool {
	for _, f := range findings {
		if f.Severity == buildcache.Error {
			return true
		}
	}
	return false
}

func (j *job) carryOut(ctx context.Context, plan *publish.Plan, d *destination, cdn *cdn) error {
	if !plan.Blocked() {
		j.observer.Begin(cli.PartUpload)
	}
	p, stop := j.observer.Progress(plan)
	out, err := plan.Apply(ctx, p)
	stop()
	j.report.SetOutcome(plan, out, d.requests.Load())
	var findings *buildcache.FindingsError
	if err != nil && !(errors.As(err, &findings) && j.options.KeepGoing) {
		return err
	}
	j.report.MarkIndexed()
	for _, m := range plan.Mirrors {
		sweepErr := m.Sweep(ctx, d.mirror(m.Path))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if sweepErr != nil { // everything is published all the same
			j.report.Warn(m.Path, "unfinished uploads of others are left over: "+sweepErr.Error())
		}
	}
	var all []publish.Shown
	for _, m := range plan.Mirrors {
		all = append(all, m.Shown())
	}
	cdn.observer = j.observer
	told, cdnErr := cdn.tell(ctx, out.Stale, all)
	j.report.Invalidate = told
	if cdnErr == nil && j.verify {
		j.observer.Begin(cli.PartVerify)
		cdnErr = j.readBack(ctx, all, d)
	}
	j.report.Stored.Requests = d.requests.Load()
	return errors.Join(cdnErr, err)
}

// readBack makes sure that the destination itself shows what was published.
func (j *job) readBack(ctx context.Context, all []publish.Shown, d *destination) error {
	for _, s := range all {
		why, err := s.Unseen(ctx, d.mirror(s.Path))
		if err == nil && why != "" {
			err = errors.New(why)
		}
		if err != nil {
			return cli.Fail(cli.ExitVerification, fmt.Errorf("published, but not there when it is read back from the destination: %q: %w", s.Path, err))
		}
	}
	j.observer.Note("the destination has what was published")
	return nil
}
