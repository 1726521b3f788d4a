package remote

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// PrintDrained prints what came of a drain, and returns an error if not everything is published.
func PrintDrained(out io.Writer, shown cli.Output, left daemon.Drained, asJSON bool) error {
	if asJSON {
		if err := cli.WriteJSON(out, left); err != nil {
			return err
		}
	} else if !shown.Quiet || len(left.Failed)+len(left.Incomplete) > 0 {
		escape.Fprintf(out, "published %d, failed %d, not complete %d\n", left.Published, len(left.Failed), len(left.Incomplete))
		for _, j := range left.Failed {
			escape.Fprintf(out, "  failed: %s %s: %s\n", j.Mirror, j.Package, j.Reason)
		}
		for _, p := range left.Incomplete {
			escape.Fprintf(out, "  not complete: %s %s: %s\n", p.Mirror, p.File, p.Reason)
		}
	}
	for mirror, why := range left.Blocked {
		return cli.Fail(cli.ExitUpload, fmt.Errorf("mirror %s: %s", mirror, why))
	}
	if len(left.Failed)+len(left.Incomplete) > 0 {
		return cli.Fail(cli.ExitSource, errors.New("not everything was published"))
	}
	if len(left.NotInvalidated) > 0 {
		return cli.Fail(cli.ExitInvalidation, fmt.Errorf("published, but an invalidation failed: %s", strings.Join(left.NotInvalidated, "; ")))
	}
	return nil
}
