// Package inventory tells what a mirror offers: its packages with their dependencies, dependents, sizes and
// signers. It reads the same objects as clients, above all the index, and writes nothing.
package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// ErrNoIndex means that there is no mirror, or a mirror without an index. It is a buildcache.ErrNoMirror.
var ErrNoIndex = fmt.Errorf("%w: there is no index", buildcache.ErrNoMirror)

// A Build is a package that a mirror offers.
type Build struct {
	*query.Node
	layout buildcache.Layout
}

// Layout returns the name of the layout in which the build is offered: v3 or v2.
func (b *Build) Layout() string { return b.layout.Name() }

// Documents returns the possible names of its document, the one that clients try first at the front.
func (b *Build) Documents() []string {
	n := &spec.Node{Name: b.Name, Version: b.Version.String(), Hash: spec.Hash(b.Hash), OS: b.OS, Target: b.Target}
	names, _ := b.layout.DocumentNames(n, func() buildcache.Toolchain {
		return buildcache.Toolchain{Platform: b.Platform, Compiler: b.Compiler, Version: b.CompilerVersion.String()}
	})
	return names
}

// An Inventory is the content of a mirror's indices.
type Inventory struct {
	Layouts []string     // layouts with an index: v3, v2
	State   []string     // identifies the index of each layout: see State
	Graph   *query.Graph // all packages, including those that are only dependencies
	Builds  []*Build     // offered builds by name, the newest version first

	offered map[*query.Node]*Build
}

// Read reads the indices of a mirror. With a view it reads the index of the view instead, which only layout
// v3 has.
func Read(ctx context.Context, r mirror.Reader, view string) (*Inventory, error) {
	layouts := buildcache.Layouts()
	if view != "" {
		if err := layout.CheckView(view); err != nil {
			return nil, err
		}
		layouts = viewsOf(layouts, view)
	}
	inv := &Inventory{Graph: query.NewGraph(), offered: make(map[*query.Node]*Build)}
	var denied error // counts only if no index is found: without permission to list, missing objects are denied
	var wanted []string
	for _, l := range layouts {
		err := inv.read(ctx, r, l)
		if err != nil && !errors.Is(err, mirror.ErrDenied) {
			return nil, err
		}
		denied = cmp.Or(denied, err)
		wanted = append(wanted, l.IndexNames()[0])
	}
	switch {
	case len(inv.Layouts) > 0:
	case denied != nil:
		return nil, denied
	case view != "":
		return nil, fmt.Errorf("%w of the view %s: want %s", ErrNoIndex, view, strings.Join(wanted, " or "))
	default:
		return nil, fmt.Errorf("%w: want %s", ErrNoIndex, strings.Join(wanted, " or "))
	}
	inv.Graph.Link()
	slices.SortFunc(inv.Builds, func(a, b *Build) int { return Compare(a.Node, b.Node) })
	return inv, nil
}

// DocumentsOf returns the possible names of a package's document in a layout. The package need not be
// offered.
func DocumentsOf(l buildcache.Layout, n *query.Node) []string { return (&Build{n, l}).Documents() }

// ReadLayout reads the index of one layout.
func ReadLayout(ctx context.Context, r mirror.Reader, l buildcache.Layout) (*Inventory, error) {
	inv := &Inventory{Graph: query.NewGraph(), offered: make(map[*query.Node]*Build)}
	if err := inv.read(ctx, r, l); err != nil {
		return nil, err
	}
	if len(inv.Layouts) == 0 {
		return nil, fmt.Errorf("%w: want %s", ErrNoIndex, l.IndexNames()[0])
	}
	inv.Graph.Link()
	slices.SortFunc(inv.Builds, func(a, b *Build) int { return Compare(a.Node, b.Node) })
	return inv, nil
}

// Find adds packages that no index names, so that queries find them. They do not count as offered.
func (inv *Inventory) Find(specs []*spec.Spec) error {
	for _, s := range specs {
		for _, n := range s.Nodes {
			if _, err := inv.Graph.Add(n.Record); err != nil {
				return fmt.Errorf("spec of %s: %w", s.Root().ID(), err)
			}
		}
	}
	inv.Graph.Link()
	return nil
}

