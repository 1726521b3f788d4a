package publish

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// planIndex decides what the index gets: the published packages, and packages that the mirror holds but the
// index lacks.
func (d *decision) planIndex(ctx context.Context) error {
	ix := &d.out.Index
	ix.Mode, ix.Pointer = cmp.Or(d.plan.options.Index, IndexMerge), d.seen.Pointer
	var adds []*buildcache.Package
	d.out.published = make(map[spec.Hash]bool)
	for _, p := range d.out.Packages {
		d.out.published[p.Hash] = p.isThere()
		if p.Status != Rejected && d.sends(p.Package, p.Status) {
			adds = append(adds, p.Package)
		}
	}
	if ix.Mode != IndexMerge {
		ix.Changes = ix.Mode == IndexRebuild
		return nil
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

// writeIndex carries out the plan of the index.
func (a *application) writeIndex(ctx context.Context, m *running) error {
	planned := m.Index
	if planned.Mode == IndexNone || !planned.Changes {
		return nil
	}
	a.progress.Step(m.Path, "index")
	var now reindex.Result
	var err error
	if planned.Mode == IndexRebuild {
		// Damage to other packages must not stop a publisher that only adds its own.
		now, err = reindex.RebuildIndex(ctx, m.format, a.counted(m.Path, m.store), reindex.Rebuilding{Trust: a.plan.options.Trust, Lenient: m.lost, Published: m.published})
		if err != nil {
			return fmt.Errorf("index: %w", err)
		}
		a.warn(m.Path, now.Findings)
	} else {
		now, err = m.merge.Write(ctx, m.format, a.counted(m.Path, m.store), a.resend(m))
		a.warn(m.Path, now.Findings)
		if reindex.NeedsRebuild(err) { // the plan has not read this index
			a.warn(m.Path, []buildcache.Finding{buildcache.Warning.In(m.format.IndexNames()[0], fmt.Sprintf("%v: it is rebuilt", err))})
			now, err = reindex.RebuildIndex(ctx, m.format, a.counted(m.Path, m.store), reindex.Rebuilding{Trust: a.plan.options.Trust, Lenient: true, Published: m.published})
			a.warn(m.Path, now.Findings)
		}
		if err != nil {
			return err
		}
	}
	if !now.Written {
		now.Bytes = planned.Bytes
	}
	a.withdrawn(m, now.Pointer)
	m.out.Index.Changes, m.out.Index.Result = now.Written, now
	m.out.Index.Healed = slices.DeleteFunc(slices.Clone(planned.Healed), func(id string) bool { return slices.Contains(now.LeftOut, id) })
	// If another publisher has already merged the same packages, nothing is written, but caches may have the
	// earlier index.
	if now.Written || now.Version() != planned.Version() {
		a.stale(m.Path, m.format.IndexNames()...)
	}
	return nil
}

// stays says what happens to a package that was withdrawn from the destination.
const stays = ": it is not published until that is undone (publish withdraw)"

// withdrawn reports the packages that were withdrawn while they were published.
func (a *application) withdrawn(m *running, now *buildcache.Pointer) {
	for i := range m.out.Packages {
		p := &m.out.Packages[i]
		if w, ok := now.Withdrawn[p.Hash]; ok && p.Status != Withdrawn {
			p.Status, p.Reason = Withdrawn, w.Reason
			a.warn(m.Path, []buildcache.Finding{buildcache.Warning.In(p.SourceFile(), w.String()+stays)})
		}
	}
}

// leaveEvidence records the promotion of packages whose documents are stored.
func (a *application) leaveEvidence(ctx context.Context, m *running) (err error) {
	stored := make(map[*buildcache.Package]blob.Digest)
	for _, w := range slices.Concat(m.documents...) {
		stored[w.pkg] = w.Digest
	}
	var read []*buildcache.Package // clients are offered the others already
	for _, p := range m.out.Packages {
		if p.Document != nil && p.published() {
			read = append(read, p.Package)
		}
	}
	m.out.Promotion, err = a.plan.options.Promotion.Leave(ctx, a.counted(m.Path, m.store), m.Layout, m.Index.Digest(), read, stored)
	return err
}
