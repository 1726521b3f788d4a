package cli

import (
	"fmt"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/style"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

// Exit codes are an interface: see docs/exit-codes.md.
const (
	ExitDone         = 0 // published, unchanged, or a dry run
	ExitInternal     = 1
	ExitUsage        = 2
	ExitCredentials  = 3 // missing, or not accepted
	ExitSource       = 4 // the source, or a part of it, is invalid
	ExitUpload       = 5
	ExitIndex        = 6 // an index could not be replaced
	ExitInvalidation = 7 // published, but caches may serve the old index
	ExitVerification = 8 // damage found, or published and not seen through the public URL
	ExitCatalog      = 9 // published, but the page of the cache is out of date
	ExitTimeout      = 124
	ExitNotRunnable  = 126 // as in a shell, for the command of publish exec
	ExitNotFound     = 127
	ExitSignal       = 128 // plus the number of the signal
)

// classes names the exit codes for programs: outputs of the action, responses and metrics of the daemon.
var classes = map[int]string{
	ExitInternal: "internal", ExitUsage: "config", ExitCredentials: "auth", ExitSource: "source", ExitUpload: "upload",
	ExitIndex: "index", ExitInvalidation: "invalidation", ExitVerification: "verify", ExitCatalog: "catalog", ExitTimeout: "timeout",
}

// ClassOf returns the class of failure of an exit code; empty for success, and for a stop by a signal.
func ClassOf(code int) string { return classes[code] }

// An Exit is a row of the table of exit codes. docs/exit-codes.md shows the same words.
type Exit struct {
	Code                  int
	Meaning, Mirror, Todo string // meaning, whether the mirror is changed, what to do
}

// Exits is the table of exit codes.
var Exits = []Exit{
	{ExitDone, "done, nothing to do, or a dry run",
		"as planned", ""},
	{ExitInternal, "the result could not be written to standard output, which is full or closed",
		"as planned", "run again with another standard output: published objects are not sent again"},
	{ExitInternal, "a defect of this program, described in the message",
		"the mirror works", "report it"},
	{ExitUsage, "wrong usage: flags, arguments, `publish.yaml`, an unknown variable `PUBLISH_*`; swapped arguments, a DESTINATION that is a file, an impossible bucket name; a named file that is a pipe or a device; a private key that cannot sign (expired, revoked, also if only in the copy of its public key in DESTINATION, not a signing key, passphrase wrong or missing); for `publish init` a file that already exists",
		"no", "correct what the message names"},
	{ExitCredentials, "credentials are missing, wrong or expired; or a signing key in gpg or AWS KMS does not sign",
		"completed objects stay; the index names only stored packages", "log in and run again"},
	{ExitSource, "something in SOURCE is invalid; in a rebuild, packages of the mirror are",
		"with `--keep-going` the rest is published; otherwise clients see no change", "repair the listed packages"},
	{ExitUpload, "the destination refused a request, cannot be reached, or does not answer as S3 does; also from `publish verify`, which then reports no damage",
		"completed objects stay", "see the hint for the permission or the bucket; run again"},
	{ExitIndex, "the index could not be read or replaced: it has a newer version, or others kept changing it",
		"packages are stored, but not in the index", "update the program, or run again"},
	{ExitInvalidation, "published, but the CloudFront invalidation failed",
		"yes", "run again; until then caches follow the `Cache-Control` of the object"},
	{ExitVerification, "`publish verify`: damage. `publish`: published, but not visible through `--public-url`",
		"yes", "read the findings; check the proxies and caches in front of the bucket"},
	{ExitCatalog, "published, but the page of the cache (`--catalog`) could not be updated",
		"yes", "correct what the message names, then run `publish catalog`; or publish again: the next new index updates the page"},
	{ExitTimeout, "`--timeout` has passed",
		"completed objects stay", "run again: the rest resumes"},
	{ExitNotRunnable, "`publish exec`: COMMAND cannot be run; or the exit code of COMMAND",
		"no", "make the file executable, and check that it was built for this machine"},
	{ExitNotFound, "`publish exec`: COMMAND is not found; or the exit code of COMMAND",
		"no", "correct its name, or PATH"},
	{ExitSignal + 1, "stopped by SIGHUP: the terminal or the session was closed",
		"completed objects stay", "run again, with `nohup` or in `tmux`"},
	{ExitSignal + 2, "stopped by SIGINT (Ctrl-C)",
		"completed objects stay", "run again"},
	{ExitSignal + 15, "stopped by SIGTERM",
		"completed objects stay", "run again"},
}

// ExitTable returns the table of exit codes for a terminal.
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
