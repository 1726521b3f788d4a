package reindex

import (
	"context"
	"errors"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// ProveWrites makes sure that a store can be written to, and that it obeys conditions. It tries a write that must
// be refused, so nothing is stored: the write replaces a version that no object has. A store without the
// permission to write fails with a mirror.DeniedError, and one that ignores If-Match with a mirror.ConditionError.
func ProveWrites(ctx context.Context, s mirror.Store) error {
	if p := mirror.ProverOf(s); p != nil && p.Proof(noVersion) != "" {
		return p.Prove(ctx, noVersion, nil)
	}
	marker, _ := buildcache.Layouts()[0].Marker()
	_, err := s.Swap(ctx, marker.Upload(), noVersion)
	if errors.Is(err, mirror.ErrConflict) {
		return nil
	}
	return err // nil if the marker is there
}

// noVersion is a version that no object has: it has the form of an ETag of S3.
const noVersion mirror.Version = `"00000000000000000000000000000000"`
