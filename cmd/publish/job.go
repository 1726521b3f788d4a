package main

import (
	"context"
	"errors"
	"fmt"
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

	narrator narrator
	// verify reads the index back from the destination when it has been replaced.
	verify bool
}

// A part of a job, as a narrator tells of it.
type part string

const (
	partScan   part = "Scan"
	partPlan   part = "Plan"
	partUpload part = "Upload"
	partIndex  part = "Index"
	partCDN    part = "CloudFront"
	partVerify part = "Verify"
)

// A narrator hears how a job goes on, while the report only tells how it ended.
type narrator interface {
	begins(part)
	says(format string, args ...any)
	scanned(*publish.Source)
	// planned: the plan is in the report.
	planned(*publish.Plan, *report)
	// progress returns what is told of a plan being carried out, and what ends that.
	progress(*publish.Plan) (p publish.Progress, stop func())
}

// do runs the job, and says why if it was stopped.
func (j *job) do(ctx context.Context, source, where string) error {
	return stopped(ctx, j.run(ctx, source, where))
}

// stopped is why a context has ended, if that is what an error is about.
func stopped(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(err, context.DeadlineExceeded) && errors.Is(cause, errTimeout) || errors.Is(err, context.Canceled) && cause != nil {
		return cause
	}
	return err
}

func (j *job) run(ctx context.Context, source, where string) error {
	if err := apart(source, where); err != nil {
		return err
	}
	j.narrator.begins(partScan)
	src, err := publish.Open(ctx, source, j.options.Selection)
	if err != nil {
		return sourceError(err)
	}
	defer src.Close()
	j.narrator.scanned(src)
	j.narrator.begins(partPlan)
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
	j.narrator.planned(plan, j.report)
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
		return &publish.FindingsError{Findings: findings, Held: plan.Blocked()}
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
	if !plan.Blocked() {
		j.narrator.begins(partUpload)
	}
	p, stop := j.narrator.progress(plan)
	out, err := plan.Apply(ctx, p)
	stop()
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
	cdn.narrator = j.narrator
	told, cdnErr := cdn.tell(ctx, out.Stale, all)
	j.report.Invalidate = told
	if cdnErr == nil && j.verify {
		j.narrator.begins(partVerify)
		cdnErr = j.readBack(ctx, all, d)
	}
	j.report.requests(d)
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
			return fail(exitVerification, fmt.Errorf("published, but not there when it is read back from the destination: %q: %w", s.Path, err))
		}
	}
	j.narrator.says("the destination has what was published")
	return nil
}
