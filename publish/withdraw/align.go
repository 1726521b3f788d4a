package withdraw

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// Aligning writes a named index, and ensures that it offers no package that the mirror has withdrawn meanwhile.
//
// The pointer of the whole mirror names the withdrawn packages. A withdrawal replaces that pointer and then
// checks each view; a writer of a view replaces the view and then checks that pointer. So one of the two sees
// the other, in any order. If a writer dies between its two steps, the view lists a package whose document is a
// tombstone: clients cannot install it, and the next withdrawal or writer of the view takes it out.
//
// write receives the pointer of the whole mirror, and leaves out its withdrawn packages from the start.
func (m Mirror) Aligning(ctx context.Context, view buildcache.Layout, write func(all *buildcache.Pointer) (reindex.Result, error)) (reindex.Result, error) {
	before, err := buildcache.PointerForUpdate(ctx, m.Layout, m.Store)
	if err != nil {
		return reindex.Result{}, err
	}
	out, err := write(before)
	if err != nil {
		return out, err
	}
	if moved, err := m.moved(ctx, before); err != nil || !moved {
		return out, err
	}
	now, err := buildcache.PointerForUpdate(ctx, m.Layout, m.Store)
	if err != nil || maps.Equal(now.Withdrawn, before.Withdrawn) {
		return out, err
	}
	r, err := m.Align(ctx, view)
	if errors.Is(err, notice.ErrAtWork) { // a repeated undo restores the rest
		err = nil
	}
	if err == nil && r.Written {
		r.Before, r.Packages, r.Findings = out.Before, out.Packages, out.Findings
		out = r
	}
	return out, err
}

// Align applies the withdrawals in the pointer of the whole mirror to a named index: it removes withdrawn
// packages, and offers packages again whose withdrawal was undone. An index that is right already is not
// written.
func (m Mirror) Align(ctx context.Context, view buildcache.Layout) (reindex.Result, error) {
	var out reindex.Result
	for range tries {
		all, err := buildcache.PointerForUpdate(ctx, m.Layout, m.Store)
		if err != nil {
			return out, err
		}
		r, err := m.align(ctx, all, view)
		if r.Written || !out.Written {
			out = r
		}
		if err != nil {
			return out, err
		}
		// A withdrawal or an undo meanwhile may have passed this view before it was written.
		if moved, err := m.moved(ctx, all); err != nil || !moved {
			return out, err
		}
	}
	return out, conflict.ErrUnresolved
}

// moved reports whether the pointer of the whole mirror has changed.
func (m Mirror) moved(ctx context.Context, all *buildcache.Pointer) (bool, error) {
	info, err := mirror.Find(ctx, m.Store, m.Layout.IndexNames()[0])
	return info.Version != all.Version, err
}

func (m Mirror) align(ctx context.Context, all *buildcache.Pointer, view buildcache.Layout) (reindex.Result, error) {
	was, err := buildcache.PointerForUpdate(ctx, view, m.Store)
	if err != nil || was.Version == mirror.Absent || len(all.Withdrawn)+len(was.Withdrawn) == 0 {
		return reindex.Result{Pointer: was}, err
	}
	var atWork error
	out, err := reindex.Edit(ctx, view, m.Store, func(ctx context.Context, was *buildcache.Pointer, x *indices.Set) error {
		for h, w := range all.Withdrawn {
			if said, ok := was.Withdrawn[h]; x.Has(h) || ok && said != w {
				x.Withhold(h)
				was.Past = was.Withdrawing(h, w)
			}
		}
		for h, w := range was.Withdrawn {
			if _, ok := all.Withdrawn[h]; ok {
				continue
			}
			atWork = notice.Refuse(ctx, m.Store) // it may be about to delete what comes back
			if errors.Is(atWork, notice.ErrAtWork) {
				return nil
			}
			if atWork != nil {
				return atWork
			}
			again, _, err := reindex.ReadPackage(ctx, m.Layout, m.Store, m.Trust, w.Document)
			if err != nil {
				return fmt.Errorf("%s: %w", w.Document, err)
			}
			was.Past = was.Restoring(h)
			if again != nil && !was.IsWithheld(h) {
				x.Add(again.Spec)
			}
		}
		return nil
	})
	return out, errors.Join(err, atWork)
}
