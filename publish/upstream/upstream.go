// Package upstream finds out whether clients can install what is published. What a package needs may be in the mirror already, or in
// another mirror that clients use as well.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Mirror is the one that is published to, as a survey saw it.
type Mirror struct {
	Layout  buildcache.Layout
	Store   mirror.Store
	Pointer *buildcache.Pointer
	// Upstream are packages of another mirror that clients have besides; nil: there is none, and nothing is said about what is missing.
	Upstream map[spec.Hash]bool
	// Trust is what the documents of the mirror must keep to that others need. Its zero value asks nothing of them.
	Trust buildcache.Trust
}

// A need is what a package needs when it is installed.
type need struct {
	by    *buildcache.Package
	id    string
	names []string // that its document may have
}

// Objections says of packages that are sent, whose specs are known, what keeps them from being installed, or from being trusted with what
// they need. Known are packages that the run publishes, and kept those of the mirror that stay as they are. What only building needs,
// such as a compiler, and what that needs is not looked at: clients install without it.
func (m Mirror) Objections(ctx context.Context, sent, known, kept []*buildcache.Package) (map[*buildcache.Package][]string, error) {
	has := make(map[spec.Hash]bool)
	for _, p := range known {
		has[p.Hash] = true // if it is refused, so is what depends on it
	}
	objections := make(map[*buildcache.Package][]string)
	if m.Trust.RequireSigned || m.Trust.Keys != nil {
		if err := m.distrusted(ctx, m.needs(sent, has), objections); err != nil {
			return nil, err
		}
	}
	for _, p := range kept {
		has[p.Hash] = true
	}
	if m.Upstream == nil {
		return objections, nil
	}
	return objections, m.unmet(ctx, m.needs(roots(sent), has), objections)
}

// needs are what packages need of what is neither known nor in the other mirror.
func (m Mirror) needs(packages []*buildcache.Package, known map[spec.Hash]bool) []need {
	var needs []need
	for _, p := range packages {
		for _, n := range p.Spec.Needed() {
			if !known[n.Hash] && !m.Upstream[n.Hash] {
				names, _ := m.Layout.DocumentNames(n, buildcache.ToolchainIn(n.Record))
				needs = append(needs, need{p, n.ID(), names})
			}
		}
	}
	return needs
}

// there returns the names of documents that are there, of what is needed.
func (m Mirror) there(ctx context.Context, needs []need) (map[string]bool, error) {
	there := make(map[string]bool)
	var all []string
	for _, n := range needs {
		all = append(all, n.names...)
	}
	if len(all) == 0 {
		return there, nil
	}
	slices.Sort(all)
	seen, err := buildcache.SurveyAt(ctx, m.Layout, m.Store, m.Pointer, slices.Compact(all))
	if err != nil {
		return nil, err
	}
	for name := range seen.Packages(m.Layout) {
		there[name] = true
	}
	return there, nil
}

// unmet objects to what needs something that is nowhere.
func (m Mirror) unmet(ctx context.Context, needs []need, objections map[*buildcache.Package][]string) error {
	there, err := m.there(ctx, needs)
	if err != nil {
		return err
	}
	for _, n := range needs {
		if !slices.ContainsFunc(n.names, func(name string) bool { return there[name] }) {
			objections[n.by] = append(objections[n.by], fmt.Sprintf("it needs %s, which is in neither SOURCE, DESTINATION nor an upstream mirror", n.id))
		}
	}
	return nil
}

// distrusted objects to what needs something of the mirror that does not keep to the rules.
func (m Mirror) distrusted(ctx context.Context, needs []need, objections map[*buildcache.Package][]string) error {
	there, err := m.there(ctx, needs)
	if err != nil {
		return err
	}
	var names []string
	for _, n := range needs {
		names = append(names, n.names...)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return !there[name] })
	why, err := Distrusted(ctx, m.Store, m.Trust, names)
	if err != nil {
		return err
	}
	for _, n := range needs {
		for _, name := range n.names {
			if why[name] != nil {
				objections[n.by] = append(objections[n.by], fmt.Sprintf("it needs %s, which is in DESTINATION already, but: %v", n.id, why[name]))
			}
		}
	}
	return nil
}

// Distrusted reads documents and says which of them are not to be trusted, and why. One that was removed is none of these.
func Distrusted(ctx context.Context, r mirror.Reader, trust buildcache.Trust, names []string) (map[string]error, error) {
	reasons := make([]error, len(names))
	err := parallel.Each(ctx, parallel.Readers, parallel.Positions(names), func(ctx context.Context, i int) error {
		document, _, err := mirror.Read(ctx, r, names[i], buildcache.MaxDocument)
		switch {
		case errors.Is(err, mirror.ErrNotExist):
		case err != nil:
			return fmt.Errorf("check the signer: %w", err)
		default:
			reasons[i] = trust.Objection(document)
		}
		return ctx.Err()
	})
	why := make(map[string]error)
	for i, name := range names {
		if reasons[i] != nil {
			why[name] = reasons[i]
		}
	}
	return why, err
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