// viewsOf returns the layouts that have views, with the view in place of the index of the whole mirror.
func viewsOf(layouts []buildcache.Layout, view string) (named []buildcache.Layout) {
	for _, l := range layouts {
		if v, ok := l.View(view); ok {
			named = append(named, v)
		}
	}
	return named
}

// Compare orders packages by name, the newest version first.
func Compare(a, b *query.Node) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), b.Version.Compare(a.Version), cmp.Compare(a.Version.String(), b.Version.String()), cmp.Compare(a.Hash, b.Hash))
}

// read reads the indices of one layout. If a package is in several indices, the newest format counts.
func (inv *Inventory) read(ctx context.Context, r mirror.Reader, l buildcache.Layout) error {
	p, err := l.ReadPointer(ctx, r)
	if err != nil || p.Version == mirror.Absent {
		return err
	}
	x, err := l.ReadIndex(ctx, r, p)
	if err != nil {
		return Damage(l, err)
	}
	found := false
	for _, part := range slices.Backward(x.Parts) {
		if part == nil {
			continue
		}
		found = true
		if err := inv.add(part, l); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%s: it names no index that this release knows", l.IndexNames()[0])
	}
	inv.Layouts = append(inv.Layouts, l.Name())
	inv.State = append(inv.State, state(l, p))
	return nil
}

// State identifies the current indices of a mirror, like the State of an Inventory. It reads the pointers and
// not the indices. In layout v2 the two are the same object.
func State(ctx context.Context, r mirror.Reader) ([]string, error) {
	var all []string
	for _, l := range buildcache.Layouts() {
		p, err := l.ReadPointer(ctx, r)
		if err != nil {
			return nil, err
		}
		if p.Version != mirror.Absent {
			all = append(all, state(l, p))
		}
	}
	return all, nil
}

func state(l buildcache.Layout, p *buildcache.Pointer) string { return l.Name() + " " + p.Digest() }

// add adds the records of an index.
func (inv *Inventory) add(x *index.Index, in buildcache.Layout) error {
	for e := range x.All() {
		n, err := inv.Graph.Add(e.Node)
		if err != nil {
			return fmt.Errorf("index: record of %s/%s: %w", e.Name, e.Hash.Short(), err)
		}
		if n.Hash != string(e.Hash) {
			return fmt.Errorf("index: record of %s/%s is about /%s", e.Name, e.Hash.Short(), n.Hash)
		}
		if e.InBuildcache && inv.offered[n] == nil {
			b := &Build{n, in}
			inv.offered[n] = b
			inv.Builds = append(inv.Builds, b)
		}
	}
	return nil
}

// Offers returns the build of a package, or nil if the mirror does not offer it.
func (inv *Inventory) Offers(n *query.Node) *Build { return inv.offered[n] }

// Select returns the builds that match a query, in their order.
func (inv *Inventory) Select(q *query.Query) []*Build {
	var found []*Build
	for _, b := range inv.Builds {
		if q.Matches(inv.Graph, b.Node) {
			found = append(found, b)
		}
	}
	return found
}

// Nodes yields every package that a query matches, including those that are only dependencies.
func (inv *Inventory) Nodes(q *query.Query) iter.Seq[*query.Node] {
	return func(yield func(*query.Node) bool) {
		for n := range inv.Graph.All() {
			if q.Matches(inv.Graph, n) && !yield(n) {
				return
			}
		}
	}
}

// Unknown returns the names in a query that belong to no package and to no virtual package.
func (inv *Inventory) Unknown(q *query.Query) []string {
	unknown, _ := inv.Graph.Unknown(q)
	return unknown
}

// Misnamed returns a suggestion for each unknown name in a query, each after a colon.
func (inv *Inventory) Misnamed(q *query.Query) (said string) {
	unknown, known := inv.Graph.Unknown(q)
	for _, name := range unknown {
		said += ": " + nearest.NoPackage(name, known)
	}
	return said
}

// Names returns the sorted names of all packages.
func (inv *Inventory) Names() []string { return inv.Graph.Names() }
