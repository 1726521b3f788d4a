package field

import (
	"errors"
	"strings"
)

// A Place is what a command works on beside its destination, such as a mirror that is copied. Its settings have names of their own.
type Place struct {
	Name     string            // by which the command line calls it: FROM, or --from URL
	Settings map[string]string // what its settings are called that are not called as those of the destination
	Own      bool              // its profile was given, so it has other credentials than the destination
}

// A PlaceError says that an error is about a place.
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

// Failed says that an error is about the place, with settings as the place calls them or else as show does. It returns nil for nil.
func (p Place) Failed(err error, show func(name string) string) error {
	var all []error
	for _, one := range Each(Named(err, p.Calls(show))) {
		all = append(all, &PlaceError{p, one})
	}
	return errors.Join(all...)
}

// Calls is a function that names settings as the place does, and others as show does.
func (p Place) Calls(show func(name string) string) func(name string) string {
	return func(name string) string {
		if own, ok := p.Settings[name]; ok {
			return own
		}
		return show(name)
	}
}
