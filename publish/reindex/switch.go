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

// A change is an index that replaces the index of a pointer.
type change struct {
	was *buildcache.Pointer
	x   *indices.Set
	// offers is the difference between the packages of x and those of the previous index; nil if that cannot
	// be read.
	offers *indices.Change
	// relied is when the writer began to check that no prune is about to delete packages of x; zero: none of
	// them is old.
	relied time.Time
	// prepared, if set, is called with the digest of the new index while the record is written.
	prepared func(digest string)
}

// replaceIndex makes c.x the index if the pointer is still c.was. Otherwise the error is mirror.ErrConflict.
// It is the only place where an index is replaced, and each replacement leaves a record in the history.
//
// Some storage may ignore conditions on writes. Then two publishers could replace each other's index and both
// report success. So the storage is tested before its first index is replaced. In layout v3 the new pointer
// records the result. The pointer is never written only for that, because clients that have the index would
// read it again.
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
		// A publisher that may write only packages and indices continues without a record.
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
	if o, ok := f.Marker(); ok { // the marker is stored before any index
		u := o.Upload()
		there = &u
	}
	return mirror.ProverOf(s).Prove(ctx, was.Version, there)
}

// past returns the past for the new pointer. A new epoch begins if the index does more than add packages to
// the previous one: from then on an index could become equal to an earlier one.
func (c change) past(ctx context.Context) (history.Past, error) {
	past := c.was.Past.Releasing(c.x.Has)
	if c.was.Generation == 0 || !c.was.Recalled && c.offers != nil && len(c.offers.Added) > 0 && len(c.offers.Removed) == 0 {
		return past, nil
	}
	if c.offers == nil {
		if same, err := c.was.Names(ctx, c.x); same || err != nil {
			return past, err // the same index, whose document is missing
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

// named returns the names of packages for records, sorted.
func named(entries map[spec.Hash]index.Entry) []string {
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, NameOf(e))
	}
	slices.Sort(names)
	return names
}

// NameOf returns how a record names a package of an index.
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
