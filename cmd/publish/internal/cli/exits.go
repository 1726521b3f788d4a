package cli

import (
	"fmt"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/style"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

// An Exit is a row of the table of exit codes, which docs/exit-codes.md shows in the same words.
type Exit struct {
	Code                  int
	Meaning, Mirror, Todo string // what it means, whether the mirror is changed, what to do
}

// Exits is the table of exit codes.
var Exits = []Exit{
	{ExitDone, "done, nothing to do, or a dry run",
		"as planned", ""},
	{ExitInternal, "the result could not be written to standard output: it is full, or closed",
		"as planned", "run again with another standard output: what is published is not sent again"},
	{ExitInternal, "a defect of this program, which the message says",
		"it works, as always", "report it"},
	{ExitUsage, "called wrongly: flags, arguments, `publish.yaml`, an unknown variable `PUBLISH_*`; swapped arguments, a DESTINATION that is a file, a name that no bucket can have; a file that is named and is a pipe or a device; a private key that cannot sign: expired, revoked (also if only the copy of its public key in DESTINATION says so), of no use for signing, with a passphrase that is wrong or missing; for `publish init` a file that is there already",
		"no", "correct what the message names"},
	{ExitCredentials, "credentials missing, wrong or expired; a signing key in gpg or AWS KMS that does not sign",
		"what is complete stays; the index names nothing that is missing", "log in, run again"},
	{ExitSource, "something in SOURCE is invalid, or the packages of a rebuild are",
		"with `--keep-going` the rest is published; else nothing is reachable that was not", "mend what is listed"},
	{ExitUpload, "the destination refused, cannot be reached, or does not answer as S3 does; also for `publish verify`, which then calls nothing damaged",
		"what is complete stays", "the hint says which permission or bucket; run again"},
	{ExitIndex, "the index could not be replaced: it is of a newer version, or others kept changing it",
		"packages are there, not in the index", "update the program, or run again"},
	{ExitInvalidation, "published, but the CloudFront invalidation failed",
		"yes", "run again; caches follow the object's own `Cache-Control` until then"},
	{ExitVerification, "`publish verify`: damage. `publish`: published, but not seen through `--public-url`",
		"yes", "read the findings; look at what stands before the bucket"},
	{ExitCatalog, "published, but the page of the cache (`--catalog`) could not be brought up to date",
		"yes", "mend what the message names, then `publish catalog`; or publish again: the next new index brings it up to date"},
	{ExitTimeout, "`--timeout` has passed",
		"what is complete stays", "run again: the rest resumes"},
	{ExitSignal + 1, "stopped by SIGHUP: the terminal or the session was closed",
		"what is complete stays", "run again, with `nohup` or in `tmux`"},
	{ExitSignal + 2, "stopped by SIGINT (Ctrl-C)",
		"what is complete stays", "run again"},
	{ExitSignal + 15, "stopped by SIGTERM",
		"what is complete stays", "run again"},
}

// ExitTable is the table of exit codes for a terminal.
func ExitTable() string {
	var b strings.Builder
	for _, e := range Exits {
		b.WriteString(help.Hang(fmt.Sprintf("%4d  ", e.Code), e.Meaning, style.Width, 6))
		for _, part := range []struct{ name, text string }{{"is the mirror changed?", e.Mirror}, {"what to do:", e.Todo}} {
			if part.text != "" {
				b.WriteString(help.Hang("      ", part.name+" "+part.text, style.Width, 6))
			}
		}
		b.WriteByte('\n')
	}
	return strings.TrimRight(b.String(), "\n")
}
