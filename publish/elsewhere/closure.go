package elsewhere

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A catalogue is what the indices of a mirror offer, by hash.
type catalogue struct {
	records map[spec.Hash]catalogued
}

type catalogued struct {
	index.Entry
	format int // of its node
}

func catalogueOf(x *buildcache.Indices) *catalogue {
	c := &catalogue{make(map[spec.Hash]catalogued)}
	for g, part := range x.ByGeneration() {
		for e := range part.All() {
			if was, ok := c.records[e.Hash]; !ok || e.InBuildcache && !was.InBuildcache {
				c.records[e.Hash] = catalogued{e, g.Specs}
			}
		}
	}
	return c
}

func (c catalogued) node() (*spec.Node, error) {
	n, err := spec.ParseNode(jsontext.Value(c.Node), c.format)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return n, nil
}

// A chosen package is one that is to be copied.
type chosen struct {
	node   *spec.Node
	record jsontext.Value // of the index
}

// A lacking package is one that is needed and not offered.
type lacking struct {
	layout.SpecName
	neededBy string // empty: it was asked for
}

func (l lacking) String() string {
	what := fmt.Sprintf("%s@%s/%s", l.Package, l.Version, l.Hash.Short())
	if l.neededBy == "" {
		return what + " is selected, and not offered"
	}
	return l.neededBy + " needs " + what + ", which is not offered"
}

// A closure is what is selected of a catalogue, and all that it needs when it is installed.
type closure struct {
	catalogue *catalogue
	found     map[spec.Hash]chosen
	missing   []lacking // of what is needed
}

// closure returns the packages that are wanted, with what they need.
func (c *catalogue) closure(want Closure) (*closure, error) {
	wanted, missing, err := c.selected(want)
	if err != nil {
		return nil, err
	}
	x := &closure{catalogue: c, found: make(map[spec.Hash]chosen), missing: missing}
	if err := x.follow(wanted, (*spec.Node).Needs, true); err != nil {
		return nil, err
	}
	if want.Builds {
		all := func(n *spec.Node) []spec.Hash { return n.Dependencies }
		var built []spec.Hash
		for _, p := range x.found {
			built = append(built, p.node.Dependencies...)
		}
		if err := x.follow(built, all, false); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(x.missing, func(a, b lacking) int { return strings.Compare(a.String(), b.String()) })
	x.missing = slices.Compact(x.missing)
	return x, nil
}

// packages are in the order of their hashes.
func (x *closure) packages() []chosen {
	return slices.SortedFunc(maps.Values(x.found), func(a, b chosen) int { return strings.Compare(string(a.node.Hash), string(b.node.Hash)) })
}

// follow adds packages that are offered, and those that edges lead to. What is needed and not offered is missing, unless it
// is external.
func (x *closure) follow(from []spec.Hash, edges func(*spec.Node) []spec.Hash, needed bool) error {
	neededBy := make(map[spec.Hash]string)
	for next := slices.Clone(from); len(next) > 0; next = next[1:] {
		h := next[0]
		if _, ok := x.found[h]; ok {
			continue
		}
		r, ok := x.catalogue.records[h]
		var n *spec.Node
		if ok {
			var err error
			if n, err = r.node(); err != nil {
				return err
			}
		}
		switch {
		case !r.InBuildcache && (!needed || n != nil && n.External):
			continue
		case !r.InBuildcache:
			name := layout.SpecName{Package: r.Name, Hash: h}
			if n != nil {
				name.Version = n.Version
			}
			x.missing = append(x.missing, lacking{name, neededBy[h]})
			continue
		}
		x.found[h] = chosen{n, r.Node}
		for _, d := range edges(n) {
			if _, ok := neededBy[d]; !ok {
				neededBy[d] = n.ID()
			}
			next = append(next, d)
		}
	}
	return nil
}

// selected are the packages that are asked for and offered; everything, if nothing is asked for.
func (c *catalogue) selected(want Closure) (wanted []spec.Hash, missing []lacking, err error) {
	if want.everything() {
		for h, r := range c.records {
			if r.InBuildcache {
				wanted = append(wanted, h)
			}
		}
	}
	if len(want.Packages) > 0 {
		if wanted, err = c.matching(want.Packages); err != nil {
			return nil, nil, err
		}
	}
	for _, lock := range want.Locks {
		for _, n := range lock.Needed(false) {
			if c.records[n.Hash].InBuildcache {
				wanted = append(wanted, n.Hash)
			} else {
				missing = append(missing, lacking{layout.SpecName{Package: n.Name, Version: n.Version, Hash: n.Hash}, ""})
			}
		}
	}
	slices.Sort(wanted)
	return slices.Compact(wanted), missing, nil
}

// matching are the packages that are offered and that any query matches.
func (c *catalogue) matching(queries []*query.Query) ([]spec.Hash, error) {
	g := query.NewGraph()
	for h, r := range c.records {
		if _, err := g.Add(r.Node); err != nil {
			return nil, fmt.Errorf("index: /%s: %w", h, err)
		}
	}
	g.Link()
	var found []spec.Hash
	for h, r := range c.records {
		n := g.Node(string(h))
		if r.InBuildcache && n != nil && slices.ContainsFunc(queries, func(q *query.Query) bool { return q.Matches(g, n) }) {
			found = append(found, h)
		}
	}
	return found, nil
}

// packageOf is a package as far as its node in an index tells.
func packageOf(n *spec.Node) *buildcache.Package {
	p := &buildcache.Package{}
	p.Package, p.Version, p.Hash = n.Name, n.Version, n.Hash
	return p
}
