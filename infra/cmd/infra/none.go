package main

import (
	"fmt"
	"slices"

	"github.com/spf13/pflag"
)

// none is the value that takes a setting back: a setting that is not given keeps the
// value that the stack remembers.
const none = "none"

// ownNone are the settings for which none is a value: it turns off what is on by default,
// or is the default, or says that nobody is to be notified.
var ownNone = []string{"environment", "maintain-environment", "query-strings", "alarm-email"}

// kinds are the types of settings that not every text is a value of.
var kinds = map[string]string{"bool": "true or false", "int": "a whole number"}

// takeBack makes none give each setting its default again. A list has its own way, see
// listOrNone.
func takeBack(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if _, isList := f.Value.(pflag.SliceValue); !isList && !slices.Contains(ownNone, f.Name) {
			f.Value = &revocable{Value: f.Value, byDefault: f.DefValue}
		}
	})
}

// A revocable is the value of a setting that none takes back.
type revocable struct {
	pflag.Value
	byDefault string
	revoked   bool
}

// Set takes a value, or none for the default.
func (r *revocable) Set(text string) error {
	if r.revoked = text == none; r.revoked {
		text = r.byDefault
	}
	err := r.Value.Set(text)
	if want := kinds[r.Type()]; err != nil && want != "" {
		return fmt.Errorf("want %s, or %s for the default, %s", want, none, r.byDefault)
	}
	return err
}

// takenBack says whether a flag was given none, and so has its default again.
func takenBack(f *pflag.Flag) bool {
	r, ok := f.Value.(*revocable)
	return ok && r.revoked
}

// given says whether a setting has a value of its own, and not its default.
func (s *settings) given(name string) bool {
	f := s.flags.Lookup(name)
	return f.Changed && !takenBack(f)
}

func orNone(v string) string {
	if v == none {
		return ""
	}
	return v
}

func listOrNone(v []string) []string {
	if len(v) == 1 && v[0] == none {
		return nil
	}
	return v
}
