package query

import (
	"slices"
	"strings"
)

// Matches reports whether a package of a graph satisfies any spec of a query. An empty query matches all.
func (q *Query) Matches(g *Graph, n *Node) bool {
	return q.All() || slices.ContainsFunc(q.specs, func(c *constraint) bool { return c.holds(g, n) })
}

// holds reports whether a package and its dependencies satisfy the constraint.
func (c *constraint) holds(g *Graph, n *Node) bool {
	if c.substituted(n) {
		return c.virtual(g, n)
	}
	return c.holdsNode(n) && c.holdsEdges(g, n)
}

// substituted reports whether the constraint has another name than the package. It may be the name of a virtual
// package.
func (c *constraint) substituted(n *Node) bool { return c.name != "" && c.name != n.Name }

// virtual reports whether a package provides the virtual package that the constraint names. If the constraint has a
// version, the provided version must be known and match. As in Spack, variants and other requirements are not
// compared.
func (c *constraint) virtual(g *Graph, n *Node) bool {
	if !strings.HasPrefix(n.Hash, c.hash) || !g.providers[c.name][n] {
		return false
	}
	anyVersion := all(c.versions, func(ranges []versionRange) bool {
		return slices.ContainsFunc(ranges, func(r versionRange) bool { return r.all })
	})
	return anyVersion || slices.ContainsFunc(n.Provides, func(provided string) bool {
		name, version, known := strings.Cut(provided, "@")
		v, err := ParseVersion(strings.TrimPrefix(version, "="))
		return name == c.name && known && err == nil && c.holdsVersion(v)
	})
}

// holdsNode reports whether a package satisfies the constraint, without its dependencies.
func (c *constraint) holdsNode(n *Node) bool {
	if !strings.HasPrefix(n.Hash, c.hash) || c.namespace != "" && n.Namespace != "" && c.namespace != n.Namespace {
		return false
	}
	return c.holdsVersion(n.Version) && c.holdsVariants(n) && c.holdsArchitecture(n) && c.holdsFlags(n)
}

func (c *constraint) holdsVersion(v Version) bool {
	for _, ranges := range c.versions {
		if !slices.ContainsFunc(ranges, func(r versionRange) bool { return r.holds(v) }) {
			return false
		}
	}
	return true
}

func (c *constraint) holdsVariants(n *Node) bool {
	for _, want := range c.variants {
		if want.propagated {
			if !propagated(want, n, make(map[*Node]bool)) {
				return false
			}
		} else if have, ok := n.variant(want.name); !ok || !want.holds(have) {
			return false
		}
	}
	return true
}

// propagated reports whether a package and all its dependencies satisfy a variant. Those without the variant are
// ignored.
func propagated(want variant, n *Node, seen map[*Node]bool) bool {
	if seen[n] {
		return true
	}
	seen[n] = true
	if have, ok := n.variant(want.name); ok && !want.holds(have) {
		return false
	}
	return !slices.ContainsFunc(n.Dependencies, func(d Dependency) bool { return !propagated(want, d.To, seen) })
}

func (n *Node) variant(name string) (Variant, bool) {
	i, ok := slices.BinarySearchFunc(n.Variants, name, func(v Variant, name string) int { return strings.Compare(v.Name, name) })
	if !ok {
		return Variant{}, false
	}
	return n.Variants[i], true
}

func (want variant) holds(have Variant) bool {
	switch {
	case want.isBool:
		return have.IsBool && have.On == want.on
	case want.exact:
		values := slices.Compact(slices.Sorted(slices.Values(have.Values)))
		return !have.IsBool && slices.Equal(values, want.values)
	case want.name == "patches": // prefixes of their digests
		return all(want.values, func(v string) bool {
			return slices.ContainsFunc(have.Values, func(w string) bool { return strings.HasPrefix(w, v) })
		})
	}
	return all(want.values, func(v string) bool { return slices.Contains(have.Values, v) })
}

func all[T any](items []T, holds func(T) bool) bool {
	return !slices.ContainsFunc(items, func(item T) bool { return !holds(item) })
}

// holdsArchitecture compares in Spack's order. After platform=* or os=* it compares nothing else.
func (c *constraint) holdsArchitecture(n *Node) bool {
	for _, field := range []struct {
		want []string
		have string
	}{{c.platform, n.Platform}, {c.os, n.OS}} {
		for _, want := range field.want {
			if want == "*" && field.have != "" {
				return true
			}
			if want != field.have {
				return false
			}
		}
	}
	return all(c.targets, func(ranges []targetRange) bool {
		return n.Target != "" && (ranges == nil || slices.ContainsFunc(ranges, func(r targetRange) bool { return r.holds(n.Target) }))
	})
}

func (c *constraint) holdsFlags(n *Node) bool {
	for name, flags := range c.flags {
		have, ok := n.Flags[name]
		if !ok || !all(flags, func(f string) bool { return slices.Contains(have, f) }) {
			return false
		}
	}
	return true
}

