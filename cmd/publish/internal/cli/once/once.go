// Package once finds flags that take one value and are given twice. Otherwise the last value would win, and a
// restriction in the first one would be dropped silently.
package once

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A value is the value of a flag. It records each text that the flag was given.
type value struct {
	pflag.Value
	given []string // distinct texts
}

// Set implements pflag.Value.
func (v *value) Set(text string) error {
	if len(v.given) == 0 || v.given[len(v.given)-1] != text {
		v.given = append(v.given, text)
	}
	return v.Value.Set(text)
}

// IsBoolFlag reports whether the flag may be given without a value.
func (v *value) IsBoolFlag() bool {
	b, ok := v.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// Watch watches the flags of a command, and of those below it, that take one value.
func Watch(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch f.Value.Type() {
		case "stringArray", "stringSlice", "strings": // these take several values
		default:
			f.Value = &value{Value: f.Value}
		}
	})
	for _, c := range cmd.Commands() {
		Watch(c)
	}
}

// Inner returns the original value of a watched flag.
func Inner(v pflag.Value) pflag.Value {
	if watched, ok := v.(*value); ok {
		return watched.Value
	}
	return v
}

// Check returns an error for each flag of a command that was given twice with different values. The values are
// not shown: they may be secrets.
func Check(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if v, ok := f.Value.(*value); ok && len(v.given) > 1 {
			errs = append(errs, fmt.Errorf("--%s: it is given twice with different values, but takes one: give it once", f.Name))
		}
	})
	return errors.Join(errs...)
}

// Forget clears the recorded texts, before a command line is parsed again.
func Forget(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if v, ok := f.Value.(*value); ok {
			v.given = nil
		}
	})
}
