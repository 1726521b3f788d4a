package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// A Job is one publish, from its configuration to its report.
type Job struct {
	Source, Destination string
	Target              target.Config
	Options             publish.Options
	DryRun              bool
	// From, if set, opens a mirror elsewhere in place of the directory Source, for a destination. Its content is
	// stored by what Into makes of the destination.
	From func(ctx context.Context, to mirror.Store) (*source.Source, error)
	Into func(mirror.Store) mirror.Store
	// ReadBack reads the index back from the destination when it has been replaced.
	ReadBack bool

	Environment target.Environment
	Report      *Report
	Observer    Observer
}

// cdnObserver shows what is done to a CDN as parts of a job.
type cdnObserver struct{ Observer }

func (o cdnObserver) Invalidating() { o.Begin(PartCDN) }
func (o cdnObserver) ReadingBack()  { o.Begin(PartVerify) }

// Run runs the job. If it was stopped, the error is the cause.
func (j *Job) Run(ctx context.Context) error {
	return Stopped(ctx, j.run(ctx))
}

// RunInPlace runs a job whose destination is its source. It signs the packages where they are.
func (j *Job) RunInPlace(ctx context.Context) error {
	return Stopped(ctx, j.do(ctx, func(ctx context.Context, plan *publish.Plan, d *target.Destination) error {
		return plan.RemoveUnsigned(ctx, func(p string) publish.Tidier { return d.Mirror(p).(publish.Tidier) })
	}))
}

func (j *Job) run(ctx context.Context) error {
	if j.From != nil {
		return j.runFrom(ctx)
	}
	if err := target.Apart(j.Source, j.Destination); err != nil {
		return err
	}
	return j.do(ctx, nothingElse)
}

func nothingElse(context.Context, *publish.Plan, *target.Destination) error { return nil }

// do runs the job, and then what else is to be done, also where it has refused some of the packages.
func (j *Job) do(ctx context.Context, then func(context.Context, *publish.Plan, *target.Destination) error) error {
	j.Observer.Begin(PartScan)
	src, err := source.Open(ctx, j.Source, j.Options.Selection)
	if err != nil {
		return sourceError(err)
	}
	defer src.Close()
	j.Observer.Scanned(src)
	j.Observer.Begin(PartPlan)
	d, err := target.Open(ctx, j.Destination, j.Target, j.Environment)
	if err != nil {
		return err
	}
	defer d.Close()
	return j.publish(ctx, src, d, then)
}

// runFrom is run for a mirror elsewhere, of which only what the destination lacks is read.
func (j *Job) runFrom(ctx context.Context) error {
	j.Observer.Begin(PartScan)
	d, err := target.Open(ctx, j.Destination, j.Target, j.Environment)
	if err != nil {
		return err
	}
	defer d.Close()
	src, err := j.From(ctx, d.Mirror(""))
	switch {
	case errors.Is(err, source.ErrNothing):
		return Fail(ExitSource, err)
	case err != nil:
		return err
	}
	j.Observer.Scanned(src)
	j.Observer.Begin(PartPlan)
	return j.publish(ctx, src, d, nothingElse)
}

func (j *Job) publish(ctx context.Context, src *source.Source, d *target.Destination, then func(context.Context, *publish.Plan, *target.Destination) error) error {
	cdn, err := d.OpenCDN(ctx, cdnObserver{j.Observer})
	if err != nil {
		return err
	}
	into := func(p string) mirror.Store { return d.Mirror(p) }
	if j.Into != nil {
		into = func(p string) mirror.Store { return j.Into(d.Mirror(p)) }
	}
	plan, err := publish.NewPlan(ctx, src, into, j.Options)
	if err != nil {
		return err
	}
	j.Report.SetPlan(plan, cdn.Paths(plan.Stale()), d.Parts.Threshold, d.Parts.PartSize)
	j.Observer.Planned(plan, j.Report)
	if j.DryRun {
		return j.dryRun(ctx, plan)
	}
	err = j.carryOut(ctx, plan, d, cdn)
	var findings *buildcache.FindingsError
	if err == nil || errors.As(err, &findings) && j.Report.Indexed() {
		err = errors.Join(err, then(ctx, plan, d))
	}
	return err
}

// sourceError: a source that cannot be opened is invalid, unless we were stopped.
func sourceError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return Fail(ExitSource, err)
}

// dryRun checks what would be sent, so that what it prints is what a real run does. To check content elsewhere would be to
// copy it.
func (j *Job) dryRun(ctx context.Context, plan *publish.Plan) error {
	out := plan.Expected()
	if j.From == nil {
		var err error
		if out, err = plan.Check(ctx); err != nil {
			return err
		}
	}
	j.Report.Update(out)
	if plan.Blocked() || buildcache.Failed(out.Findings) {
		return &buildcache.FindingsError{Findings: out.Findings, Held: plan.Blocked()}
	}
	return nil
}

func (j *Job) carryOut(ctx context.Context, plan *publish.Plan, d *target.Destination, cdn *target.CDN) error {
	if !plan.Blocked() {
		j.Observer.Begin(PartUpload)
	}
	p, stop := j.Observer.Progress(plan)
	out, err := plan.Apply(ctx, p)
	stop(out)
	j.Report.SetOutcome(out, d.Requests())
	var findings *buildcache.FindingsError
	if err != nil && !(errors.As(err, &findings) && j.Options.KeepGoing) {
		return err
	}
	j.Report.MarkIndexed()
	for _, m := range out.Mirrors {
		sweepErr := m.Sweep(ctx, d.Mirror(m.Path))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if sweepErr != nil { // everything is published all the same
			j.Report.Warn(m.Path, "unfinished uploads of others are left over: "+sweepErr.Error())
		}
	}
	var all []reindex.Expectation
	for _, m := range out.Mirrors {
		all = append(all, m.Expectation())
	}
	var cdnErr error
	j.Report.Invalidate, cdnErr = cdn.Update(ctx, target.Changes{Stale: out.Stale, Shown: all})
	if cdnErr == nil && j.ReadBack {
		j.Observer.Begin(PartVerify)
		cdnErr = j.readBack(ctx, all, d)
	}
	j.Report.Stored.Requests = d.Requests()
	return errors.Join(cdnErr, err)
}

// readBack makes sure that the destination itself shows what was published.
func (j *Job) readBack(ctx context.Context, all []reindex.Expectation, d *target.Destination) error {
	for _, s := range all {
		why, err := s.Unmet(ctx, d.Mirror(s.Path))
		if err == nil && why != "" {
			err = errors.New(why)
		}
		if err != nil {
			return Fail(ExitVerification, fmt.Errorf("published, but not there when it is read back from the destination: %q: %w", s.Path, err))
		}
	}
	j.Observer.Note("the destination has what was published")
	return nil
}
