package prune

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// A candidate is what two scans of a layout found unneeded.
type candidate struct {
	layout    buildcache.Layout
	pointers  string // before the second scan
	documents []mirror.Info
	content   []mirror.Info // without references
}

// look reads the mirror again. It returns the part of the plan that is still unneeded and unchanged.
func (s *sweep) look(ctx context.Context) ([]candidate, error) {
	s.progress.Step("look again")
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	beating, rest := context.WithCancel(ctx)
	var g defect.Group
	g.Go(func() error { return s.beat(beating, stop) })
	all, err := s.lookOnce(ctx)
	rest()
	if beatErr := g.Wait(); err == nil {
		err = beatErr
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return all, err
}

// beat renews the notice until ctx ends. If that fails, it cancels the concurrent work.
func (s *sweep) beat(ctx context.Context, stop context.CancelCauseFunc) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(renewal):
		}
		if err := s.renew(ctx); err != nil && ctx.Err() == nil {
			stop(err)
			return err
		}
	}
}

func (s *sweep) lookOnce(ctx context.Context) ([]candidate, error) {
	o := s.plan.options
	o.Now = time.Now().Add(s.skew)
	var all []candidate
	for _, was := range s.plan.Layouts {
		before := make(map[string]*document, len(was.all))
		for i := range was.all {
			before[was.all[i].name] = &was.all[i]
		}
		pointers, err := s.pointers(ctx, was.Layout)
		if err != nil {
			return nil, err
		}
		again := &scan{layout: was.Layout, now: o.Now, before: before, related: was.graph, generations: o.Keep.Generations, keepWithdrawn: o.Keep.Withdrawn, wanted: func(k key) bool { return was.content[k] }}
		if !o.Alone {
			// The effects of a record appear up to notice.Fresh later. Times of objects are in whole seconds.
			again.after, again.own = was.at, s.own
			again.since = s.plan.made.Add(s.skew - notice.Fresh - time.Second)
		}
		if err := again.run(ctx, s.target); err != nil {
			return nil, err
		}
		now, err := again.plan(ctx, o)
		if err != nil {
			return nil, err
		}
		s.note(again.findings)
		c := s.both(was, now, again, before)
		c.pointers = pointers
		all = append(all, c)
	}
	return all, nil
}

func (s *sweep) note(findings []buildcache.Finding) {
	for _, f := range findings {
		if !slices.Contains(s.plan.Findings, f) && !slices.Contains(s.out.Findings, f) {
			s.out.Findings = append(s.out.Findings, f)
		}
	}
}

// both returns the common part of a plan and a later one. Packages that are offered again are left alone: another
// program has added them to the index.
func (s *sweep) both(was, now *LayoutPlan, again *scan, before map[string]*document) candidate {
	c := candidate{layout: was.Layout}
	planned := make(map[string]bool, len(was.documents))
	for _, d := range was.documents {
		planned[d.name] = true
	}
	points := make(map[key]bool) // of existing documents
	var back []string
	for _, d := range now.documents {
		switch {
		case !planned[d.name] || before[d.name].version != d.version:
		case now.offered[d.hash]:
			back = append(back, d.name)
		case again.lately[d.hash]:
		default:
			c.documents = append(c.documents, mirror.Info{Name: d.name, Size: d.size, Version: d.version})
		}
		for _, k := range d.points {
			points[k] = true
		}
	}
	s.out.Spared += len(was.documents) - len(c.documents) - s.goneOf(was, again)
	if len(back) > 0 {
		s.note([]buildcache.Finding{buildcache.Warning.In(was.Layout.IndexNames()[0], fmt.Sprintf("another program offers again what is pruned: %s: these stay until the next prune", strings.Join(back[:min(5, len(back))], ", ")))})
	}
	for i := range again.content {
		x := &again.content[i]
		if was.content[x.key] && now.content[x.key] && !points[x.key] && x.seen != nil {
			c.content = append(c.content, *x.seen)
		}
	}
	return c
}

// goneOf returns how many documents of a plan no longer exist.
func (s *sweep) goneOf(was *LayoutPlan, again *scan) int {
	n := 0
	for _, d := range was.documents {
		_, there := slices.BinarySearchFunc(again.documents, d.name, func(d document, name string) int { return strings.Compare(d.name, name) })
		if !there {
			n++
		}
	}
	return n
}
