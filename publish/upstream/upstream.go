// Package upstream finds out whether clients that have another mirror besides can install what is published.
package upstream

import (
	"context"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Mirror is the one that is published to, as a survey saw it.
type Mirror struct {
	Layout  buildcache.Layout
	Store   mirror.Store
	Pointer *buildcache.Pointer
}

// Unmet says of packages, whose specs are known, what they need when they are installed and is nowhere: neither among what has
// reports, nor in the mirror. What only building needs, such as a compiler, and what that needs is not looked at: clients install
// without it.
func Unmet(ctx context.Context, m Mirror, packages []*buildcache.Package, has func(spec.Hash) bool) (map[*buildcache.Package][]string, error) {
	type need struct {
		by    *buildcache.Package
		id    string
		names []string // that its document may have
	}
	var needs []need
	var all []string
	for _, p := range roots(packages) {
		for _, n := range needed(p.Spec) {
			if !has(n.Hash) {
				names, _ := m.Layout.DocumentNames(n, buildcache.ToolchainIn(n.Record))
				needs = append(needs, need{p, n.ID(), names})
				all = append(all, names...)
			}
		}
	}
	if len(needs) == 0 {
		return nil, nil
	}
	seen, err := buildcache.SurveyAt(ctx, m.Layout, m.Store, m.Pointer, all)
	if err != nil {
		return nil, err
	}
	there := seen.Packages(m.Layout)
	unmet := make(map[*buildcache.Package][]string)
	for _, n := range needs {
		if !slices.ContainsFunc(n.names, func(name string) bool { _, ok := there[name]; return ok }) {
			unmet[n.by] = append(unmet[n.by], fmt.Sprintf("it needs %s, which is in neither SOURCE, DESTINATION nor an upstream mirror", n.id))
		}
	}
	return unmet, nil
}

// roots are the packages on which no other one depends.
func roots(packages []*buildcache.Package) []*buildcache.Package {
	depended := make(map[spec.Hash]bool)
	for _, p := range packages {
		for _, n := range p.Spec.Nodes[1:] {
			depended[n.Hash] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(packages), func(p *buildcache.Package) bool { return depended[p.Hash] })
}

// needed are the packages that one needs when it is installed, directly or not.
func needed(s *spec.Spec) []*spec.Node {
	nodes := make(map[spec.Hash]*spec.Node)
	for _, n := range s.Nodes {
		nodes[n.Hash] = n
	}
	var found []*spec.Node
	seen := make(map[spec.Hash]bool)
	for next := s.Root().Needs(); len(next) > 0; next = next[1:] {
		n := nodes[next[0]]
		if n == nil || n.External || seen[n.Hash] {
			continue
		}
		seen[n.Hash] = true
		found = append(found, n)
		next = append(next, n.Needs()...)
	}
	return found
}
