package publish

import (
	"context"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// planIndex decides what the index gets: what is published, and what the mirror holds
// although the index does not say so.
func (d *decision) planIndex(ctx context.Context) error {
	ix := &d.out.Index
	ix.Mode, ix.Pointer = d.plan.options.Index, d.seen.Pointer
	var adds []*buildcache.Package
	d.out.published = make(map[spec.Hash]bool)
	for _, p := range d.out.Packages {
		d.out.published[p.Hash] = p.isThere()
		if p.Status != Rejected && d.sends(p.Package, p.Status) {
			adds = append(adds, p.Package)
		}
	}
	switch ix.Mode {
	case IndexNone:
		return nil
	case IndexRebuild:
		ix.Changes = true
		return nil
	case "":
		ix.Mode = IndexMerge
	}
	m, err := reindex.Plan(ctx, reindex.Mirror{Layout: d.out.format, Store: d.out.store, Seen: d.seen, Trust: d.plan.options.Trust, Published: d.out.published}, adds)
	if reindex.NeedsRebuild(err) {
		d.warn(d.out.format.IndexNames()[0], fmt.Sprintf("%v: it is rebuilt", err))
		ix.Mode, ix.Changes, d.out.lost = IndexRebuild, true, true
		return nil
	}
	if err != nil {
		return err
	}
	m.Supply(d.packages, d.src.Content)
	for _, f := range m.Findings {
		d.warn(f.File, f.Reason)
	}
	for _, p := range m.Healed {
		ix.Healed = append(ix.Healed, p.ID())
	}
	d.healed = m.Read
	ix.Before, ix.After, ix.Changes, ix.Bytes, ix.Audiences, d.out.merge = m.Before, m.After, m.Changes, m.Bytes, m.Audiences, m
	return nil
}
