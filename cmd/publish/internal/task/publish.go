package task

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/promotion"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/pages"
)

// A Publish is one publish, from its configuration to its report.
type Publish struct {
	Source, Destination string
	Target              target.Config
	Options             publish.Options
	DryRun              bool
	// From, if set, opens a mirror elsewhere in place of the directory Source, for a destination. Into stores
	// its content at the destination.
	From func(ctx context.Context, to mirror.Store) (*source.Source, error)
	Into func(mirror.Store) mirror.Store
	// Upstream are mirrors whose packages are not published.
	Upstream []string
	// ReadBack reads the index back from the destination after it was replaced.
	ReadBack bool
	// Catalog updates the page of each mirror whose index is replaced.
	Catalog bool

	Environment target.Environment
	Report      *Report
	Observer    Observer
	// Identified, if set, receives the identity of requests to a destination in S3, once.
	Identified func(*target.Identity)
}

// cdnObserver shows the work on a CDN as parts of a publish.
type cdnObserver struct{ Observer }

func (o cdnObserver) Invalidating() { o.Begin(PartCDN) }
func (o cdnObserver) ReadingBack()  { o.Begin(PartVerify) }

func (o cdnObserver) Waiting(until string) {
	if w, ok := o.Observer.(interface{ Waiting(until string) }); ok {
		w.Waiting(until)
		return
	}
	o.Note("waiting until %s", until)
}

// Run publishes. If it is stopped, the error is the cause.
func (p *Publish) Run(ctx context.Context) error {
	err := cli.Stopped(ctx, p.run(ctx))
	p.Observer.End(err)
	return err
}

// RunInPlace publishes a source onto itself: it signs the packages in place.
func (p *Publish) RunInPlace(ctx context.Context) error {
	err := cli.Stopped(ctx, p.do(ctx, func(ctx context.Context, plan *publish.Plan, d *target.Destination) error {
		return removeUnsigned(ctx, plan, func(path string) tidier { return d.Mirror(path).(tidier) })
	}))
	p.Observer.End(err)
	return err
}

func (p *Publish) run(ctx context.Context) error {
	if p.From != nil {
		return p.runFrom(ctx)
	}
	if err := target.Apart(p.Source, p.Destination); err != nil {
		return err
	}
	return p.do(ctx, nothingElse)
}

func nothingElse(context.Context, *publish.Plan, *target.Destination) error { return nil }

// do publishes, and calls then at the end, even if some packages were refused.
func (p *Publish) do(ctx context.Context, then func(context.Context, *publish.Plan, *target.Destination) error) error {
	p.Observer.Begin(PartScan)
	src, err := source.Open(ctx, p.Source, p.Options.Selection)
	if err != nil {
		return sourceError(err)
	}
	defer src.Close()
	p.Observer.Scanned(src)
	p.Observer.Begin(PartPlan)
	d, err := target.Open(ctx, p.Destination, p.Target, p.Environment)
	if err != nil {
		return err
	}
	defer d.Close()
	return p.publish(ctx, src, d, then)
}

// runFrom publishes a mirror elsewhere. It reads only the packages that the destination lacks.
func (p *Publish) runFrom(ctx context.Context) error {
	p.Observer.Begin(PartScan)
	d, err := target.Open(ctx, p.Destination, p.Target, p.Environment)
	if err != nil {
		return err
	}
	defer d.Close()
	src, err := p.From(ctx, d.Mirror(""))
	switch {
	case errors.Is(err, source.ErrNothing):
		return cli.Fail(cli.ExitSource, err)
	case err != nil:
		return err
	}
	p.Observer.Scanned(src)
	p.Observer.Begin(PartPlan)
	return p.publish(ctx, src, d, nothingElse)
}

func (p *Publish) publish(ctx context.Context, src *source.Source, d *target.Destination, then func(context.Context, *publish.Plan, *target.Destination) error) error {
	if err := p.checkOuter(ctx); err != nil {
		return err
	}
	identified := p.identify(ctx, d)
	defer identified()
	cdn, err := d.OpenCDN(ctx, cdnObserver{p.Observer})
	if err != nil {
		return err
	}
	into := func(path string) mirror.Store { return d.Mirror(path) }
	if p.Into != nil {
		into = func(path string) mirror.Store { return p.Into(d.Mirror(path)) }
	}
	if p.Options.Upstream, err = cli.OfferedBy(ctx, p.Upstream, p.Target, p.Environment); err != nil {
		return err
	}
	if terms := p.Options.Promotion; terms != nil && !p.DryRun {
		if who := d.Identity(ctx); who != nil {
			terms.Identity = &promotion.Identity{Endpoint: who.Endpoint, Account: who.Account, ARN: who.ARN}
		}
	}
	plan, err := publish.NewPlan(ctx, src, into, p.Options)
	if err != nil {
		return err
	}
	identified()
	stale := plan.Stale()
	for _, m := range p.mirrorsWithPages(plan.Expected(), func(x publish.Index) bool { return x.Changes }) {
		stale = append(stale, pages.Name(m))
		if p.DryRun {
			p.Report.Pages = append(p.Report.Pages, pages.Page{Mirror: m})
		}
	}
	p.Report.SetPlan(plan, cdn.Paths(stale), d.Parts.Threshold, d.Parts.PartSize)
	p.Observer.Planned(plan, p.Report)
	if p.DryRun {
		return p.dryRun(ctx, plan)
	}
	err = p.carryOut(ctx, plan, d, cdn)
	var findings *buildcache.FindingsError
	if err == nil || errors.As(err, &findings) && p.Report.Indexed() {
		err = errors.Join(err, then(ctx, plan, d))
	}
	return err
}

