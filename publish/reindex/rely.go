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
	if notice.Since(c.relied) > notice.Fresh {
		adds, err := c.moved(ctx, c.was, c.adds)
		if err != nil {
			return err
		}
		c.adds, c.next, c.relied = adds, nil, time.Now()
	}
	return c.leaveOld(ctx)
}

// isOld reports whether a package was found in the mirror and is not young: a prune may be about to delete it.
func (c *contest) isOld(p *buildcache.Package) bool {
	stored, found := c.found[p]
	return found && time.Since(stored) > notice.Young
}

// leaveOld leaves out of what was found in the mirror that which is not young, if a prune has deleted it, or is at
// work and no published package needs it. What stays is found again by the next publisher.
func (c *contest) leaveOld(ctx context.Context) error {
	var old []*buildcache.Package
	for _, p := range c.adds {
		if c.healed[p] && c.isOld(p) { // of what is published, the publisher has kept a prune from that: see Merge.Revived
			old = append(old, p)
		}
	}
	if len(old) == 0 {
		return nil
	}
	out := make(map[*buildcache.Package]bool)
	atWork := notice.Refuse(ctx, c.store)
	if atWork != nil && !errors.Is(atWork, notice.ErrAtWork) {
		return atWork
	}
	gone, err := Missing(ctx, c.layout, c.store, c.was, old) // only now: until a moment ago it could be deleted
	if err != nil {
		return err
	}
	for _, p := range old {
		if len(gone[p]) == 0 && (atWork == nil || c.needed[p.Hash]) {
			continue
		}
		out[p] = true
		c.out.LeftOut = append(c.out.LeftOut, p.ID())
		if atWork != nil {
			c.out.Findings = append(c.out.Findings, unindexed(buildcache.Warning.In(p.File, atWork.Error())))
		}
	}
	if len(out) > 0 {
		c.adds = slices.DeleteFunc(slices.Clone(c.adds), func(p *buildcache.Package) bool { return out[p] })
		c.next = nil
	}
	return nil
}