// holdsEdges reports whether a package has the required dependencies.
func (c *constraint) holdsEdges(g *Graph, n *Node) bool {
	var reached map[string][]Dependency
	for _, e := range c.edges {
		ok := false
		if e.direct {
			ok = e.holdsDirect(g, n)
		} else {
			if reached == nil {
				reached = n.reach()
			}
			ok = e.holdsAny(g, reached)
		}
		if !ok {
			return false
		}
		for _, below := range e.to.edges { // direct dependencies (%) of the ^dependency
			parent := n
			if e.to.name != "" && e.to.name != below.to.name {
				if parent = n.find(e.to.name); parent == nil {
					return false
				}
			}
			if !below.holdsDirect(g, parent) {
				return false
			}
		}
	}
	return true
}

// holdsDirect reports whether a package has a direct dependency that satisfies the edge. Before format 5, only the
// compiler is compared.
func (e *edge) holdsDirect(g *Graph, n *Node) bool {
	if n.before5 || n.External && len(n.Dependencies) == 0 {
		return e.to.holdsCompiler(n)
	}
	virtuals := e.virtuals
	isVirtual := g.virtual(e.to.name)
	if isVirtual {
		virtuals = []string{e.to.name}
	}
	return slices.ContainsFunc(n.Dependencies, func(d Dependency) bool {
		if d.Types&e.types != e.types {
			return false
		}
		named := isVirtual || e.to.name == "" || d.To.Name == e.to.name
		through := len(virtuals) == 0 || slices.ContainsFunc(virtuals, func(v string) bool { return slices.Contains(d.Virtuals, v) })
		if !(named && through) && !(isVirtual && d.To.Name == e.to.name) {
			return false
		}
		return e.to.holds(g, d.To)
	})
}

// holdsCompiler reports whether the compiler of a package satisfies the constraint, for specs before format 5.
func (c *constraint) holdsCompiler(n *Node) bool {
	if n.Compiler == "" || c.hash != "" || c.namespace != "" || len(c.variants)+len(c.platform)+len(c.os)+len(c.targets)+len(c.flags) > 0 {
		return false
	}
	return (c.name == "" || c.name == n.Compiler || c.name == compilers[n.Compiler]) && c.holdsVersion(n.CompilerVersion)
}

// reach returns the edges to all link and run dependencies of a package and to its own build dependencies, by the
// names of packages and virtual packages.
func (n *Node) reach() map[string][]Dependency {
	reached := make(map[string][]Dependency)
	put := func(d Dependency) {
		reached[d.To.Name] = append(reached[d.To.Name], d)
		for _, v := range d.Virtuals {
			reached[v] = append(reached[v], d)
		}
	}
	seen := map[*Node]bool{n: true}
	for next := []*Node{n}; len(next) > 0; next = next[1:] {
		for _, d := range next[0].Dependencies {
			if d.Types&(Link|Run) == 0 {
				continue
			}
			put(d)
			if !seen[d.To] {
				seen[d.To] = true
				next = append(next, d.To)
			}
		}
	}
	for _, d := range n.Dependencies {
		if d.Types&Build != 0 {
			put(d)
		}
	}
	return reached
}

// holdsAny reports whether one of the edges leads to a package that satisfies e.
func (e *edge) holdsAny(g *Graph, reached map[string][]Dependency) bool {
	candidates := reached[e.to.name]
	if e.to.name == "" {
		for _, edges := range reached {
			candidates = append(candidates, edges...)
		}
	}
	virtuals := e.virtuals
	if g.virtual(e.to.name) {
		virtuals = []string{e.to.name}
	}
	for _, v := range virtuals {
		if !slices.ContainsFunc(candidates, func(d Dependency) bool { return d.To.Name == v || slices.Contains(d.Virtuals, v) }) {
			return false
		}
	}
	return slices.ContainsFunc(candidates, func(d Dependency) bool {
		if e.to.substituted(d.To) {
			return e.to.virtual(g, d.To)
		}
		return e.to.holdsNode(d.To)
	})
}

// find returns the dependency that Spack finds by a name. It searches the direct build and test dependencies first,
// and then the link and run dependencies, nearest first.
func (n *Node) find(name string) *Node {
	is := func(d Dependency) bool { return d.To.Name == name || slices.Contains(d.Virtuals, name) }
	for _, d := range n.Dependencies {
		if d.Types&(Build|Test) != 0 && is(d) {
			return d.To
		}
	}
	seen := map[*Node]bool{n: true}
	for next := []*Node{n}; len(next) > 0; next = next[1:] {
		for _, d := range next[0].Dependencies {
			if d.Types&(Link|Run) == 0 {
				continue
			}
			if is(d) {
				return d.To
			}
			if !seen[d.To] {
				seen[d.To] = true
				next = append(next, d.To)
			}
		}
	}
	return nil
}
