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

func (f Finding) String() string {
	if f.File == "" { // it is about the whole
		return alike.OneLine(f.Reason)
	}
	return fmt.Sprintf("%q: %s", f.File, alike.OneLine(f.Reason))
}

// Parts implements alike.Remark.
func (f Finding) Parts() (kind, file, reason string) {
	return string(f.Severity), f.File, alike.OneLine(f.Reason)
}

// A FindingsError stops a run because of what was found, all of it.
type FindingsError struct {
	Findings []Finding
	// Held: packages without findings were held back as well. Options.KeepGoing publishes them.
	Held bool
	// Whole: Error names each of them.
	Whole bool
}

// Is reports whether it was found that no more files may be open, which is the fault of none of them.
func (e *FindingsError) Is(target error) bool {
	return (target == syscall.EMFILE || target == syscall.ENFILE) && slices.ContainsFunc(e.Findings, func(f Finding) bool {
		return strings.HasSuffix(f.Reason, target.Error())
	})
}

// Error says what was found. What is the same of many packages is one line, unless Whole is set.
func (e *FindingsError) Error() string {
	errs := slices.DeleteFunc(slices.Clone(e.Findings), func(f Finding) bool { return f.Severity != Error })
	return english.Plural(len(errs), "problem", "") + ":\n  " + strings.Join(alike.Lines(errs, e.Whole), "\n  ")
}

// Failed reports whether any finding is an error.
func Failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// ErrNoMirror: there is no mirror where one was expected.
var ErrNoMirror = errors.New("no Spack mirror is here")
