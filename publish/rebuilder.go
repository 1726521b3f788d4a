package publish

import (
	"context"
	"maps"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A rebuilder builds the indices of a mirror from all its packages.
type rebuilder struct {
	format buildcache.Layout
	store  mirror.Store
	trust  buildcache.Trust

	// read holds the packages read so far, by name and version of the document. After a lost
	// race only new ones are read.
	read map[string]*buildcache.Package
	// offered are the packages of the last index, and findings say what it leaves out.
	offered  []spec.Hash
	findings []buildcache.Finding
	// lenient leaves out damaged packages as well. Otherwise they fail the rebuild.
	lenient bool
}

// rebuild replaces the index. Each package in the mirror must be whole, because clients do not see packages
// that the index lacks. Packages that Spack cannot read, or that another version of Spack wrote, are left out
// with a warning, as by Spack's own update-index.
func (b *rebuilder) rebuild(ctx context.Context, ix *IndexPlan) error {
	b.read = make(map[string]*buildcache.Package)
	return contend(ctx, func() error {
		was, current, err := b.current(ctx)
		if err != nil {
			return err
		}
		if current != nil {
			ix.Before = current.Offered()
		}
		x, err := b.build(ctx, was, current)
		if err != nil {
			return err
		}
		ix.After, ix.Audiences, ix.was = x.Offered(), x.Audiences(), was
		if current != nil && !was.Incomplete && current.Same(x) || current == nil && was.Version == mirror.Absent && ix.After == 0 {
			ix.Changes = false
			return nil
		}
		ix.Changes = true
		now, err := turnIndex(ctx, b.format, b.store, was, x)
		if err == nil {
			ix.was, ix.Bytes = now, now.Size()
		}
		return err
	})
}

// current reads the index; nil if it cannot be read. An index of a newer version is an error.
func (b *rebuilder) current(ctx context.Context) (*buildcache.Pointer, *buildcache.Indices, error) {
	was, err := buildcache.PointerForUpdate(ctx, b.format, b.store)
	if err != nil {
		return nil, nil, err
	}
	x, err := loadIndex(ctx, b.format, b.store, was)
	if unreadable(err) {
		return was, nil, nil
	}
	if err == nil && was.Version == mirror.Absent {
		x = nil
	}
	return was, x, err
}

// build makes the indices. current is nil if it cannot be read.
func (b *rebuilder) build(ctx context.Context, was *buildcache.Pointer, current *buildcache.Indices) (*buildcache.Indices, error) {
	seen, err := buildcache.SurveyAll(ctx, b.format, b.store, was)
	if err != nil {
		return nil, err
	}
	foreign, err := b.readNew(ctx, seen)
	if err != nil {
		return nil, err
	}
	x := buildcache.NewIndices(b.format.Generations())
	for i, ref := range was.Refs {
		if ref.Digest.Known() {
			x.Part(x.Generations[i].Index) // an index may become empty, but not disappear
		}
	}
	b.offered = nil
	listed := seen.Packages(b.format)
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
			x.Keep(current, hash) // as another version of Spack has indexed it
		}
		b.offered = append(b.offered, hash)
	}
	return x, nil
}

// readNew reads the packages that were not read before. It returns the documents that another version of
// Spack wrote.
func (b *rebuilder) readNew(ctx context.Context, seen *buildcache.Survey) (map[string]bool, error) {
	var names []string
	for name := range seen.Packages(b.format) {
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
