package closure

import (
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Dependents calls refuse for every package that needs a refused package to be installed: as a direct or indirect
// link or run dependency. A package whose compiler or other build dependency is refused can be installed.
func Dependents(packages []*buildcache.Package, refused map[*buildcache.Package]string, refuse func(*buildcache.Package, string)) {
	bad := make(map[spec.Hash]string)
	for p := range refused {
		if p.Hash != "" {
			bad[p.Hash] = p.ID()
		}
	}
	for _, p := range packages {
		if _, ok := refused[p]; !ok {
			delete(bad, p.Hash) // another document of the package is good
		}
	}
	if len(bad) == 0 {
		return
	}
	for _, p := range packages {
		if _, ok := refused[p]; ok || p.Spec == nil {
			continue
		}
		for _, n := range p.Spec.Needed() {
			if id, ok := bad[n.Hash]; ok {
				refuse(p, "it depends on "+id+", which is refused")
				break
			}
		}
	}
}

// Waves orders items so that each package comes after its dependencies, in as few waves as possible. of
// returns the package of an item.
func Waves[T any](items []T, of func(T) *buildcache.Package) [][]T {
	byHash := make(map[spec.Hash]*buildcache.Package, len(items))
	for _, w := range items {
		byHash[of(w).Hash] = of(w)
	}
	depth := make(map[*buildcache.Package]int)
	var depthOf func(p *buildcache.Package) int
	depthOf = func(p *buildcache.Package) int {
		if n, ok := depth[p]; ok {
			return n
		}
		depth[p] = 0 // a hash covers the hashes of its dependencies, so there is no cycle
		n := 0
		for _, dep := range p.Spec.Nodes[1:] {
			if q := byHash[dep.Hash]; q != nil && q != p {
				n = max(n, depthOf(q)+1)
			}
		}
		depth[p] = n
		return n
	}
	var ordered [][]T
	for _, w := range items {
		n := depthOf(of(w))
		for len(ordered) <= n {
			ordered = append(ordered, nil)
		}
		ordered[n] = append(ordered[n], w)
	}
	return ordered
}
