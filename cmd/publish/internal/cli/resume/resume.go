// Package resume knows which commands leave nothing that the next run resumes, so that no hint promises it after them.
package resume

import (
	"errors"
	"slices"
	"strings"
)

// nothing is an error of a command that leaves nothing behind.
type nothing struct{ error }

func (n *nothing) Unwrap() error { return n.error }

// Nothing says of an error that its command leaves nothing behind: it only reads, or what it writes is there whole or not at all. It returns nil for nil.
func Nothing(err error) error {
	if err == nil {
		return nil
	}
	return &nothing{err}
}

// As says of an error what is said of another one, in whose place it is.
func As(was, err error) error {
	if left := (*nothing)(nil); errors.As(was, &left) {
		return Nothing(err)
	}
	return err
}

// promises are what hints say of the next run, and what is left of that where there is nothing to resume.
var promises = strings.NewReplacer(
	"then run again: what is complete stays, the rest resumes", "then run again",
	"run again: what is complete stays, the rest resumes", "give more time with {timeout}", // which has passed
	"; what is complete stays, the next run goes on from there", ", and run again",
	", what is complete stays", "",
	"; what is complete stays", "",
	"what is complete stays, and the index names nothing that is missing; please", "please",
	"the index names nothing that is not there; run again and the rest resumes", "run again",
	": the mirror is intact, and what is complete is not sent again", "",
)

// Hints returns hints about an error, without what they promise of the next run where there is nothing to resume.
func Hints(err error, hints []string) []string {
	if left := (*nothing)(nil); !errors.As(err, &left) {
		return hints
	}
	hints = slices.Clone(hints)
	for i, h := range hints {
		hints[i] = promises.Replace(h)
	}
	return hints
}
