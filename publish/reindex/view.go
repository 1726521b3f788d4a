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

// A View is a named index, as read, to which packages are added. It offers only the packages that were added
// to it and their dependencies.
type View struct {
	layout buildcache.Layout
	was    *buildcache.Pointer
	now    *indices.Set // nil until it is needed
}

// ReadView reads the pointer of a named index. The index may not exist yet.
func ReadView(ctx context.Context, f buildcache.Layout, s mirror.Store) (*View, error) {
	was, err := buildcache.PointerForUpdate(ctx, f, s)
	return &View{layout: f, was: was}, err
}

// Obey removes packages from the view that the mirror has withdrawn but the view's pointer does not list as
// withdrawn, for example because an earlier pointer was put back. It reads the index only if the view may
// offer packages of these names.
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

// Lacking returns those of packages that the view does not offer. It does not read the index if the pointer
// says that the view offers exactly these packages of their names. The error is ErrUnreadable if the index
// cannot be read.
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

// Plan decides what the view gets: packages, whose specs must be known. It makes no request.
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

// Needed reads the dependencies of packages that the mirror holds, except those that the view offers or that
// are in packages.
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

// ReadPackages reads the packages whose documents have these names and exist. It checks each one and returns
// a finding for each incomplete or untrusted package. It fails if the storage does not return an object that
// it lists: a later publisher could not notice that the view lacks the package, as it can for the index from
// the listing.
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

// listed reads objects that exist. If an object cannot be read, that says nothing about its package.
type listed struct{ mirror.Reader }

func (l listed) Open(ctx context.Context, name string) (*mirror.Object, error) {
	o, err := l.Reader.Open(ctx, name)
	if err != nil {
		err = &unreadError{err}
	}
	return o, err
}
