package views

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"
)

// An Addition is a planned publish into a view. It removes nothing from the view.
type Addition struct {
	*reindex.Merge
	Packages []spec.Hash          // packages of the addition that are then in the view
	LeftOut  []buildcache.Finding // packages that are not, and why; or that the view is damaged

	at    reindex.Mirror
	view  buildcache.Layout
	bound []*buildcache.Package // they must not be left out
}

// Damaged reports whether the view cannot be read, so that nothing is added. LeftOut says why.
func (a *Addition) Damaged() bool { return a.Merge == nil }

// Belonging returns the packages that belong to a view: all packages, or those in the view of a source. It also
// returns the other packages of that view, by the possible names of their documents.
func Belonging(l buildcache.Layout, packages []*buildcache.Package, offers map[spec.Hash][]string, all bool) []*buildcache.Package {
	var belong []*buildcache.Package
	known := make(map[spec.Hash]bool)
	for _, p := range packages {
		if _, ok := offers[p.Hash]; ok || all {
			belong = append(belong, p)
			known[p.Hash] = true
		}
	}
	for h, names := range offers {
		for _, name := range names {
			if id, ok := l.ParsePackageName(name); ok && !known[h] {
				belong = append(belong, &buildcache.Package{File: name, SpecName: id})
			}
		}
	}
	return belong
}

// PlanAddition decides what is added to a view: packages and, if the view was named explicitly, their
// dependencies. Unknown specs are read from the mirror, if it holds them. It only reads.
//
// A package that is left out is a warning, or an error if it is in bound. So is a damaged view: an error if it
// was named explicitly.
func PlanAddition(ctx context.Context, at reindex.Mirror, view buildcache.Layout, packages, bound []*buildcache.Package, asked bool) (*Addition, error) {
	a := &Addition{at: at, view: view, bound: bound}
	v, err := reindex.ReadView(ctx, view, at.Store)
	if err != nil {
		return nil, err
	}
	var lacking []*buildcache.Package
	if err = v.Obey(ctx, at.Store, at.Seen.Pointer.Withdrawn); err == nil {
		lacking, err = v.Lacking(ctx, at.Store, packages)
	}
	if errors.Is(err, reindex.ErrUnreadable) {
		why := buildcache.Warning
		if asked {
			why = buildcache.Error
		}
		a.LeftOut = []buildcache.Finding{why.In(a.Pointer(), fmt.Sprintf("the view %s is damaged, and nothing is added to it: %v: `publish view set` makes it again", view.ViewName(), err))}
		return a, nil
	}
	if err != nil {
		return nil, err
	}
	known, err := a.known(ctx, at, lacking)
	if err != nil {
		return nil, err
	}
	a.belong(packages, lacking, known)
	if asked {
		needed, findings, err := v.Needed(ctx, at, known)
		if err != nil {
			return nil, err
		}
		a.leaveOut(findings)
		known = append(known, needed...)
	}
	a.Merge, err = v.Plan(at, known)
	return a, err
}

// known returns packages with their specs.
func (a *Addition) known(ctx context.Context, at reindex.Mirror, packages []*buildcache.Package) ([]*buildcache.Package, error) {
	var known []*buildcache.Package
	var names []string
	for _, p := range packages {
		if p.Spec != nil {
			known = append(known, p)
		} else {
			names = append(names, p.File)
		}
	}
	read, findings, err := reindex.ReadPackages(ctx, at, names)
	a.leaveOut(findings)
	return append(known, read...), err
}

// leaveOut records why packages are left out, each once.
func (a *Addition) leaveOut(findings []buildcache.Finding) {
	for _, f := range findings {
		if slices.ContainsFunc(a.LeftOut, func(g buildcache.Finding) bool { return g.File == f.File }) {
			continue
		}
		why := buildcache.Warning
		if slices.ContainsFunc(a.bound, func(p *buildcache.Package) bool { return p.File == f.File }) {
			why = buildcache.Error
		}
		a.LeftOut = append(a.LeftOut, why.In(f.File, "it is not in the view "+a.view.ViewName()+": "+f.Reason))
	}
}

// belong records the packages that are then in the view: all except lacking and unknown ones.
func (a *Addition) belong(packages, lacking, known []*buildcache.Package) {
	hashes := make(map[spec.Hash]bool)
	for _, p := range packages {
		hashes[p.Hash] = true
	}
	for _, p := range lacking {
		delete(hashes, p.Hash)
	}
	for _, p := range known {
		hashes[p.Hash] = true
	}
	a.Packages = slices.Sorted(maps.Keys(hashes))
}

// Without returns the addition without some of its packages.
func (a *Addition) Without(refused func(*buildcache.Package) bool) *Addition {
	out := *a
	out.Merge = a.Merge.Without(refused)
	return &out
}

// Write adds the packages to the view, beside other publishers: see reindex.Merge.
func (a *Addition) Write(ctx context.Context, s mirror.Store, moved reindex.Moved) (reindex.Result, error) {
	m := withdraw.Mirror{Layout: a.at.Layout, Store: s, Trust: a.at.Trust}
	return m.Aligning(ctx, a.view, func(all *buildcache.Pointer) (reindex.Result, error) {
		merge := a.Merge
		if len(all.Withdrawn) > 0 {
			merge = merge.Without(func(p *buildcache.Package) bool {
				_, withdrawn := all.Withdrawn[p.Hash]
				return withdrawn
			})
		}
		return merge.Write(ctx, a.view, s, moved)
	})
}

// Expectation returns what clients must see of the view of the mirror at a path, once it has a digest.
func (a *Addition) Expectation(path, digest string) reindex.Expectation {
	return expectation(path, a.view, digest, a.Packages)
}

// Pointer is the name of the object that clients of the view read first.
func (a *Addition) Pointer() string { return a.view.IndexNames()[0] }

func expectation(path string, view buildcache.Layout, digest string, packages []spec.Hash) reindex.Expectation {
	return reindex.Expectation{Path: path, Digest: digest, Layout: view, Packages: packages}
}
