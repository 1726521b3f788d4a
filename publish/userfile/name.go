package userfile

import (
	"encoding/csv"
	"errors"
	"strings"
)

// Names are the names of files, as a flag that may be repeated and takes several with commas between them. An empty name, such as that of a
// variable that is not set, is an error: it would leave out a check that was asked for.
type Names []string

// One is the names of at most one file.
func One(name string) Names {
	if name == "" {
		return nil
	}
	return Names{name}
}

// String is what Set takes for these names.
func (n *Names) String() string {
	var b strings.Builder
	if len(*n) > 0 {
		w := csv.NewWriter(&b)
		_ = w.Write(*n) // a strings.Builder takes everything
		w.Flush()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Type is that of a flag.
func (n *Names) Type() string { return "strings" }

// ErrEmpty is an empty value that was given: leaving it out would leave out a check that was asked for.
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

// A Name is that of a file, as a flag. If it is given, it is not empty.
type Name string

func (n *Name) String() string { return string(*n) }

// Type is that of a flag.
func (n *Name) Type() string { return "string" }

// Set takes a name.
func (n *Name) Set(text string) error {
	if text == "" {
		return ErrEmpty
	}
	*n = Name(text)
	return nil
}
