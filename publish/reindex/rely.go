package reindex

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// rely makes sure that what is added is there, and that no prune is about to delete it: see package notice.
func (c *contest) rely(ctx context.Context) error {
	if time.Since(c.relied) > notice.Fresh {
		adds, err := c.moved(ctx, c.was, c.adds)
		if err != nil {
			return err
		}
		c.adds, c.next, c.relied = adds, nil, time.Now()
	}
	return c.leaveOld(ctx)
}

// isOld reports whether a package was found in the mirror and is not young: a prune may be about to delete it. Of those that are published, the
// publisher has kept it from that: see Merge.Revives.
func (c *contest) isOld(p *buildcache.Package) bool {
	stored, found := c.found[p]
	return found && c.healed[p] && time.Since(stored) > notice.Young
}

// leaveOld leaves out of what was found in the mirror that which is not young, if a prune is at work or has deleted it. What stays
// is found again by the next publisher.
func (c *contest) leaveOld(ctx context.Context) error {
	var old []*buildcache.Package
	for _, p := range c.adds {
		if c.isOld(p) {
			old = append(old, p)
		}
	}
	if len(old) == 0 {
		return nil
	}
	out := make(map[*buildcache.Package]bool)
	err := notice.Refuse(ctx, c.store)
	switch {
	case errors.Is(err, notice.ErrAtWork):
		for _, p := range old {
			out[p] = true
			c.out.Findings = append(c.out.Findings, unindexed(buildcache.Warning.In(p.File, err.Error())))
		}
	case err != nil:
		return err
	default: // only now: until a moment ago it could be deleted
		gone, err := Missing(ctx, c.layout, c.store, c.was, old)
		if err != nil {
			return err
		}
		for p := range gone {
			out[p] = true
		}
	}
	if len(out) > 0 {
		for p := range out {
			c.out.LeftOut = append(c.out.LeftOut, p.ID())
		}
		c.adds = slices.DeleteFunc(slices.Clone(c.adds), func(p *buildcache.Package) bool { return out[p] })
		c.next = nil
	}
	return nil
}
