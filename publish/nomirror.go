package publish

import "errors"

// ErrNoMirror: there is no mirror where one was expected.
var ErrNoMirror = errors.New("no Spack mirror is here")
