package reindex

import (
	"context"
	"maps"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A rebuilder builds the indices of a mirror from all its packages.
type rebuilder struct {
	format buildcache.Layout
	store  mirror.Store
	trust  buildcache.Trust

	// read holds the packages read so far, by name and version of the document. After a lost race only new
	// packages are read.
	read map[string]*buildcache.Package
	// offered are the packages of the last index that was built. findings report the packages that it leaves
	// out.
	offered  []spec.Hash
	findings []buildcache.Finding
	// lenient leaves out damaged packages as well. Otherwise they fail the rebuild.
	lenient bool
	release func(spec.Hash) bool // see Rebuilding.Published
}

// A Rebuilding holds the options of a rebuild.
type Rebuilding struct {
	Trust buildcache.Trust // whose packages are added
	// Lenient leaves out damaged packages. Otherwise they fail the rebuild with a buildcache.FindingsError, and the
	// index stays.
	Lenient bool
	// Published are packages that are added although a rollback has taken them out. Heal adds all that a
	// rollback took out.
	Published map[spec.Hash]bool
	Heal      bool
}

// RebuildIndex replaces the index of a mirror by an index of all its packages. The Result has a finding for
// each package that is left out. Packages that are kept out of the index stay out.
func RebuildIndex(ctx context.Context, f buildcache.Layout, s mirror.Store, o Rebuilding) (Result, error) {
	b := &rebuilder{format: f, store: s, trust: o.Trust, lenient: o.Lenient, release: func(h spec.Hash) bool { return o.Heal || o.Published[h] }}
	out, err := b.rebuild(ctx)
	if err != nil {
		return out, err
	}
	out.Packages = b.offered
	for _, f := range b.findings {
		out.Findings = append(out.Findings, unindexed(f))
	}
	return out, nil
}

// rebuild replaces the index. Each package in the mirror must be complete, because clients do not see
// packages that the index lacks. Packages that Spack cannot read, or that another version of Spack wrote, are
// left out with a warning, as in Spack's own update-index.
func (b *rebuilder) rebuild(ctx context.Context) (Result, error) {
	b.read = make(map[string]*buildcache.Package)
	return Replace(ctx, b.format, b.store, func(ctx context.Context, was *buildcache.Pointer, current *indices.Set) (*indices.Set, error) {
		x, err := b.build(ctx, was, current)
		if err == nil {
			err = notice.Refuse(ctx, b.store)
		}
		if err != nil || was.Version == mirror.Absent && x.Offered() == 0 {
			return nil, err
		}
		was.Foreign = "" // everything is listed
		return x, nil
	})
}

// build builds the indices. current is nil if the present index cannot be read.
func (b *rebuilder) build(ctx context.Context, was *buildcache.Pointer, current *indices.Set) (*indices.Set, error) {
	released := *was // packages that cannot be added stay withheld
	released.Past = was.Releasing(b.release)
	seen, err := buildcache.SurveyAll(ctx, b.format, b.store, &released)
	if err != nil {
		return nil, err
	}
	foreign, err := b.readNew(ctx, seen)
	if err != nil {
		return nil, err
	}
	x := indices.New(b.format.Generations())
	b.offered = nil
	listed := seen.Offerable(b.format)
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		p, hash := b.read[b.id(seen, name)], listed[name].Hash
		switch {
		case p != nil:
			x.Add(p.Spec)
			hash = p.Spec.Root().Hash
		case !foreign[name] || current == nil || !current.Has(hash):
			continue
		}
		if current != nil {
			x.Keep(current, hash) // keep the record of another version of Spack
		}
		b.offered = append(b.offered, hash)
	}
	return x, nil
}

// readNew reads the packages that have not been read yet. It returns the documents that another version of
// Spack wrote.
func (b *rebuilder) readNew(ctx context.Context, seen *buildcache.Survey) (map[string]bool, error) {
	var names []string
	for name := range seen.Offerable(b.format) {
		if b.read[b.id(seen, name)] == nil {
			names = append(names, name)
		}
	}
	r := newPackageReader(b.format, b.store, seen, b.trust)
	packages, findings, err := r.readAll(ctx, names)
	if err != nil {
		return nil, err
	}
	if buildcache.Failed(findings) && !b.lenient {
		return nil, &buildcache.FindingsError{Findings: findings}
	}
	b.findings = findings
	for _, p := range packages {
		b.read[b.id(seen, p.File)] = p
	}
	return r.foreign, nil
}

func (b *rebuilder) id(seen *buildcache.Survey, name string) string {
	return name + "\x00" + string(seen.Objects[name].Version)
}
