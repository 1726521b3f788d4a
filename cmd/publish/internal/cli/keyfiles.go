package cli

import (
	"encoding/csv"
	"errors"
	"strings"

	"github.com/spf13/pflag"
)

// KeyFiles names files of public keys. It is a flag that may be repeated, and takes names separated by commas. An empty name, such as
// that of a variable that is not set, is an error: it would mean that no signature is checked.
type KeyFiles []string

// TrustedKeysFlag adds the flag that names the trusted keys.
func TrustedKeysFlag(fs *pflag.FlagSet, files *KeyFiles, usage string) {
	fs.Var(files, "trusted-keys", usage+"; repeatable")
}

// OneFile is the names of at most one file.
func OneFile(name string) KeyFiles {
	if name == "" {
		return nil
	}
	return KeyFiles{name}
}

func (f *KeyFiles) String() string { return strings.Join(*f, ",") }

// Type implements pflag.Value.
func (f *KeyFiles) Type() string { return "strings" }

var errEmptyName = errors.New("it is empty: want the name of a file, or leave the setting out")

// Set implements pflag.Value.
func (f *KeyFiles) Set(text string) error {
	names, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil || strings.TrimSpace(text) == "" {
		return errEmptyName
	}
	for _, name := range names {
		if name = strings.TrimSpace(name); name == "" {
			return errEmptyName
		}
		*f = append(*f, name)
	}
	return nil
}

// A nonEmpty is the name of a file or of a key, which is not empty if it is given.
type nonEmpty string

func (n *nonEmpty) String() string { return string(*n) }

// Type implements pflag.Value.
func (n *nonEmpty) Type() string { return "string" }

// Set implements pflag.Value.
func (n *nonEmpty) Set(text string) error {
	if text == "" {
		return errors.New("it is empty: is the variable or the secret that it comes from set? Leave the setting out to sign nothing")
	}
	*n = nonEmpty(text)
	return nil
}
