package remote

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// A remark is a message about a package in a mirror. Equal messages are printed in one line.
type remark struct{ mirror, shown, file, reason string }

func (r remark) Parts() (kind, file, reason string) {
	return r.mirror, r.file, r.mirror + ": " + alike.OneLine(r.reason)
}
func (r remark) String() string { return r.mirror + " " + r.shown + ": " + alike.OneLine(r.reason) }

// printRemarks prints remarks, each line after a prefix.
func printRemarks(to io.Writer, word string, all []remark, shown cli.Output) {
	for _, l := range alike.Lines(all, shown.Verbose) {
		escape.Fprintf(to, "%s%s\n", word, l)
	}
}

// PrintDrained prints the result of a drain, and returns an error if not everything is published.
func PrintDrained(out io.Writer, shown cli.Output, left daemon.Drained, asJSON bool) error {
	if asJSON {
		if err := cli.WriteJSON(out, left); err != nil {
			return err
		}
	} else if !shown.Quiet || len(left.Failed)+len(left.Incomplete) > 0 {
		escape.Fprintf(out, "published %d, failed %d, not complete %d\n", left.Published, len(left.Failed), len(left.Incomplete))
		var failed, incomplete []remark
		for _, j := range left.Failed {
			failed = append(failed, remark{j.Mirror, j.Package, j.File, j.Reason})
		}
		for _, p := range left.Incomplete {
			incomplete = append(incomplete, remark{p.Mirror, p.File, p.File, p.Reason})
		}
		printRemarks(out, "  failed: ", failed, shown)
		printRemarks(out, "  not complete: ", incomplete, shown)
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
