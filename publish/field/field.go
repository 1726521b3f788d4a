// Package field names the settings that errors are about.
//
// A setting has one name, that of its flag without the leading hyphens. A command line, a configuration file
// and a workflow each show it in their own form, so names are never searched for in messages.
package field

import (
	"errors"
	"fmt"
	"strings"
)

// An Error says what is wrong with one setting.
type Error struct {
	Name  string // such as "public-url"
	Value string // value of the setting, if it may be shown
	Err   error
}

// Error returns what is wrong, without the name of the setting.
func (e *Error) Error() string {
	if e.Value != "" {
		return fmt.Sprintf("%q: %v", e.Value, e.Err)
	}
	return e.Err.Error()
}

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// Under returns the message under a name of the setting: `NAME "value": err` or `NAME: err`. Without a name it is Error.
func (e *Error) Under(name string) string {
	if name == "" {
		return e.Error()
	}
	if e.Value != "" {
		return name + " " + e.Error()
	}
	return name + ": " + e.Error()
}

// Wrap marks an error as one of a setting. It returns nil for nil, and marks joined errors one by one.
func Wrap(name string, err error) error {
	var all []error
	for _, one := range Each(err) {
		all = append(all, &Error{Name: name, Err: one})
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

// Refuse returns an error for an invalid value of a setting.
func Refuse(name, value, format string, args ...any) error {
	return &Error{Name: name, Value: value, Err: fmt.Errorf(format, args...)}
}

// Each returns the parts of a joined error.
func Each(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var lines []string
	for _, one := range joined.Unwrap() {
		lines = append(lines, one.Error())
	}
	if err.Error() != strings.Join(lines, "\n") {
		return []error{err} // it wraps several, and has a message of its own
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, Each(one)...)
	}
	return all
}

// Name returns the setting that an error is about; empty if it names none.
func Name(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Name
	}
	return ""
}

// Named returns the parts of a joined error, with each setting named by show.
func Named(err error, show func(name string) string) error {
	var all []error
	for _, one := range Each(err) {
		var e *Error
		if errors.As(one, &e) {
			one = &named{e.Under(show(e.Name)), one}
		}
		all = append(all, one)
	}
	return errors.Join(all...)
}

// named is an error with another message.
type named struct {
	message string
	err     error
}

func (n *named) Error() string { return n.message }
func (n *named) Unwrap() error { return n.err }
