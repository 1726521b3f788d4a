package buildcache

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
)

// A Severity says what a finding means for the run.
type Severity string

// An Error keeps a package from being published, or reports damage in a mirror. A Warning does neither.
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

func (f Finding) String() string {
	if f.File == "" { // not about a single file
		return alike.OneLine(f.Reason)
	}
	return fmt.Sprintf("%q: %s", f.File, alike.OneLine(f.Reason))
}

// Parts implements alike.Remark.
func (f Finding) Parts() (kind, file, reason string) {
	return string(f.Severity), f.File, alike.OneLine(f.Reason)
}

// A FindingsError stops a run and holds all its findings.
type FindingsError struct {
	Findings []Finding
	// Held means that packages without findings were not published either. Options.KeepGoing publishes them.
	Held bool
	// Whole makes Error list every finding.
	Whole bool
}

// Is reports whether a finding was caused by the limit on open files, which is not a fault of the file.
func (e *FindingsError) Is(target error) bool {
	return (target == syscall.EMFILE || target == syscall.ENFILE) && slices.ContainsFunc(e.Findings, func(f Finding) bool {
		return strings.HasSuffix(f.Reason, target.Error())
	})
}

// Error lists the findings. The same finding about many packages takes one line, unless Whole is set.
func (e *FindingsError) Error() string {
	errs := slices.DeleteFunc(slices.Clone(e.Findings), func(f Finding) bool { return f.Severity != Error })
	return english.Plural(len(errs), "problem", "") + ":\n  " + strings.Join(alike.Lines(errs, e.Whole), "\n  ")
}

// Failed reports whether any finding is an error.
func Failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// ErrNoMirror means that no mirror was found where one was expected.
var ErrNoMirror = errors.New("no Spack mirror is here")
