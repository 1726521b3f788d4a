package inventory

import (
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// A Dependent is a package that depends on others.
type Dependent struct {
	*query.Node
	Offered  bool           // by the mirror
	Distance int            // 1: direct dependency
	Types    query.DepTypes // of the first dependency on the path
	Through  *query.Node    // that dependency
}

// Dependents returns the packages that depend on any of the packages on, with the shortest path through
// dependencies of the given types. The nearest packages come first.
func (inv *Inventory) Dependents(on []*query.Node, types query.DepTypes) []Dependent {
	users := make(map[*query.Node][]Dependent)
	for n := range inv.Graph.All() {
		for _, d := range n.Dependencies {
			if d.Types&types != 0 {
				users[d.To] = append(users[d.To], Dependent{Node: n, Offered: inv.offered[n] != nil, Types: d.Types, Through: d.To})
			}
		}
	}
	seen := make(map[*query.Node]bool)
	for _, n := range on {
		seen[n] = true
	}
	var found []Dependent
	for distance := 1; len(on) > 0; distance++ {
		var next []*query.Node
		var ring []Dependent
		for _, n := range on {
			for _, d := range users[n] {
				if !seen[d.Node] {
					seen[d.Node] = true
					d.Distance = distance
					ring = append(ring, d)
					next = append(next, d.Node)
				}
			}
		}
		slices.SortFunc(ring, func(a, b Dependent) int { return Compare(a.Node, b.Node) })
		found = append(found, ring...)
		slices.SortFunc(next, Compare)
		on = next
	}
	return found
}
