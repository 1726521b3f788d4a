package buildcache

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
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
	// Whole: Error names each of them.
	Whole bool
}

// Error says what was found. What is the same of many packages is one line, unless Whole is set.
func (e *FindingsError) Error() string {
	errs := slices.DeleteFunc(slices.Clone(e.Findings), func(f Finding) bool { return f.Severity != Error })
	lines := Lines(errs)
	if !e.Whole {
		lines = Grouped(errs)
	}
	return english.Plural(len(errs), "problem", "") + ":\n  " + strings.Join(lines, "\n  ")
}

// Lines returns findings as a line each.
func Lines(findings []Finding) []string {
	lines := make([]string, len(findings))
	for i, f := range findings {
		lines[i] = f.String()
	}
	return lines
}

// Grouped returns findings as a bounded number of lines, one for those that say the same.
func Grouped(findings []Finding) []string {
	remarks := make([]alike.Remark, len(findings))
	for i, f := range findings {
		remarks[i] = alike.Remark{Kind: string(f.Severity), File: f.File, Reason: oneLine(f.Reason), Line: f.String()}
	}
	return alike.Lines(remarks)
}

// Failed reports whether any finding is an error.
func Failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// ErrNoMirror: there is no mirror where one was expected.
var ErrNoMirror = errors.New("no Spack mirror is here")
