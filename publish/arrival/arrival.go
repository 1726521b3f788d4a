// Package arrival defines errors of a document that appears in a source while a daemon watches it.
package arrival

import (
	"errors"
	"strings"
)

// Any other error may be temporary: the package may still be uploading.
var (
	// ErrNoDocument: the name is not that of a package's document.
	ErrNoDocument = errors.New("not the document of a package")
	// ErrNotSelected: the rules exclude the document.
	ErrNotSelected = errors.New("not selected by the rules of the mirror")
	// ErrGone: the document no longer exists.
	ErrGone = errors.New("it is no longer there")
	// ErrAnother: the document was replaced since it was read.
	ErrAnother = errors.New("it was replaced by another document")
	// ErrRefused: the package will never be published in its present state. The error may be a RefusedError.
	ErrRefused = errors.New("refused")
)

// A RefusedError holds the reasons why a package will never be published in its present state.
type RefusedError struct{ Reasons []error }

// Error returns all reasons on one line.
func (e *RefusedError) Error() string {
	return ErrRefused.Error() + ": " + strings.ReplaceAll(errors.Join(e.Reasons...).Error(), "\n", "; ")
}

// Unwrap returns ErrRefused and the reasons.
func (e *RefusedError) Unwrap() []error { return append([]error{ErrRefused}, e.Reasons...) }
