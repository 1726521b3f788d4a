// Package publish puts Spack buildcaches where clients can find them, and keeps the
// mirrors there whole.
//
// Each operation first decides and then acts: a Plan is data that can be printed,
// and what is printed is what is done. The order of what is done is the promise: each
// step points only at what earlier steps made durable, so a reader who looks between any
// two requests, or finds the publisher dead there, has a mirror that works.
//
// Nothing here can delete from a mirror, and only the index, and with it the index of
// keys, is ever contended: it is replaced only as the version that was read, and
// merged again when another publisher was faster. So any number of publishers may
// write one mirror, and no package that one of them reported as published is lost.
package publish

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Store is what publishing needs of a mirror.
type Store interface {
	mirror.Reader
	mirror.Lister
	mirror.Writer
	mirror.Swapper
}

// Trust says whose packages may become reachable.
type Trust struct {
	// RequireSigned refuses packages that carry no signature.
	RequireSigned bool
	// Keys checks the signatures that there are, and are the only ones that are published.
	// Nil: signatures are not checked.
	Keys *key.Ring
	// Judged, if set, remembers which documents of the destination were checked by Keys, so that a
	// process that publishes often reads each of them once.
	Judged *Judged
}

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

// failed reports whether any finding is an error.
func failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// ErrUnresolved: other publishers kept changing the index for as long as we tried.
var ErrUnresolved = errors.New("other publishers keep changing it")
