package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// planIndex decides what the index gets: what is published, and what the mirror holds
// although the index does not say so, because somebody pushed without
// --update-index, died before it, or lost a race.
func (d *decision) planIndex(ctx context.Context) error {
	ix := &d.out.Index
	ix.Mode, ix.was = d.plan.options.Index, d.seen.pointer
	if ix.Mode == "" {
		ix.Mode = IndexMerge
	}
	for _, p := range d.out.Packages {
		if p.Status != Rejected && d.sends(p.Package, p.Status) {
			ix.specs = append(ix.specs, p.Spec)
		}
	}
	switch {
	case ix.Mode == IndexNone:
		return nil
	case ix.Mode == IndexRebuild:
		ix.Changes = true
		return nil
	case len(ix.specs) == 0 && d.seen.covered(d.out.format):
		// The usual second run: the index need not even be read.
		ix.Before = ix.was.Coverage.Len()
		ix.After = ix.Before
		return nil
	}
	x, err := loadIndex(ctx, d.out.format, d.out.store, ix.was)
	if unreadable(err) {
		d.plan.Findings = append(d.plan.Findings, Finding{Warning, d.src.tree.path(d.out.format.indexWrites()[0]), fmt.Sprintf("%v: it is made anew", err)})
		ix.Mode, ix.Changes, ix.lost = IndexRebuild, true, true
		return nil
	}
	if err != nil {
		return err
	}
	ix.Before = x.Offered()
	if err := d.heal(ctx, x); err != nil {
		return err
	}
	for _, s := range ix.specs {
		x.Add(s)
	}
	ix.After = x.Offered()
	if (x.Changed() || ix.was.halfway) && ix.After > 0 {
		ix.next, ix.Changes, ix.Bytes = x, true, x.Content().Size()
		ix.pointer, err = d.out.format.pointerSize(x)
	}
	return err
}

// loadIndex reads the index that p points at; there may be none yet.
func loadIndex(ctx context.Context, f format, r mirror.Reader, p *pointer) (*index.Index, error) {
	if p.Version == mirror.Absent {
		return index.New(f.indexVersion()), nil
	}
	x, err := f.readIndex(ctx, r, p)
	if err != nil {
		return nil, &indexError{err}
	}
	return x, nil
}

// An indexError says that there is an index and it cannot be merged into.
type indexError struct{ err error }

func (e *indexError) Error() string { return "index: " + e.err.Error() }
func (e *indexError) Unwrap() error { return e.err }

