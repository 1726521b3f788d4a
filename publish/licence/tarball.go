package licence

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// Limits on reading a tarball for its recipe. Spack writes its own files, including recipes, near the beginning
// of a tarball.
const (
	maxUnpacked = 256 << 20
	maxRecipe   = 4 << 20
)

// find reads the recipe of a package from its tarball; nil: it has none. It stops reading as soon as the answer
// is known.
func find(ctx context.Context, tarball io.Reader, n *query.Node) (*Recipe, error) {
	zr, err := gzip.NewReader(tarball)
	if err != nil {
		return nil, fmt.Errorf("its tarball: %w", err)
	}
	tr := tar.NewReader(io.LimitReader(zr, maxUnpacked))
	wanted := paths(n)
	inside := false
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && inside {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("its tarball: %w", err)
		}
		name := "/" + h.Name
		own := strings.Contains(name, "/.spack/")
		if inside && !own {
			return nil, nil // Spack writes them one after the other
		}
		inside = inside || own && h.Typeflag == tar.TypeReg
		for _, w := range wanted {
			if strings.HasSuffix(name, w) && h.Typeflag == tar.TypeReg {
				text, err := io.ReadAll(io.LimitReader(tr, maxRecipe))
				if err != nil {
					return nil, fmt.Errorf("its recipe: %w", err)
				}
				return Parse(string(text), n.Name), nil
			}
		}
	}
}

// Read returns the statements of the recipe in a stored tarball. It reads as little of the tarball as possible.
func Read(ctx context.Context, r mirror.Reader, tarball string, g *query.Graph, n *query.Node) (Facts, error) {
	o, err := r.Open(ctx, tarball)
	if err != nil {
		return Facts{}, fmt.Errorf("read %s: %w", tarball, err)
	}
	defer o.Body.Close()
	recipe, err := find(ctx, o.Body, n)
	if err != nil {
		return Facts{}, fmt.Errorf("read %s: %w", tarball, err)
	}
	return recipe.Of(g, n), nil
}

// paths returns the possible ends of the name of a package's recipe in its tarball.
func paths(n *query.Node) []string {
	module := strings.ReplaceAll(n.Name, "-", "_")
	if module != "" && module[0] >= '0' && module[0] <= '9' {
		module = "_" + module
	}
	namespace := strings.ReplaceAll(n.Namespace, ".", "/")
	return []string{
		"/.spack/repos/spack_repo/" + namespace + "/packages/" + module + "/package.py",
		"/.spack/repos/" + namespace + "/packages/" + n.Name + "/package.py", // before Spack 1.0
		"/.spack/repos/" + namespace + "/packages/" + module + "/package.py",
	}
}
