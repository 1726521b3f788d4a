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

// An outputError says that a result could not be written to standard output. It is about the reader of the
// result: what the command did is done, so it does not unwrap to what a full destination would be.
type outputError struct{ err error }

func (e *outputError) Error() string {
	cause := e.err
	var at *fs.PathError // "write /dev/stdout" says the same again
	if errors.As(e.err, &at) {
		cause = at.Err
	}
	return "the result could not be written to standard output: " + cause.Error()
}

// results is standard output. It keeps the first error, so that a command that does not look at it does not
// end as if all had been written.
type Results struct {
	w io.Writer

	mu    sync.Mutex // guards what follows
	err   error
	begun bool
}

// newResults returns the standard output that w is.
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

// ReportVersion grows when a member changes its meaning or goes; new members may come at
// any time. See docs/json-report.md.
const ReportVersion = 1

// ShownWarnings is how many warnings are shown one by one. The JSON report has all.
const ShownWarnings = 20

// PrintWarnings prints warnings one by one, as far as they are shown, each after a prefix.
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

// PrintInvalidation prints what was invalidated; nil is nothing.
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
