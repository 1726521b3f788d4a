// Package closure selects packages from the index of a mirror and finds all packages that they need.
package closure

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/lockfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Want selects packages: those that a query matches and those of the environments of lock files. Without
// either it selects every offered package.
type Want struct {
	Packages []*query.Query
	Locks    []*lockfile.Lock
}

// Everything reports whether there is no query or lock file, so that every package is selected.
func (w Want) Everything() bool { return len(w.Packages)+len(w.Locks) == 0 }

// A Catalogue holds the records of a mirror's indices by hash.
type Catalogue struct {
	records map[spec.Hash]catalogued
	graph   *query.Graph // of all records; nil until it is needed
}

type catalogued struct {
	index.Entry
	format int // of its node
	from   int // the position of its index
}

// Of returns the catalogue of the indices of one or several mirrors. If several offer a package, the first
// one counts.
func Of(all ...*indices.Set) *Catalogue {
	c := &Catalogue{records: make(map[spec.Hash]catalogued)}
	for i, x := range all {
		for g, part := range x.ByGeneration() {
			for e := range part.All() {
				if was, ok := c.records[e.Hash]; !ok || e.InBuildcache && !was.InBuildcache {
					c.records[e.Hash] = catalogued{e, g.Specs, i}
				}
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

// A Chosen package is an offered package that is selected or needed.
type Chosen struct {
	Node   *spec.Node
	Record jsontext.Value // of the index
	From   int            // position of the index that offers it: see Of
}

// A Lacking package is needed but not offered.
type Lacking struct {
	layout.SpecName
	neededBy string // empty: it was selected
}

func (l Lacking) String() string {
	what := fmt.Sprintf("%s@%s/%s", l.Package, l.Version, l.Hash.Short())
	if l.neededBy == "" {
		return what + " is selected, and not offered"
	}
	return l.neededBy + " needs " + what + ", which is not offered"
}

// A Closure holds the packages selected from a catalogue and all that they need when they are installed.
type Closure struct {
	Missing []Lacking // needed but not offered

	catalogue *Catalogue
	found     map[spec.Hash]Chosen
}

// Installed returns the wanted packages and all that they need when they are installed. With builds, it also
// returns the offered packages that were needed to build these.
func (c *Catalogue) Installed(want Want, builds bool) (*Closure, error) {
	wanted, missing, err := c.selected(want)
	if err != nil {
		return nil, err
	}
	x := &Closure{catalogue: c, found: make(map[spec.Hash]Chosen), Missing: missing}
	if err := x.follow(wanted, (*spec.Node).Needs, true); err != nil {
		return nil, err
	}
	if builds {
		all := func(n *spec.Node) []spec.Hash { return n.Dependencies }
		var built []spec.Hash
		for _, p := range x.found {
			built = append(built, p.Node.Dependencies...)
		}
		if err := x.follow(built, all, false); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(x.Missing, func(a, b Lacking) int { return strings.Compare(a.String(), b.String()) })
	x.Missing = slices.Compact(x.Missing)
	return x, nil
}

// Packages returns all packages, in the order of their hashes.
func (x *Closure) Packages() []Chosen {
	return slices.SortedFunc(maps.Values(x.found), byHash)
}

// follow adds offered packages and those to which their edges lead. With needed, a package that is neither
// offered nor external is recorded in Missing.
func (x *Closure) follow(from []spec.Hash, edges func(*spec.Node) []spec.Hash, needed bool) error {
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
			x.Missing = append(x.Missing, Lacking{name, neededBy[h]})
			continue
		}
		x.found[h] = Chosen{n, r.Node, r.from}
		for _, d := range edges(n) {
			if _, ok := neededBy[d]; !ok {
				neededBy[d] = n.ID()
			}
			next = append(next, d)
		}
	}
	return nil
}

// selected returns the wanted packages that are offered; all offered packages if want selects everything.
func (c *Catalogue) selected(want Want) (wanted []spec.Hash, missing []Lacking, err error) {
	if want.Everything() {
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
				missing = append(missing, Lacking{layout.SpecName{Package: n.Name, Version: n.Version, Hash: n.Hash}, ""})
			}
		}
	}
	slices.Sort(wanted)
	return slices.Compact(wanted), missing, nil
}

func (c *Catalogue) link() error {
	if c.graph != nil {
		return nil
	}
	g := query.NewGraph()
	for h, r := range c.records {
		if _, err := g.Add(r.Node); err != nil {
			return fmt.Errorf("index: /%s: %w", h, err)
		}
	}
	g.Link()
	c.graph = g
	return nil
}

// matching returns the offered packages that any of the queries matches.
func (c *Catalogue) matching(queries []*query.Query) ([]spec.Hash, error) {
	if err := c.link(); err != nil {
		return nil, err
	}
	g := c.graph
	var found []spec.Hash
	for h, r := range c.records {
		n := g.Node(string(h))
		if r.InBuildcache && n != nil && slices.ContainsFunc(queries, func(q *query.Query) bool { return q.Matches(g, n) }) {
			found = append(found, h)
		}
	}
	return found, nil
}

// Depended returns the offered ones among packages and all their dependencies of any type, in the order of
// their hashes.
func (c *Catalogue) Depended(from []spec.Hash) ([]Chosen, error) {
	seen := make(map[spec.Hash]bool)
	var found []Chosen
	for next := slices.Clone(from); len(next) > 0; next = next[1:] {
		h := next[0]
		r, ok := c.records[h]
		if seen[h] || !ok {
			continue
		}
		seen[h] = true
		n, err := r.node()
		if err != nil {
			return nil, err
		}
		if r.InBuildcache {
			found = append(found, Chosen{n, r.Node, r.from})
		}
		next = append(next, n.Dependencies...)
	}
	slices.SortFunc(found, byHash)
	return found, nil
}

// Matching returns the offered packages that a query matches, in the order of their hashes.
func (c *Catalogue) Matching(q *query.Query) ([]spec.Hash, error) {
	found, err := c.matching([]*query.Query{q})
	slices.Sort(found)
	return found, err
}

// Names returns readable names of packages that have a record.
func (c *Catalogue) Names(packages []spec.Hash) []string {
	names := make([]string, len(packages))
	for i, h := range packages {
		names[i] = c.records[h].Name + "/" + h.Short()
	}
	slices.Sort(names)
	return names
}

// An UnmatchedError means that a query matches no offered package.
type UnmatchedError struct {
	Query string
	Names []string // names in the query that no package has, each with a suggestion
}

func (e *UnmatchedError) Error() string {
	return strings.Join(append([]string{fmt.Sprintf("nothing that the mirror offers matches %q", e.Query)}, e.Names...), ": ")
}

// Unmatched returns the error for a query that matches nothing.
func (c *Catalogue) Unmatched(q *query.Query) *UnmatchedError {
	e := &UnmatchedError{Query: q.String()}
	unknown, known := c.graph.Unknown(q)
	for _, name := range unknown {
		e.Names = append(e.Names, nearest.NoPackage(name, known))
	}
	return e
}

// Offers reports whether a package is offered.
func (c *Catalogue) Offers(h spec.Hash) bool { return c.records[h].InBuildcache }

// Offer marks a package that has a record as offered.
func (c *Catalogue) Offer(h spec.Hash) {
	if r, ok := c.records[h]; ok {
		r.InBuildcache = true
		c.records[h] = r
	}
}

func byHash(a, b Chosen) int { return strings.Compare(string(a.Node.Hash), string(b.Node.Hash)) }
