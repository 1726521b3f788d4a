package wrap

import (
	"context"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// provePublishing makes sure, before a command that may run for hours, that what it builds can be published:
// that there are credentials, that the destination can be listed, and that it takes conditional
// writes. It stores nothing. A dry run only lists.
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
		return reindex.ProveWrites(ctx, to.Mirror(""))
	}()
	if err = cli.Stopped(ctx, err); err != nil {
		return fmt.Errorf("COMMAND was not started, because nothing can be published: %w", err)
	}
	return nil
}
