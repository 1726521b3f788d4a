package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// planIndex decides what the index gets: what is published, and what the mirror holds
// although the index does not say so, because somebody pushed without
// --update-index, died before it, or lost a race.
func (d *decision) planIndex(ctx context.Context) error {
	ix := &d.out.Index
	ix.Mode, ix.was = d.plan.options.Index, d.seen.Pointer
	if ix.Mode == "" {
		ix.Mode = IndexMerge
	}
	for _, p := range d.out.Packages {
		if p.Status != Rejected && d.sends(p.Package, p.Status) {
			ix.adds = append(ix.adds, p.Package)
		}
	}
	switch {
	case ix.Mode == IndexNone:
		return nil
	case ix.Mode == IndexRebuild:
		ix.Changes = true
		return nil
	case len(ix.adds) == 0 && d.seen.Covered(d.out.format):
		// The usual second run: the index need not even be read.
		ix.Before = ix.was.Coverage.Len()
		ix.After = ix.Before
		return nil
	}
	x, err := loadIndex(ctx, d.out.format, d.out.store, ix.was)
	if unreadable(err) {
		d.plan.Findings = append(d.plan.Findings, buildcache.Warning.In(d.src.tree.path(d.out.format.IndexNames()[0]), fmt.Sprintf("%v: it is made anew", err)))
		ix.Mode, ix.Changes, ix.lost = IndexRebuild, true, true
		return nil
	}
	if err != nil {
		return err
	}
	ix.Before = x.Offered()
	d.gone(x)
	if err := d.heal(ctx, x); err != nil {
		return err
	}
	for _, p := range ix.adds {
		x.Add(p.Spec)
	}
	ix.After, ix.Audiences = x.Offered(), x.Audiences()
	if (x.Changed() || ix.was.Incomplete) && ix.After > 0 {
		ix.next, ix.Changes, ix.Bytes = x, true, x.Size()
		ix.was.NeedsProof(d.out.store)
		ix.pointer, err = d.out.format.PointerSize(ix.was, x)
	}
	return err
}

// gone warns of packages that the index offers although their documents are gone.
// A merge keeps them, because the deletion may be half done.
func (d *decision) gone(x *buildcache.Indices) {
	listed := make(map[spec.Hash]bool)
	for _, id := range d.seen.Packages(d.out.format) {
		listed[id.Hash] = true
	}
	var missing []string
	for e := range x.Records() {
		if e.InBuildcache && !listed[e.Hash] && d.seen.Complete(d.out.format, e.Name) {
			missing = append(missing, e.Name+"/"+e.Hash.Short())
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		d.plan.Findings = append(d.plan.Findings, buildcache.Warning.In(d.src.tree.path(d.out.format.IndexNames()[0]),
			fmt.Sprintf("it offers what is no longer there: %s; publish index removes them from the index", some(missing))))
	}
}

// some names the first few of many.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// loadIndex reads the index that p points at; there may be none yet.
// An index with a record that Spack's readers fail on is no better than a broken one.
func loadIndex(ctx context.Context, f buildcache.Layout, r mirror.Reader, p *buildcache.Pointer) (*buildcache.Indices, error) {
	if p.Version == mirror.Absent {
		return buildcache.NewIndices(f.Generations()), nil
	}
	x, err := f.ReadIndex(ctx, r, p)
	if err == nil && !p.Checked {
		err = x.Check()
	}
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
	for _, other := range []error{context.Canceled, context.DeadlineExceeded, mirror.ErrDenied, mirror.ErrCredentials, mirror.ErrNoBucket, mirror.ErrFault} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// heal reads the packages that the mirror holds and x does not offer. One that is not
// whole, or not to be trusted, stays out, with a warning.
func (d *decision) heal(ctx context.Context, x *buildcache.Indices) error {
	ours := make(map[string]bool)
	for _, p := range d.out.Packages {
		if p.Status != Rejected && d.sends(p.Package, p.Status) {
			ours[p.File] = true
		}
	}
	names := slices.DeleteFunc(d.seen.Lacking(d.out.format, x), func(name string) bool { return ours[name] })
	d.healed = names
	r := newPackageReader(d.out.format, d.out.store, d.seen, d.plan.options.Trust)
	found, findings, err := r.readAll(ctx, names)
	if err != nil {
		return err
	}
	for _, f := range findings {
		d.plan.Findings = append(d.plan.Findings, unindexed(d.out.Path, f))
	}
	for _, p := range found {
		d.out.Index.Healed = append(d.out.Index.Healed, p.ID())
		d.out.Index.adds = append(d.out.Index.adds, p)
	}
	return nil
}

// unindexed is what a publisher is told of a package of somebody else's that is damaged.
func unindexed(path string, f buildcache.Finding) buildcache.Finding {
	return buildcache.Warning.In(buildcache.Join(path, f.File), "the index lacks it and will not get it: "+f.Reason)
}

// writeMerged merges packages into the index, and merges again for as long as other publishers are faster. It calls
// moved before it replaces an index other than the planned one.
func writeMerged(ctx context.Context, f buildcache.Layout, s mirror.Store, ix *IndexPlan, moved func(ctx context.Context, now *buildcache.Pointer) error) error {
	was, next := ix.was, ix.next
	return contend(ctx, func() error {
		if next == nil {
			now, err := buildcache.PointerForUpdate(ctx, f, s)
			if err != nil {
				return err
			}
			if now.Version != was.Version {
				if err := moved(ctx, now); err != nil {
					return err
				}
			}
			was = now
			if next, err = loadIndex(ctx, f, s, was); err != nil {
				return err
			}
			ix.Before = next.Offered()
			for _, p := range ix.adds {
				next.Add(p.Spec)
			}
		}
		ix.After, ix.Audiences = next.Offered(), next.Audiences()
		if ix.Changes = (next.Changed() || was.Incomplete) && ix.After > 0; !ix.Changes {
			ix.was = was
			return nil
		}
		now, err := turnIndex(ctx, f, s, was, next)
		if err == nil {
			ix.was, ix.Bytes = now, now.Size()
		}
		next = nil
		return err
	})
}
