package buildcache

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Severity says what a finding means for the run.
type Severity string

// An Error keeps a package from being published, or is damage in a mirror; a
// Warning does not.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// A Finding is something wrong with one file or object.
type Finding struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"` // below SOURCE, or below DESTINATION
	Reason   string   `json:"reason"`
}

// In returns a finding about a file or an object.
func (s Severity) In(file, reason string) Finding { return Finding{s, file, reason} }

func (f Finding) String() string { return fmt.Sprintf("%q: %s", f.File, oneLine(f.Reason)) }

// oneLine returns text that may hold what others wrote, as it is if all of it can be seen, and written
// out as in Go if not: a name in it must not look like a line of ours.
func oneLine(text string) string {
	if spec.Readable(text) {
		return text
	}
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

// A FindingsError stops a run because of what was found, all of it.
type FindingsError struct {
	Findings []Finding
	// Held: packages without findings were held back as well. Options.KeepGoing publishes them.
	Held bool
}

func (e *FindingsError) Error() string {
	errs := slices.DeleteFunc(slices.Clone(e.Findings), func(f Finding) bool { return f.Severity != Error })
	lines := make([]string, len(errs))
	for i, f := range errs {
		lines[i] = "  " + f.String()
	}
	return english.Plural(len(errs), "problem", "") + ":\n" + strings.Join(lines, "\n")
}

// Failed reports whether any finding is an error.
func Failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// ErrNoMirror: there is no mirror where one was expected.
var ErrNoMirror = errors.New("no Spack mirror is here")
