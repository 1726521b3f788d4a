package reindex

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/putback"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
)

// A Make returns what an index becomes. now is the index that was points at; it is nil if there is none, or none that
// can be read. It is read-only. A nil result leaves the index as it is.
type Make func(ctx context.Context, was *buildcache.Pointer, now *indices.Set) (*indices.Set, error)

// Replace replaces an index by what make returns. If another publisher changes the index meanwhile, make is called
// again with the newer one, and if so much time passes that a prune may have begun since it was called. An index that
// has the same records already is not written, unless make has changed the past of was. An index of a newer version
// is an error.
//
// A Merge only adds. Replace is for a writer that also takes packages out.
func Replace(ctx context.Context, f buildcache.Layout, s mirror.Store, make Make) (Result, error) {
	var out Result
	err := conflict.Retry(ctx, func() error {
		was, now, err := Current(ctx, f, s)
		if err != nil && !errors.Is(err, ErrUnreadable) {
			return err
		}
		putBack, err := putback.Recall(ctx, f, s, was)
		if err != nil {
			return err
		}
		if out.Before = 0; now != nil {
			out.Before = now.Offered()
		}
		out.Pointer, out.After = was, out.Before
		relied, before := time.Now(), was.Past
		x, err := make(ctx, was, now)
		if err != nil || x == nil {
			return err
		}
		for i, ref := range was.Refs {
			if ref.Digest.Known() {
				x.Part(x.Generations[i].Index) // an index may become empty, but not disappear
			}
		}
		out.After, out.Audiences = x.Offered(), x.Audiences()
		c := change{was: was, x: x, relied: relied}
		if now != nil {
			if putBack == nil && now.Same(x) && before.Equal(was.Past) {
				if !was.Incomplete {
					return nil
				}
				c.x = now
			}
			offers := c.x.Since(now)
			c.offers = &offers
		}
		p, err := replaceIndex(ctx, f, s, c)
		if err == nil {
			out.Pointer, out.Bytes, out.Written = p, p.Size(), true
		}
		return err
	})
	return out, err
}

// Edit changes the records of an index, or what its pointer says of packages that are kept out. edit changes the
// indices and the past of the pointer that it is given, which both are its own. If another publisher changes the
// index meanwhile, edit is called again with the newer one, as for Replace. Nothing is written if nothing has
// changed. A mirror without an index is a buildcache.ErrNoMirror.
func Edit(ctx context.Context, f buildcache.Layout, s mirror.Store, edit func(ctx context.Context, was *buildcache.Pointer, x *indices.Set) error) (Result, error) {
	return EditRead(ctx, f, s, new(Reading), edit)
}

// A Reading is an index as it was read, and its pointer, which buildcache.PointerForUpdate has read.
type Reading struct {
	Pointer *buildcache.Pointer
	Indices *indices.Set
}

// EditRead edits what was read a moment ago, and reads it only if another publisher has changed it since. The reading
// is used up.
func EditRead(ctx context.Context, f buildcache.Layout, s mirror.Store, read *Reading, edit func(ctx context.Context, was *buildcache.Pointer, x *indices.Set) error) (Result, error) {
	var out Result
	err := conflict.Retry(ctx, func() (err error) {
		was, x := read.Pointer, read.Indices
		if *read = (Reading{}); x == nil {
			if was, err = buildcache.PointerForUpdate(ctx, f, s); err != nil {
				return err
			}
		}
		if was.Version == mirror.Absent {
			return buildcache.ErrNoMirror
		}
		before := was.Past
		if x == nil {
			if _, err := putback.Recall(ctx, f, s, was); err != nil {
				return err
			}
			if x, err = loadIndex(ctx, f, s, was); err != nil {
				return err
			}
		}
		out = Result{Before: x.Offered(), Pointer: was}
		relied := time.Now()
		if err := edit(ctx, was, x); err != nil {
			return err
		}
		out.After = x.Offered()
		offers := x.Changes()
		if len(offers.Added)+len(offers.Removed) == 0 {
			if before.Equal(was.Past) {
				if was.Incomplete { // the publisher that has written it died before it was through
					return f.CompleteIndex(ctx, s, was)
				}
				return nil
			}
			for _, part := range x.ByGeneration() {
				part.Rewrite()
			}
		}
		p, err := replaceIndex(ctx, f, s, change{was: was, x: x, offers: &offers, relied: relied})
		if err == nil {
			out.Pointer, out.Bytes, out.Written = p, p.Size(), true
		}
		return err
	})
	return out, err
}

// Complete writes what the last writer of an index did not come to, because it died: the digest of an index of layout v2.
func Complete(ctx context.Context, f buildcache.Layout, s mirror.Store) error {
	return conflict.Retry(ctx, func() error {
		was, err := buildcache.PointerForUpdate(ctx, f, s)
		if err != nil || !was.Incomplete {
			return err
		}
		return f.CompleteIndex(ctx, s, was)
	})
}

// Current reads an index and its pointer. The index is nil if there is none. One that is there and is of no use is
// ErrUnreadable, with the pointer all the same.
func Current(ctx context.Context, f buildcache.Layout, s mirror.Store) (*buildcache.Pointer, *indices.Set, error) {
	was, err := buildcache.PointerForUpdate(ctx, f, s)
	if err != nil {
		return nil, nil, err
	}
	x, err := loadIndex(ctx, f, s, was)
	if NeedsRebuild(err) {
		err = fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if err == nil && was.Version == mirror.Absent {
		x = nil
	}
	return was, x, err
}

// ErrUnreadable: there is no index, or none that can be read.
var ErrUnreadable = errors.New("there is no index that can be read")
