// Package resume marks errors of commands after which the next run has nothing to resume, so that no hint promises
// that.
package resume

import (
	"errors"
	"regexp"
)

// nothing is an error of a command that leaves nothing behind.
type nothing struct{ error }

func (n *nothing) Unwrap() error { return n.error }

// Nothing marks the error of a command that leaves nothing behind: the command only reads, or its result is complete
// or missing. It returns nil for nil.
func Nothing(err error) error {
	if err == nil {
		return nil
	}
	return &nothing{err}
}

// As marks err if was is marked. err replaces was.
func As(was, err error) error {
	if left := (*nothing)(nil); errors.As(was, &left) {
		return Nothing(err)
	}
	return err
}

// promise is the part of a hint about what the next run resumes, and, behind a bar, what is said instead where
// there is nothing to resume: [[promise]] or [[promise|instead]].
var promise = regexp.MustCompile(`\[\[([^|\]]*)\|?([^\]]*)\]\]`)

// Hints returns hints about an error, with what they promise of the next run, or what they say instead if there is
// nothing to resume.
func Hints(err error, hints []string) []string {
	said := "$1"
	if left := (*nothing)(nil); errors.As(err, &left) {
		said = "$2"
	}
	all := make([]string, len(hints))
	for i, h := range hints {
		all[i] = promise.ReplaceAllString(h, said)
	}
	return all
}
