package field

import (
	"errors"
	"strings"
)

// A Place is another place of a command besides its destination, such as a mirror to copy from. Its settings
// have their own names.
type Place struct {
	Name     string            // name on the command line: FROM, or --from URL
	Settings map[string]string // names of settings that differ from those of the destination
	Own      bool              // it has its own profile, so other credentials than the destination
}

// A PlaceError is an error at a place.
type PlaceError struct {
	Place
	err error
}

func (e *PlaceError) Error() string {
	if where, ok := strings.CutPrefix(e.err.Error(), "destination "); ok { // as what is opened is called
		name, _, _ := strings.Cut(e.Name, " ")
		return name + " " + where
	}
	return e.Name + ": " + e.err.Error()
}

func (e *PlaceError) Unwrap() error { return e.err }

// Failed marks an error as one at the place, with settings named by the place or by show. It returns nil for
// nil.
func (p Place) Failed(err error, show func(name string) string) error {
	var all []error
	for _, one := range Each(Named(err, p.Calls(show))) {
		all = append(all, &PlaceError{p, one})
	}
	return errors.Join(all...)
}

// Calls returns a function that names settings as the place does, and others as show does.
func (p Place) Calls(show func(name string) string) func(name string) string {
	return func(name string) string {
		if own, ok := p.Settings[name]; ok {
			return own
		}
		return show(name)
	}
}
