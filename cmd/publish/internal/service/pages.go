package service

import (
	"context"
	"log/slog"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/pages"
)

// updatePages updates the pages of mirrors. Failures are logged. Failures that another attempt does not repair
// are not returned: a page that needs an operator must not prevent invalidations.
func updatePages(ctx context.Context, d *target.Destination, publicURL string, mirrors []string, trust buildcache.Trust, log *slog.Logger) ([]pages.Page, error) {
	mirrors = slices.Clone(mirrors)
	slices.Sort(mirrors)
	all, err := pages.Published(ctx, d, publicURL, slices.Compact(mirrors), trust.Keys)
	if err == nil || ctx.Err() != nil {
		return all, err
	}
	lasting := cli.Repeat(err) == cli.Lasting
	log.Warn("a page is not up to date", "reason", err.Error(), "tried again", !lasting)
	if lasting {
		return all, nil
	}
	return all, err
}
