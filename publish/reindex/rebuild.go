package reindex

import (
	"context"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/keyindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Rebuilt is the result of rebuilding an index.
type Rebuilt struct {
	Layout  string   `json:"layout"`
	Before  int      `json:"before"` // packages offered
	After   int      `json:"after"`
	Changed bool     `json:"changed"`
	Digest  string   `json:"digest"`
	Stale   []string `json:"stale"` // fixed names whose content has changed
	// Findings report packages of the mirror that are left out, because Spack cannot read them or another
	// version of Spack wrote them, and keys that are not offered to clients.
	Findings []buildcache.Finding `json:"findings"`
	// Audiences says how many packages each version of Spack sees, if not all see all.
	Audiences []indices.Audience `json:"audiences,omitempty"`

	format   buildcache.Layout
	packages []spec.Hash
}

// Expectation returns an expectation of all packages that the index offers, for the mirror at path.
func (r *Rebuilt) Expectation(path string) Expectation {
	return Expectation{Path: path, Digest: r.Digest, Layout: r.format, Packages: r.packages}
}

// Rebuild rebuilds the index and the key index of a mirror from all its content, for each layout. If a
// package is damaged or not trusted, it fails with a FindingsError and leaves the index unchanged. A package
// that Spack cannot read is left out, with a finding. Packages that a rollback took out stay out.
func Rebuild(ctx context.Context, s mirror.Store, trust buildcache.Trust) ([]Rebuilt, error) {
	return rebuildAll(ctx, s, Rebuilding{Trust: trust})
}

// RebuildEverything is like Rebuild, but also adds packages that a rollback took out.
func RebuildEverything(ctx context.Context, s mirror.Store, trust buildcache.Trust) ([]Rebuilt, error) {
	return rebuildAll(ctx, s, Rebuilding{Trust: trust, Heal: true})
}

func rebuildAll(ctx context.Context, s mirror.Store, o Rebuilding) ([]Rebuilt, error) {
	var all []Rebuilt
	for _, f := range buildcache.Layouts() {
		r, err := rebuildLayout(ctx, f, s, o)
		if err != nil {
			return all, fmt.Errorf("%s index: %w", f.Name(), err)
		}
		if r != nil {
			all = append(all, *r)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("rebuild: %w", buildcache.ErrNoMirror)
	}
	return all, nil
}

func rebuildLayout(ctx context.Context, f buildcache.Layout, s mirror.Store, o Rebuilding) (*Rebuilt, error) {
	p, err := f.ReadPointer(ctx, s)
	if err != nil {
		return nil, err
	}
	seen, err := buildcache.SurveyAll(ctx, f, s, p)
	if err != nil {
		return nil, err
	}
	if len(seen.Packages(f)) == 0 && len(seen.Objects) == 0 {
		return nil, nil
	}
	out := &Rebuilt{Layout: f.Name(), Stale: []string{}, Findings: []buildcache.Finding{}, format: f}
	if err := out.keys(ctx, s, o.Trust, false); err != nil {
		return nil, err
	}
	ix, err := RebuildIndex(ctx, f, s, o)
	if err != nil {
		return nil, err
	}
	if o.Trust.Keys != nil {
		if err := out.keys(ctx, s, o.Trust, true); err != nil {
			return nil, err
		}
	}
	out.packages = ix.Packages
	out.Findings = append(out.Findings, ix.Findings...)
	out.Before, out.After, out.Changed, out.Digest, out.Audiences = ix.Before, ix.After, ix.Written, ix.Pointer.Digest(), ix.Audiences
	if ix.Written {
		out.Stale = append(out.Stale, f.IndexNames()...)
	}
	return out, nil
}

// keys rebuilds the key index from the keys of the mirror.
func (r *Rebuilt) keys(ctx context.Context, s mirror.Store, trust buildcache.Trust, purge bool) error {
	stale, findings, err := keyindex.Rebuild(ctx, r.format, s, trust, purge)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	r.Stale = append(r.Stale, stale...)
	for _, f := range findings {
		if !slices.Contains(r.Findings, f) {
			r.Findings = append(r.Findings, f)
		}
	}
	return nil
}
