package cli

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// An outputError says that a result could not be written to standard output. The work of the command is done,
// so it does not unwrap to the error of a full destination.
type outputError struct{ err error }

func (e *outputError) Error() string {
	cause := e.err
	var at *fs.PathError // "write /dev/stdout" would repeat the message
	if errors.As(e.err, &at) {
		cause = at.Err
	}
	return "the result could not be written to standard output: " + cause.Error()
}

// Results is standard output. It keeps the first error, so that a command that ignores write errors does not
// exit as if all output had been written.
type Results struct {
	w io.Writer

	mu    sync.Mutex // guards the fields below
	err   error
	begun bool
}

// newResults returns w as standard output.
func newResults(w io.Writer) *Results { return &Results{w: w} }

// Write implements io.Writer.
func (r *Results) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = r.begun || n > 0
	if err == nil {
		return n, nil
	}
	if r.err == nil {
		r.err = &outputError{err}
	}
	return n, r.err
}

// hasBegun reports whether anything was written.
func (r *Results) hasBegun() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begun
}

// failed returns the first error.
func (r *Results) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// ReportVersion grows when a member changes its meaning or is removed; new members may come at any time. See
// docs/json-report.md.
const ReportVersion = 1

// ShownWarnings is how many warnings are shown individually. The JSON report has all.
const ShownWarnings = 20

// PrintWarnings prints warnings one by one, each after a prefix, up to ShownWarnings unless whole.
func PrintWarnings(w io.Writer, prefix string, findings []buildcache.Finding, whole bool) {
	lines := alike.Lines(findings, whole)
	for i, l := range lines {
		if i == ShownWarnings && !whole {
			escape.Fprintf(w, "%swarning: and %d more, see --json\n", prefix, len(lines)-i)
			return
		}
		escape.Fprintf(w, "%swarning: %s\n", prefix, l)
	}
}

// PrintInvalidation prints the invalidated paths; nil prints nothing.
func PrintInvalidation(w io.Writer, i *target.Invalidation) {
	if i != nil {
		escape.Fprintf(w, "invalidation %s: %s %s\n", i.ID, i.Status, strings.Join(i.Paths, " "))
	}
}

// WriteJSON writes a document for machines that people can read, too.
func WriteJSON(w io.Writer, document any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(document)
}
