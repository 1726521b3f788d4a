package reindex

import (
	"context"
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// replaceIndex makes x the index if the pointer still is was: mirror.ErrConflict if not. Before an index is
// replaced for the first time on storage that may ignore conditions, it is made sure that it does not: else two
// publishers would replace each other's index, and both would report success.
//
// In layout v3 the pointer remembers it, from this write on. It is never written only to remember that,
// because a client that has the index already would read it again.
func replaceIndex(ctx context.Context, f buildcache.Layout, s mirror.Store, was *buildcache.Pointer, x *buildcache.Indices, prepared func(digest string)) (*buildcache.Pointer, error) {
	was.NeedsProof(s)
	if was.Proof != "" {
		var there *mirror.Upload
		if o, ok := f.Marker(); ok { // which is stored before any index
			u := o.Upload()
			there = &u
		}
		if err := mirror.ProverOf(s).Prove(ctx, was.Version, there); err != nil {
			return nil, err
		}
	}
	now, err := f.WriteIndex(ctx, s, was, x, prepared)
	if err != nil {
		return nil, err
	}
	if err := compete(ctx, func() error { return f.CompleteIndex(ctx, s, now) }); err != nil {
		return nil, fmt.Errorf("index hash: %w", err)
	}
	return now, nil
}

// ProveWrites makes sure that a store can be written to, and that it obeys conditions. It tries a write that must
// be refused, so nothing is stored: the write replaces a version that no object has. A store without the
// permission to write fails with a mirror.DeniedError, and one that ignores If-Match with a mirror.ConditionError.
func ProveWrites(ctx context.Context, s mirror.Store) error {
	if p := mirror.ProverOf(s); p != nil && p.Proof(noVersion) != "" {
		return p.Prove(ctx, noVersion, nil)
	}
	marker, _ := buildcache.V3.Marker()
	_, err := s.Swap(ctx, marker.Upload(), noVersion)
	if errors.Is(err, mirror.ErrConflict) {
		return nil
	}
	return err // nil if the marker is there
}

// noVersion is a version that no object has: it has the form of an ETag of S3.
const noVersion mirror.Version = `"00000000000000000000000000000000"`
