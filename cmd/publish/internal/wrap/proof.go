package wrap

import (
	"context"
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// provePublishing checks, before a command that may run for hours, that its packages can be published: that
// there are credentials, that the destination can be listed, and that it supports conditional writes. It stores
// nothing. A dry run only lists.
func provePublishing(ctx context.Context, j *task.Publish) error {
	err := func() error {
		to, err := target.Open(ctx, j.Destination, j.Target, j.Environment)
		if err != nil {
			return err
		}
		defer to.Close()
		if _, err := to.OpenCDN(ctx, nil); err != nil {
			return err
		}
		if err := to.Listed(ctx); err != nil || j.DryRun {
			return err
		}
		return ProveWrites(ctx, to.Mirror(""))
	}()
	if err = cli.Stopped(ctx, err); err != nil {
		return fmt.Errorf("COMMAND was not started, because nothing can be published: %w", err)
	}
	return nil
}

// ProveWrites checks that a store can be written to and obeys conditions. It tries a write that must be
// refused, so nothing is stored: the write replaces a version that no object has. A store without write
// permission fails with a mirror.DeniedError, and a store that ignores If-Match with a mirror.ConditionError.
func ProveWrites(ctx context.Context, s mirror.Store) error {
	if p := mirror.ProverOf(s); p != nil && p.Proof(noVersion) != "" {
		return p.Prove(ctx, noVersion, nil)
	}
	marker, _ := buildcache.Layouts()[0].Marker()
	_, err := s.Swap(ctx, marker.Upload(), noVersion)
	if errors.Is(err, mirror.ErrConflict) {
		return nil
	}
	return err // nil if the marker exists
}

// noVersion is a version that no object has: it has the form of an ETag of S3.
const noVersion mirror.Version = `"00000000000000000000000000000000"`
