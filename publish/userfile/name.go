package userfile

import (
	"encoding/csv"
	"errors"
	"strings"
)

// Names are names of files, as the value of a flag that may be repeated and separates names by commas. An empty
// name, such as that of an unset variable, is an error: a requested check would be omitted.
type Names []string

// One returns the names of at most one file.
func One(name string) Names {
	if name == "" {
		return nil
	}
	return Names{name}
}

// String formats the names as Set parses them.
func (n *Names) String() string {
	var b strings.Builder
	if len(*n) > 0 {
		w := csv.NewWriter(&b)
		_ = w.Write(*n) // a strings.Builder returns no error
		w.Flush()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Type is the type of the flag.
func (n *Names) Type() string { return "strings" }

// ErrEmpty means that an empty value was given: ignoring it would omit a requested check.
var ErrEmpty = errors.New("it is empty: is the variable or the secret set that it comes from? Leave the setting out if it is not wanted")

// Set adds names.
func (n *Names) Set(text string) error {
	names, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return ErrEmpty
	}
	for _, name := range names {
		if name = strings.TrimSpace(name); name == "" {
			return ErrEmpty
		}
		*n = append(*n, name)
	}
	return nil
}

// A Name is the name of a file, as the value of a flag. It cannot be set to an empty name.
type Name string

func (n *Name) String() string { return string(*n) }

// Type is the type of the flag.
func (n *Name) Type() string { return "string" }

// Set sets the name.
func (n *Name) Set(text string) error {
	if text == "" {
		return ErrEmpty
	}
	*n = Name(text)
	return nil
}