// checkOuter returns an error for a destination in S3 that is the inside of a mirror. It makes a request only
// if the name suggests that.
func (p *Publish) checkOuter(ctx context.Context) error {
	outer := cli.OuterOf(p.Destination)
	if outer == "" {
		return nil
	}
	d, err := target.Open(ctx, outer, p.Target, p.Environment)
	if err != nil {
		return err
	}
	defer d.Close()
	for _, l := range buildcache.Layouts() {
		for _, err := range d.Mirror("").List(ctx, mirror.Range{Prefix: l.Pointers()}) {
			if errors.Is(err, mirror.ErrDenied) {
				return nil // these credentials are valid for this prefix only
			}
			if err != nil {
				return err
			}
			return cli.Fail(cli.ExitUsage, fmt.Errorf("DESTINATION %s is the inside of a mirror: give its parent, %s", p.Destination, outer))
		}
	}
	return nil
}

// maxIdentify is how long a run whose plan is ready waits for its identity, counted from the request.
const maxIdentify = time.Second

// identify requests the identity of the credentials in the background. The first call of the returned function
// reports it, if it is known or arrives in time; later calls do nothing.
func (p *Publish) identify(ctx context.Context, d *target.Destination) (report func()) {
	if p.Identified == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	g, ctx := defect.WithContext(ctx)
	known := make(chan *target.Identity, 1)
	late := time.After(maxIdentify)
	g.Go(func() error {
		known <- d.Identity(ctx)
		return nil
	})
	return sync.OnceFunc(func() {
		select {
		case who := <-known:
			if who != nil {
				p.Report.Identity = who
				p.Identified(who)
			}
		case <-late:
		}
		cancel()
		_ = g.Wait() // its functions return no error
	})
}

// sourceError classes a source that cannot be opened as invalid, unless the run was stopped.
func sourceError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return cli.Fail(cli.ExitSource, err)
}

// dryRun checks the content that would be sent, so that it prints what a real run does. It does not check
// content elsewhere, which would take as long as copying.
func (p *Publish) dryRun(ctx context.Context, plan *publish.Plan) error {
	out := plan.Expected()
	if p.From == nil {
		var err error
		if out, err = plan.Check(ctx); err != nil {
			return err
		}
	}
	p.Report.Update(out)
	if plan.Blocked() || buildcache.Failed(out.Findings) {
		return &buildcache.FindingsError{Findings: out.Findings, Held: plan.Blocked()}
	}
	return nil
}

func (p *Publish) carryOut(ctx context.Context, plan *publish.Plan, d *target.Destination, cdn *target.CDN) error {
	if !plan.Blocked() {
		p.Observer.Begin(PartUpload)
	}
	progress, stop := p.Observer.Progress(plan)
	out, err := plan.Apply(ctx, progress)
	stop(out)
	p.Report.SetOutcome(out, d.Requests())
	var findings *buildcache.FindingsError
	if err != nil && !(errors.As(err, &findings) && p.Options.KeepGoing) {
		return err
	}
	p.Report.MarkIndexed()
	for _, m := range out.Mirrors {
		sweepErr := m.Sweep(ctx, d.Mirror(m.Path))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if sweepErr != nil { // all packages are published nevertheless
			p.Report.Warn(m.Path, "unfinished uploads of others are left over: "+sweepErr.Error())
		}
	}
	var all []reindex.Expectation
	for _, m := range out.Mirrors {
		all = append(all, m.Expectations()...)
	}
	behind := p.updatePages(ctx, out, d)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var cdnErr error
	p.Report.Invalidate, cdnErr = cdn.Update(ctx, target.Changes{Stale: slices.Concat(out.Stale, pages.Stale(p.Report.Pages)), Shown: all})
	if cdnErr == nil && p.ReadBack {
		p.Observer.Begin(PartVerify)
		cdnErr = p.readBack(ctx, all, d)
	}
	p.Report.Stored.Requests = d.Requests()
	if err = errors.Join(cdnErr, err); err == nil { // a failure of a page is reported last
		err = behind
	}
	return err
}

// mirrorsWithPages returns the mirrors with an index or a view that counts.
func (p *Publish) mirrorsWithPages(out *publish.Outcome, counts func(publish.Index) bool) []string {
	if !p.Catalog {
		return nil
	}
	return pages.Of(out, counts)
}

// updatePages updates the pages of mirrors whose index was replaced, if Catalog is set. A failure is a finding,
// and an error that does not fail the publish.
func (p *Publish) updatePages(ctx context.Context, out *publish.Outcome, d *target.Destination) error {
	changed := p.mirrorsWithPages(out, func(x publish.Index) bool { return x.Written })
	if len(changed) == 0 {
		return nil
	}
	p.Observer.Begin(PartPages)
	all, err := pages.Published(ctx, d, p.Target.CDN.PublicURL, changed, p.Options.Trust.Keys)
	p.Report.Pages = all
	for _, page := range all {
		p.Observer.Note("%s", page)
	}
	if err != nil && ctx.Err() == nil {
		p.Report.Warn("", err.Error())
	}
	return err
}

// readBack checks that the destination itself shows the published index.
func (p *Publish) readBack(ctx context.Context, all []reindex.Expectation, d *target.Destination) error {
	for _, s := range all {
		why, err := s.Unmet(ctx, d.Mirror(s.Path))
		if err == nil && why != "" {
			err = errors.New(why)
		}
		if err != nil {
			return cli.Fail(cli.ExitVerification, fmt.Errorf("published, but the destination does not show it: %q: %w", s.Path, err))
		}
	}
	p.Observer.Note("the destination shows the published index")
	return nil
}
