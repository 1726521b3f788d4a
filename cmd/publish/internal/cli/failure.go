package cli

import (
	"errors"
	"regexp"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/resume"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A failure is an error with an exit code.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// IsUsage reports whether an error is a mistake in the call or the configuration.
func IsUsage(err error) bool { return ExitCode(err) == ExitUsage }

// Fail gives an error an exit code.
func Fail(code int, err error) error {
	if err == nil {
		return nil
	}
	return &failure{code, err}
}

// FailedAt marks an error as one of a place other than the destination, in its message and its hints. It
// returns nil for nil.
func FailedAt(p field.Place, err error) error { return p.Failed(err, namedFlag) }

// ErrNoTempDir means that there is no directory for the socket and the queue of publish exec.
var ErrNoTempDir = errors.New("no directory for temporary files")

// ErrReported means that the failure has been printed as a result.
var ErrReported = errors.New("reported")

// ExitCode returns the exit code of an error, from the first row of the table that covers the error and has a
// code.
func ExitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	for _, r := range failures {
		if r.code == nil || !r.covers(err) {
			continue
		}
		if code := r.code(err); code != 0 {
			return code
		}
	}
	return ExitUpload
}

// Hints returns what to do about an error, in the words of the command line; none where the error says so
// itself.
func Hints(err error) []string { return HintsIn(err, CommandLine) }

// HintsIn returns what to do about an error, in the words of a front end: the hints of the first row of the
// table that covers the error and has some. Rows that only say how a run ended come last.
func HintsIn(err error, w Words) []string {
	if err == nil {
		return nil
	}
	if at, ok := errors.AsType[*field.PlaceError](err); ok {
		w = w.at(at.Place)
	}
	for _, general := range []bool{false, true} {
		for _, r := range failures {
			if r.hints == nil || r.general != general || !r.covers(err) {
				continue
			}
			if all := r.hints(err, w); len(all) > 0 {
				return w.fill(resume.Hints(err, all))
			}
		}
	}
	if IsUsage(err) && !saysWhatToDo(err.Error()) {
		return []string{w.Help}
	}
	return nil
}

// saysWhatToDo reports whether a message about wrong usage needs no hint.
func saysWhatToDo(said string) bool {
	for _, words := range []string{"--help", "did you mean", "want ", "give ", "leave it out", "it is a flag of "} {
		if strings.Contains(said, words) {
			return true
		}
	}
	return false
}

// Repeating says whether failed work is retried.
type Repeating int

const (
	Later   Repeating = iota // retry: the cause may pass
	Lasting                  // retry rarely: an operator must change something
	Suspect                  // a package of the run may be the cause: smaller runs find out which
)

// Repeat returns whether work that failed with an error is retried.
func Repeat(err error) Repeating {
	for _, r := range failures {
		if r.repeat != Later && r.covers(err) {
			return r.repeat
		}
	}
	if IsUsage(err) {
		return Lasting
	}
	return Later
}

// Words are the terms of a front end for the things that hints mention.
type Words struct {
	Setting             func(name string) string // a setting, by the name of its flag without hyphens
	Source, Destination string
	Server              string // setting with the address of the server that is read; empty: unknown
	Help                string // where all settings are explained
	NoCredentials       string // what to do without credentials that are accepted
	Unresolved          string // what to do when an index cannot be replaced
	// Denied returns what to do about a denied action, if more is known than its name. It may be nil, and
	// return "".
	Denied func(*mirror.DeniedError) string

	own, another string // of a place: whose credentials are used if not those of the destination, or how to give others
}

// CommandLine are the words of the command line.
var CommandLine = Words{
	Setting: Flag, Source: "SOURCE", Destination: "DESTINATION",
	Help:          "`publish --help`, and that of each command, says what there is",
	NoCredentials: "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in again[[; what is complete stays, the next run goes on from there|, and run again]]",
	Unresolved:    "run `publish index DESTINATION` when fewer publishers are at work",
}

// at returns the words for a place other than the destination.
func (w Words) at(p field.Place) Words {
	w.Setting = p.Calls(w.Setting)
	w.Destination, w.Server = p.Name, w.Setting("endpoint-url")
	profile, ok := p.Settings["profile"]
	switch {
	case ok && p.Own:
		w.own = "of " + profile
		w.NoCredentials = "log in again for the profile that " + profile + " names, or name another one[[; what is complete stays, the next run goes on from there|, and run again]]"
	case ok:
		w.another = ", or give " + profile + " with others"
		w.NoCredentials = "give " + profile + ", or " + w.NoCredentials
	}
	return w
}

var placeholder = regexp.MustCompile(`\{[a-z-]+\}`)

// fill replaces {name} in hints by the front end's name of the setting.
func (w Words) fill(hints []string) []string {
	for i, h := range hints {
		hints[i] = placeholder.ReplaceAllStringFunc(h, func(name string) string {
			switch name = strings.Trim(name, "{}"); name {
			case "source":
				return w.Source
			case "destination":
				return w.Destination
			}
			return w.Setting(name)
		})
	}
	return hints
}
