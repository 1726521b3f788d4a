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

// A Make returns the new index. now is the index that was points at. It is read-only, and nil if there is no
// readable index. A nil result leaves the index unchanged.
type Make func(ctx context.Context, was *buildcache.Pointer, now *indices.Set) (*indices.Set, error)

// Replace replaces an index by the result of make. It calls make again if another publisher has changed the
// index, or if so much time has passed that a prune may have begun since. An index with the same records is
// not written, unless make has changed the past of was. An index of a newer version is an error.
//
// A Merge only adds packages. Replace is for a writer that also removes packages.
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
				x.Part(x.Generations[i].Index) // an index may become empty, but must not disappear
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
		}
		if now == nil && was.Version == mirror.Absent {
			now = new(indices.Set) // the first index adds all its packages
		}
		if now != nil {
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

// Edit changes the records of an index, or which packages its pointer keeps out. edit may modify the given
// indices and the past of the given pointer. If another publisher changes the index meanwhile, edit is called
// again with the newer index, as in Replace. Nothing is written if nothing has changed. The error is
// buildcache.ErrNoMirror if there is no index.
func Edit(ctx context.Context, f buildcache.Layout, s mirror.Store, edit func(ctx context.Context, was *buildcache.Pointer, x *indices.Set) error) (Result, error) {
	return EditRead(ctx, f, s, new(Reading), edit)
}

// A Reading is an index that was read, with its pointer as read by buildcache.PointerForUpdate.
type Reading struct {
	Pointer *buildcache.Pointer
	Indices *indices.Set
}

// EditRead is like Edit, but starts from an index that was just read. It reads the index again only if
// another publisher has changed it since. read is cleared.
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
				if was.Incomplete { // its publisher died before it had finished
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

// Complete finishes the work of a writer that died: it writes the digest of an index of layout v2.
func Complete(ctx context.Context, f buildcache.Layout, s mirror.Store) error {
	return conflict.Retry(ctx, func() error {
		was, err := buildcache.PointerForUpdate(ctx, f, s)
		if err != nil || !was.Incomplete {
			return err
		}
		return f.CompleteIndex(ctx, s, was)
	})
}

// Current reads an index and its pointer. The index is nil if there is none. For an unusable index, the error
// is ErrUnreadable, and the pointer is still returned.
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

// ErrUnreadable means that there is no readable index.
var ErrUnreadable = errors.New("there is no index that can be read")
