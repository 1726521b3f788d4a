package reindex

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A View is a named index as it was read, to which packages are to be added. It offers what it was given, and what that
// depends on: nothing else that the mirror holds belongs to it.
type View struct {
	layout buildcache.Layout
	was    *buildcache.Pointer
	now    *indices.Set // nil until it was needed
}

// ReadView reads the pointer of a named index, of which there may be none yet.
func ReadView(ctx context.Context, f buildcache.Layout, s mirror.Store) (*View, error) {
	was, err := buildcache.PointerForUpdate(ctx, f, s)
	return &View{layout: f, was: was}, err
}

// Obey takes out of the view what the mirror has withdrawn and the view does not say, as an earlier pointer of it
// that was put back does not. The index is read only where the view may offer packages of these names.
func (v *View) Obey(ctx context.Context, s mirror.Store, withdrawn map[spec.Hash]history.Withdrawal) error {
	for h, w := range withdrawn {
		name, _, _ := strings.Cut(w.Package, "@")
		if _, said := v.was.Withdrawn[h]; said || v.was.Coverage != nil && v.was.Coverage[name].Count == 0 {
			continue
		}
		if err := v.read(ctx, s); err != nil {
			return err
		}
		if v.now.Has(h) {
			v.now.Withhold(h)
			v.was.Past, v.was.Recalled = v.was.Withdrawing(h, w), true
		}
	}
	return nil
}

// Lacking returns those of packages that the view does not offer. Where the pointer tells that it offers them and
// nothing else of their names, the index is not read. The error is ErrUnreadable if it cannot be.
func (v *View) Lacking(ctx context.Context, s mirror.Store, packages []*buildcache.Package) ([]*buildcache.Package, error) {
	if v.covers(packages) {
		return nil, nil
	}
	if err := v.read(ctx, s); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(packages), func(p *buildcache.Package) bool { return v.now.Has(p.Hash) }), nil
}

func (v *View) covers(packages []*buildcache.Package) bool {
	if v.was.Coverage == nil || !v.was.Checked || v.was.Broken != nil {
		return false
	}
	byName := make(map[string][]spec.Hash)
	for _, p := range packages {
		byName[p.Package] = append(byName[p.Package], p.Hash)
	}
	for name, hashes := range byName {
		if !v.was.Coverage.Is(name, hashes) {
			return false
		}
	}
	return true
}

func (v *View) read(ctx context.Context, s mirror.Store) (err error) {
	if v.now != nil {
		return nil
	}
	v.now, err = loadIndex(ctx, v.layout, s, v.was)
	if NeedsRebuild(err) {
		err = fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return err
}

// Plan decides what the view gets: packages, whose specs are known. It makes no request.
func (v *View) Plan(m Mirror, packages []*buildcache.Package) (out *Merge, err error) {
	out = &Merge{trust: m.Trust, Was: v.was}
	if v.now == nil {
		out.Before = v.was.Coverage.Len()
		out.After = out.Before
		return out, nil
	}
	out.Before = v.now.Offered()
	for _, p := range packages {
		if !v.now.Has(p.Hash) {
			out.adds = append(out.adds, p)
			v.now.Add(p.Spec)
		}
	}
	out.After, out.Audiences = v.now.Offered(), v.now.Audiences()
	if v.now.Changed() {
		out.next, out.Changes, out.Bytes = v.now, true, v.now.Size()
		out.Was.NeedsProof(m.Store)
		out.PointerBytes, err = v.layout.PointerSize(out.Was, v.now)
	}
	return out, err
}

// Needed reads what packages depend on: all that the mirror holds, and that neither the view offers nor is among them.
func (v *View) Needed(ctx context.Context, m Mirror, packages []*buildcache.Package) ([]*buildcache.Package, []buildcache.Finding, error) {
	known := make(map[spec.Hash]bool)
	for _, p := range packages {
		known[p.Hash] = true
	}
	var names []string
	for _, p := range packages {
		for _, n := range p.Spec.Nodes[1:] {
			if known[n.Hash] || n.External || v.now.Has(n.Hash) {
				continue
			}
			known[n.Hash] = true
			if of, ok := m.Layout.DocumentNames(n, buildcache.ToolchainIn(n.Record)); ok {
				names = append(names, of...)
			}
		}
	}
	return ReadPackages(ctx, m, names)
}

// ReadPackages reads the packages whose documents have these names and are there. Each is checked before, with a
// finding for each that is not whole or not to be trusted. It fails where the storage does not give what it lists:
// nothing tells a later publisher that a view lacks a package, as the listing does for the index.
func ReadPackages(ctx context.Context, m Mirror, names []string) ([]*buildcache.Package, []buildcache.Finding, error) {
	if len(names) == 0 {
		return nil, nil, nil
	}
	seen, err := buildcache.SurveyAt(ctx, m.Layout, m.Store, m.Seen.Pointer, names)
	if err != nil {
		return nil, nil, err
	}
	there := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, ok := seen.Objects[name]
		return !ok
	})
	r := newPackageReader(m.Layout, m.Store, seen, m.Trust)
	r.from = listed{m.Store}
	return r.readAll(ctx, there)
}

// listed are objects that are there: what cannot be read of them says nothing about them.
type listed struct{ mirror.Reader }

func (l listed) Open(ctx context.Context, name string) (*mirror.Object, error) {
	o, err := l.Reader.Open(ctx, name)
	if err != nil {
		err = &unreadError{err}
	}
	return o, err
}
