package main

import (
	"context"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish"
)

// provePublishing makes sure, before a command that may run for hours, that what it builds can be published:
// that there are credentials, that the destination can be listed, and that it takes conditional
// writes. It stores nothing. A dry run only lists.
func provePublishing(ctx context.Context, env cli.Env, f *flags, where string) error {
	err := func() error {
		to, err := f.storage.open(ctx, where, env.Log())
		if err != nil {
			return err
		}
		defer to.close()
		if _, err := f.cdn.open(ctx, to, env.Log()); err != nil {
			return err
		}
		if err := listed(ctx, to); err != nil || f.dryRun {
			return err
		}
		return publish.ProveWrites(ctx, to.mirror(""))
	}()
	if err = cli.Stopped(ctx, err); err != nil {
		return fmt.Errorf("COMMAND was not started, because nothing can be published: %w", err)
	}
	return nil
}