// unreadable reports whether an index is better made anew than merged into: it is broken,
// or its document is gone, or it is of an old version. One of a newer version is
// not ours to replace, and one that we may not read may be well.
func unreadable(err error) bool {
	var broken *indexError
	if !errors.As(err, &broken) {
		return false
	}
	var version *index.VersionError
	if errors.As(err, &version) {
		return !version.Newer()
	}
	for _, other := range []error{context.Canceled, context.DeadlineExceeded, mirror.ErrDenied, mirror.ErrCredentials, mirror.ErrNoBucket} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// heal reads the packages that the mirror holds and x does not offer. One that is not
// whole, or not to be trusted, stays out, with a warning.
func (d *decision) heal(ctx context.Context, x *index.Index) error {
	ours := make(map[string]bool)
	for _, p := range d.out.Packages {
		if p.Status != Rejected && d.sends(p.Package, p.Status) {
			ours[p.File] = true
		}
	}
	names := slices.DeleteFunc(d.seen.lacking(d.out.format, x), func(name string) bool { return ours[name] })
	found, findings, err := readPackages(ctx, d.out.format, d.out.store, d.seen, names, d.plan.options.Trust)
	if err != nil {
		return err
	}
	for _, f := range findings {
		d.plan.Findings = append(d.plan.Findings, unindexed(d.out.Path, f))
	}
	for _, p := range found {
		d.out.Index.Healed = append(d.out.Index.Healed, p.ID())
		d.out.Index.specs = append(d.out.Index.specs, p.Spec)
	}
	return nil
}

// unindexed is what a publisher is told of a package of somebody else's that is damaged.
func unindexed(path string, f Finding) Finding {
	return Finding{Warning, join(path, f.File), "the index lacks it and will not get it: " + f.Reason}
}

// readPackages reads packages from a mirror and makes sure that they are whole: in the
// order of their names, with a finding for each that is not.
func readPackages(ctx context.Context, f format, s Store, seen *survey, names []string, trust Trust) ([]*Package, []Finding, error) {
	slices.Sort(names)
	packages := make([]*Package, len(names))
	reasons := make([]error, len(names))
	err := each(ctx, readers, positions(names), func(ctx context.Context, i int) error {
		packages[i], reasons[i] = readPackage(ctx, f, s, seen, names[i], trust)
		return ctx.Err()
	})
	if err != nil {
		return nil, nil, err
	}
	var whole []*Package
	var findings []Finding
	for i, name := range names {
		if reasons[i] != nil {
			findings = append(findings, Finding{Error, name, reasons[i].Error()})
		} else {
			whole = append(whole, packages[i])
		}
	}
	return whole, findings, nil
}

func readPackage(ctx context.Context, f format, s Store, seen *survey, name string, trust Trust) (*Package, error) {
	document, _, err := mirror.Read(ctx, s, name, maxDocument)
	if err != nil {
		return nil, err
	}
	p, err := f.document(name, document)
	if err != nil {
		return nil, err
	}
	if trust.RequireSigned && !p.Signed {
		return nil, errors.New("it is not signed, and signatures are required")
	}
	if trust.Keys != nil && p.Signed {
		if _, err := trust.Keys.Verify(document); err != nil {
			return nil, err
		}
	}
	for _, b := range p.Blobs {
		if err := present(ctx, s, seen, b); err != nil {
			return nil, err
		}
	}
	return p, f.readSpec(ctx, s, p)
}

// present makes sure that a blob is there, by the survey or by listing its very name: blobs and
// documents are not listed at one moment, and both may have come in between.
func present(ctx context.Context, s mirror.Lister, seen *survey, b Object) error {
	if seen.has(b) {
		return nil
	}
	for info, err := range s.List(ctx, mirror.Range{Prefix: b.Name}) {
		if err != nil {
			return err
		}
		if info.Name == b.Name && (b.Size < 0 || info.Size == b.Size) {
			return nil
		}
	}
	return fmt.Errorf("%s, which it points at, is missing or has another size", b.Name)
}

// writeMerged merges specs into the index until no other publisher was faster.
func writeMerged(ctx context.Context, f format, s Store, ix *IndexPlan) error {
	was, next := ix.was, ix.next
	return contend(ctx, func() error {
		if next == nil {
			var err error
			if was, err = whichIndex(ctx, f, s); err != nil {
				return err
			}
			if next, err = loadIndex(ctx, f, s, was); err != nil {
				return err
			}
			ix.Before = next.Offered()
			for _, spec := range ix.specs {
				next.Add(spec)
			}
		}
		ix.After = next.Offered()
		if !next.Changed() && !was.halfway || ix.After == 0 {
			return nil
		}
		now, err := f.writeIndex(ctx, s, was, next)
		if err == nil {
			ix.was, ix.Bytes = now, now.Size
		}
		next = nil
		return err
	})
}

// A rebuilder makes indices of everything that a mirror holds.
type rebuilder struct {
	format format
	store  Store
	trust  Trust

	// read holds what was read already, by name and version of the document, so that
	// losing a race costs a listing and what is new.
	read map[string]*spec.Spec
	// offered are the packages of the index that was made last.
	offered []spec.Hash
	// skip is told of packages that cannot be read, or are not whole. Nil: they fail the
	// rebuild.
	skip func([]Finding)
}

// rebuild makes the index anew: each document in the mirror must be readable and whole,
// for whatever an index does not name has disappeared for clients, unless that is told.
func (b *rebuilder) rebuild(ctx context.Context, ix *IndexPlan) error {
	b.read = make(map[string]*spec.Spec)
	return contend(ctx, func() error {
		was, current, err := b.current(ctx)
		if err != nil {
			return err
		}
		if current != nil {
			ix.Before = current.Offered()
		}
		x, err := b.build(ctx, was)
		if err != nil {
			return err
		}
		ix.After, ix.was = x.Offered(), was
		if current != nil && !was.halfway && sameIndex(current, x) || current == nil && was.Version == mirror.Absent && ix.After == 0 {
			ix.Changes = false
			return nil
		}
		ix.Changes = true
		now, err := b.format.writeIndex(ctx, b.store, was, x)
		if err == nil {
			ix.was, ix.Bytes = now, now.Size
		}
		return err
	})
}

// current reads the index as far as it can be read. One of a newer version stops us.
func (b *rebuilder) current(ctx context.Context) (*pointer, *index.Index, error) {
	was, err := whichIndex(ctx, b.format, b.store)
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

func (b *rebuilder) build(ctx context.Context, was *pointer) (*index.Index, error) {
	seen, err := lookAll(ctx, b.format, b.store, was)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range seen.packages(b.format) {
		if b.read[b.id(seen, name)] == nil {
			names = append(names, name)
		}
	}
	packages, findings, err := readPackages(ctx, b.format, b.store, seen, names, b.trust)
	if err != nil {
		return nil, err
	}
	switch {
	case len(findings) == 0:
	case b.skip == nil:
		return nil, &FindingsError{findings}
	default:
		b.skip(findings)
	}
	for _, p := range packages {
		b.read[b.id(seen, p.File)] = p.Spec
	}
	x := index.New(b.format.indexVersion())
	b.offered = nil
	for _, name := range slices.Sorted(maps.Keys(seen.packages(b.format))) {
		s := b.read[b.id(seen, name)]
		if s == nil {
			continue // skipped
		}
		x.Add(s)
		b.offered = append(b.offered, s.Root().Hash)
	}
	return x, nil
}

func (b *rebuilder) id(seen *survey, name string) string {
	return name + "\x00" + string(seen.objects[name].Version)
}

// sameIndex compares record by record, because the order of records means nothing.
func sameIndex(a, b *index.Index) bool {
	records := make(map[spec.Hash]index.Entry)
	for e := range a.All() {
		records[e.Hash] = e
	}
	for e := range b.All() {
		was, ok := records[e.Hash]
		if !ok || was.InBuildcache != e.InBuildcache || was.RefCount != e.RefCount {
			return false
		}
		delete(records, e.Hash)
	}
	return len(records) == 0
}
