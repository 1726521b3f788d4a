package reindex

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A change is an index that is to replace the one that a pointer names.
type change struct {
	was *buildcache.Pointer
	x   *indices.Set
	// offers is what x offers and the index before does not, and the other way round; nil if that one cannot be read.
	offers *indices.Change
	// relied is when the writer began to make sure that no prune is about to delete what x offers; zero: nothing of
	// it is old.
	relied time.Time
	// prepared, if set, is called with the digest of the new index, beside the record.
	prepared func(digest string)
}

// replaceIndex makes x the index if the pointer still is was: mirror.ErrConflict if not. It is the only place where
// an index is switched, and each switch leaves a record in the history.
//
// Before an index is replaced for the first time on storage that may ignore conditions, it is made sure that it does
// not: else two publishers would replace each other's index, and both would report success. In layout v3 the pointer
// remembers it, from this write on. It is never written only to remember that, because a client that has the index
// already would read it again.
func replaceIndex(ctx context.Context, f buildcache.Layout, s mirror.Store, c change) (*buildcache.Pointer, error) {
	c.was.NeedsProof(s)
	if err := c.was.Recall(ctx, f, s, s); err != nil {
		return nil, err
	}
	past, err := c.past(ctx)
	if err != nil {
		return nil, err
	}
	now, err := f.WriteIndex(ctx, notice.Timely(s, c.relied), c.was, c.x, past, func(now *buildcache.Pointer) (recorded bool, err error) {
		if err := prove(ctx, f, s, c.was); err != nil {
			return false, err
		}
		var g defect.Group
		g.Go(func() error {
			if c.prepared != nil {
				c.prepared(now.Digest())
			}
			return nil
		})
		err = history.Write(ctx, s, f.IndexID(), c.record(ctx, now))
		// A publisher that may only write packages and indices goes on without.
		if recorded = err == nil; errors.Is(err, mirror.ErrDenied) {
			err = nil
		}
		return recorded, errors.Join(err, g.Wait())
	})
	if err != nil {
		return nil, err
	}
	if err := conflict.Retry(ctx, func() error { return f.CompleteIndex(ctx, s, now) }); err != nil {
		return nil, fmt.Errorf("index hash: %w", err)
	}
	return now, nil
}

func prove(ctx context.Context, f buildcache.Layout, s mirror.Store, was *buildcache.Pointer) error {
	if was.Proof == "" {
		return nil
	}
	var there *mirror.Upload
	if o, ok := f.Marker(); ok { // which is stored before any index
		u := o.Upload()
		there = &u
	}
	return mirror.ProverOf(s).Prove(ctx, was.Version, there)
}

// past is what the new pointer says. An epoch ends with an index that is not the one before and more packages: from
// then on an index could come to be the same as an earlier one.
func (c change) past(ctx context.Context) (history.Past, error) {
	past := c.was.Past.Releasing(c.x.Has)
	if c.was.Generation == 0 || !c.was.Recalled && c.offers != nil && len(c.offers.Added) > 0 && len(c.offers.Removed) == 0 {
		return past, nil
	}
	if c.offers == nil {
		if same, err := c.was.Names(ctx, c.x); same || err != nil {
			return past, err // it is missing
		}
	}
	past.Epoch = "generation " + strconv.Itoa(c.was.Generation+1)
	return past, nil
}

func (c change) record(ctx context.Context, now *buildcache.Pointer) *history.Record {
	r := &history.Record{
		Generation: now.Generation, ID: now.Record, Parent: c.was.Parent(), Digest: now.Digest(), Packages: c.x.Offered(),
		Time: time.Now().UTC().Truncate(time.Second), Author: history.AuthorOf(ctx), Added: []string{}, Removed: []string{}, Past: now.Past,
	}
	if c.offers != nil {
		r.Added, r.Removed = named(c.offers.Added), named(c.offers.Removed)
	}
	return r
}

// named are packages as records name them, in order.
func named(entries map[spec.Hash]index.Entry) []string {
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, NameOf(e))
	}
	slices.Sort(names)
	return names
}

// NameOf is how a record names a package of an index.
func NameOf(e index.Entry) string {
	for _, l := range buildcache.Layouts() {
		for _, g := range l.Generations() {
			if n, err := spec.ParseNode(e.Node, g.Specs); err == nil {
				return history.PackageName(e.Name, n.Version, e.Hash)
			}
		}
	}
	return history.PackageName(e.Name, "", e.Hash)
}
