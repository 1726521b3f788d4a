package licence

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// ErrRefused means that the rules do not permit publishing a package.
var ErrRefused = errors.New("it may not be published")

// CheckName judges a package that the destination already has, by its name. Nil rules permit all packages.
func (r *Rules) CheckName(p *buildcache.Package) []error {
	if r == nil {
		return nil
	}
	if reason, _ := r.byName(p.Package); reason != "" {
		return []error{fmt.Errorf("%w: %s", ErrRefused, reason)}
	}
	return nil
}

// Check judges a package of a source whose spec was read, and records its licence. Nil rules permit all
// packages.
func (r *Rules) Check(ctx context.Context, p *buildcache.Package) []error {
	if r == nil {
		return nil
	}
	f, err := factsOf(ctx, p)
	if err != nil {
		return []error{fmt.Errorf("its licence cannot be found out: %w", err)}
	}
	p.Licence = f.Licence
	if reason := r.Refuses(p.Package, f); reason != "" {
		return []error{fmt.Errorf("%w: %s", ErrRefused, reason)}
	}
	return nil
}

func factsOf(ctx context.Context, p *buildcache.Package) (Facts, error) {
	if p.Spec == nil || len(p.Blobs) == 0 || p.Blobs[buildcache.TarballBlob].Content == nil {
		return Facts{}, nil // the spec or the tarball is refused, or the destination has it
	}
	g := query.NewGraph()
	for _, n := range p.Spec.Nodes {
		if _, err := g.Add(n.Record); err != nil {
			return Facts{}, err
		}
	}
	g.Link()
	n := g.Node(string(p.Spec.Root().Hash))
	content, err := p.Blobs[buildcache.TarballBlob].Content.Open()
	if err != nil {
		return Facts{}, err
	}
	defer content.Close()
	recipe, err := find(ctx, io.NewSectionReader(content, 0, p.Blobs[buildcache.TarballBlob].Content.Size()), n)
	return recipe.Of(g, n), err
}
