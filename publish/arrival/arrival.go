// Package arrival says what can be wrong with a document that appears in a source while a daemon watches it.
package arrival

import (
	"errors"
	"strings"
)

// Any other error may be gone by the next time: the package may be on its way.
var (
	// ErrNoDocument: that is no name of a package's document.
	ErrNoDocument = errors.New("not the document of a package")
	// ErrNotSelected: the rules leave it out.
	ErrNotSelected = errors.New("not selected by the rules of the mirror")
	// ErrGone: the document is not there any more.
	ErrGone = errors.New("it is no longer there")
	// ErrAnother: the document is not the one that was read before.
	ErrAnother = errors.New("it was replaced by another document")
	// ErrRefused: the package will never be published as it is. The error may be a RefusedError.
	ErrRefused = errors.New("refused")
)

// A RefusedError says why a package will never be published as it is.
type RefusedError struct{ Reasons []error }

// Error returns all reasons on one line.
func (e *RefusedError) Error() string {
	return ErrRefused.Error() + ": " + strings.ReplaceAll(errors.Join(e.Reasons...).Error(), "\n", "; ")
}

// Unwrap returns ErrRefused and the reasons.
func (e *RefusedError) Unwrap() []error { return append([]error{ErrRefused}, e.Reasons...) }
