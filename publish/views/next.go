package views

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// next returns the new view, given the current one and the withdrawals of the mirror. was gets the withdrawals
// of the new view, which an undo reverts: of packages decided here, not of packages that the view loses.
func (p *Plan) next(ctx context.Context, s mirror.Store, withdrawn map[spec.Hash]history.Withdrawal, was *buildcache.Pointer, now *indices.Set) (*indices.Set, error) {
	if err := p.readable(was, now, reindex.ErrUnreadable); err != nil {
		return nil, err
	}
	out := make(map[spec.Hash]history.Withdrawal)
	var x *indices.Set
	if p.from != nil {
		of, from, err := readable(ctx, p.from, s)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, of.Withdrawn)
		x = from
	} else {
		x = indices.New(p.layout.Generations())
		x.Part(x.Generations[0].Index) // an empty view has one
	}
	if p.act != Set {
		maps.Copy(out, was.Withdrawn)
		maps.DeleteFunc(out, func(h spec.Hash, _ history.Withdrawal) bool { return p.gone[h] })
		if err := p.stays(was, now, x, out); err != nil {
			return nil, err
		}
	}
	for _, of := range p.wanted {
		x.Add(of)
		delete(out, of.Root().Hash) // the mirror offers it again
		for _, n := range of.Nodes {
			if w, ok := withdrawn[n.Hash]; ok {
				out[n.Hash] = w
			}
		}
	}
	for h, w := range withdrawn {
		if x.Has(h) {
			out[h] = w
		}
	}
	for h := range out {
		x.Withhold(h)
	}
	was.Past.Withdrawn = out
	was.Past = was.Past.Normal()
	return x, nil
}

// stays copies into x what stays of the view: its offers, and the records of withdrawn packages.
func (p *Plan) stays(was *buildcache.Pointer, now, x *indices.Set, withdrawn map[spec.Hash]history.Withdrawal) error {
	if now == nil {
		return nil
	}
	if p.act == Remove {
		if err := p.needless(was, now); err != nil { // of a newer version of the view
			return err
		}
	}
	for e := range now.Records() {
		if e.InBuildcache && !p.gone[e.Hash] {
			x.Keep(now, e.Hash)
		}
	}
	for _, part := range now.ByGeneration() {
		for h := range withdrawn {
			if of := part.Spec(h); of != nil {
				x.Add(of)
			}
		}
	}
	return nil
}

// catalogue holds the offers of an index, and its withdrawn packages, which have records.
func catalogue(was *buildcache.Pointer, now *indices.Set) *closure.Catalogue {
	c := closure.Of(now)
	for h := range was.Withdrawn {
		c.Offer(h)
	}
	return c
}

// nameOf names a withdrawn package for people.
func nameOf(h spec.Hash, w history.Withdrawal) string { return w.Package + "/" + h.Short() }

// readable reads a view that must exist.
func readable(ctx context.Context, f buildcache.Layout, s mirror.Store) (*buildcache.Pointer, *indices.Set, error) {
	p, x, err := reindex.Current(ctx, f, s)
	switch {
	case errors.Is(err, reindex.ErrUnreadable):
		return nil, nil, fmt.Errorf("view %s: %w", f.ViewName(), err)
	case err == nil && p.Version == mirror.Absent:
		return nil, nil, fmt.Errorf("view %s: %w", f.ViewName(), ErrNoView)
	}
	return p, x, err
}
