package reindex

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// rely checks that the added packages are there and that no prune is about to delete them: see package
// notice.
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

// isOld reports whether a package was found in the mirror and is older than notice.Young: a prune may be
// about to delete it.
func (c *contest) isOld(p *buildcache.Package) bool {
	stored, found := c.found[p]
	return found && time.Since(stored) > notice.Young
}

// leaveOld leaves out old packages that were found in the mirror if a prune has deleted them, or if a prune
// is running and no published package needs them. The next publisher finds those that remain in the mirror.
func (c *contest) leaveOld(ctx context.Context) error {
	var old []*buildcache.Package
	for _, p := range c.adds {
		if c.healed[p] && c.isOld(p) { // the publisher protects published ones from a prune: see Merge.Revived
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
	gone, err := Missing(ctx, c.layout, c.store, c.was, old) // must follow the notice: until then they could be deleted
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
