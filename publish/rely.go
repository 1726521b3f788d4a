package publish

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// relied are objects that a run relies on but has not stored itself: content that documents will point at,
// documents to be indexed, and packages that others depend on. A concurrent prune may be about to delete
// them. Package notice says how the run prevents this.
type relied struct {
	objects []buildcache.Object // that were found
	names   []string            // of these objects and of the documents that packages depend on
	owners  map[string]*buildcache.Package
}

// rely keeps a prune from deleting objects that the packages of a mirror rely on, and sends deleted objects
// again. It is called right before documents are stored.
func (a *application) rely(ctx context.Context, m *running) error {
	r, atWork, err := a.object(ctx, m)
	if err != nil || !atWork && len(r.objects) == 0 {
		return err
	}
	// This must follow the notice: until then, found objects could be deleted.
	seen, err := buildcache.SurveyFor(ctx, m.format, m.store, r.names)
	if err != nil {
		return err
	}
	for _, o := range r.objects {
		if seen.Has(buildcache.Object{Name: o.Name, Size: -1}) {
			continue
		}
		if err := a.sendAgain(ctx, m, o, r.owners[o.Name]); err != nil {
			return err
		}
	}
	return nil
}

// object tells a prune not to delete objects that the packages of a mirror rely on. It reports whether a
// prune is running.
func (a *application) object(ctx context.Context, m *running) (relied, bool, error) {
	r := m.relied(notice.Since(a.plan.began) > notice.Young)
	atWork, err := notice.Object(ctx, m.store, r.names, m.quiet)
	return r, atWork, err
}

// relied returns the objects that the packages rely on. long includes objects that this run has stored: after
// so long, a prune may take them for leftovers.
func (m *running) relied(long bool) relied {
	r := relied{owners: make(map[string]*buildcache.Package)}
	sent := make(map[string]bool)
	for _, o := range m.Blobs {
		sent[o.Name] = true
	}
	rely := func(p *buildcache.Package, o buildcache.Object) {
		if r.owners[o.Name] == nil {
			r.owners[o.Name] = p
			r.objects = append(r.objects, o)
			r.names = append(r.names, o.Name)
		}
	}
	written := make(map[string]bool)
	for _, w := range slices.Concat(m.documents...) {
		written[w.Name] = true
	}
	viewed := len(m.changingViews()) > 0 // views name packages that were found
	merge := cmp.Or(m.merge, new(reindex.Merge))
	for i := range m.out.Packages {
		p := &m.out.Packages[i]
		revived := merge.Revived(p.Hash)
		stores := viewed || written[p.File] || revived != nil || slices.ContainsFunc(p.Blobs, func(o buildcache.Object) bool { return sent[o.Name] })
		if !p.isThere() || !stores {
			continue
		}
		has := p.Package
		if p.Status == Skipped { // the mirror has another document, which protects its own blobs
			has = cmp.Or(revived, &buildcache.Package{File: p.File, SpecName: p.SpecName})
		}
		for _, o := range has.Blobs {
			if long || !sent[o.Name] {
				rely(has, o)
			}
		}
		if long || p.Status != New {
			rely(has, buildcache.DocumentOf(has))
		}
		r.names = append(r.names, buildcache.DependencyDocuments(m.format, p.Package, written)...)
	}
	slices.Sort(r.names)
	r.names = slices.Compact(r.names)
	return r
}

// sendAgain stores an object that was there when the plan was made.
func (a *application) sendAgain(ctx context.Context, m *running, o buildcache.Object, p *buildcache.Package) error {
	if o.Content == nil {
		return reindex.Deleted(o, p)
	}
	if o.Name != p.File {
		return a.put(ctx, m, Write{Object: o})
	}
	for _, wave := range m.documents {
		if i := slices.IndexFunc(wave, func(w Write) bool { return w.Name == o.Name }); i >= 0 {
			wave[i].Was = mirror.Absent
			return nil
		}
	}
	w, err := a.signed(ctx, Write{Object: o, pkg: p})
	if err != nil {
		return err
	}
	m.documents = append(m.documents, []Write{w})
	return nil
}

// sendLost sends deleted objects of the packages to be indexed again, and returns the packages that are still
// to be indexed. Objects can be deleted because spack buildcache prune takes a blob for an orphan if it is
// older than the index and no document names it yet. A package that was only found in the mirror is left out
// if it is gone.
func (a *application) sendLost(ctx context.Context, m *running, now *buildcache.Pointer, adds []*buildcache.Package) ([]*buildcache.Package, error) {
	if _, _, err := a.object(ctx, m); err != nil {
		return nil, err
	}
	gone, err := reindex.Missing(ctx, m.format, m.store, now, adds)
	if err != nil {
		return nil, err
	}
	found := func(p *buildcache.Package) bool {
		return len(gone[p]) > 0 && m.merge != nil && slices.Contains(m.merge.Healed, p) && !m.published[p.Hash]
	}
	adds = slices.DeleteFunc(slices.Clone(adds), found)
	blobs := make(map[string]bool)
	var documents []Write
	for p, objects := range gone {
		for _, o := range objects {
			switch {
			case found(p): // left out
			case o.Content == nil:
				return nil, reindex.Deleted(o, p)
			case o.Name == p.File:
				w, err := a.signed(ctx, Write{Object: o, pkg: p})
				if err != nil {
					return nil, err
				}
				documents = append(documents, w)
			case !blobs[o.Name]:
				blobs[o.Name] = true
				if err := a.put(ctx, m, Write{Object: o}); err != nil {
					return nil, fmt.Errorf("blobs: %w", err)
				}
			}
		}
	}
	for _, wave := range closure.Waves(documents, Write.of) {
		if err := a.putAll(ctx, m, wave); err != nil {
			return nil, fmt.Errorf("manifests: %w", err)
		}
	}
	return adds, nil
}
