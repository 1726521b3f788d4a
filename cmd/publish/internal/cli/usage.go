package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/nearest"
)

// FlagErrors returns a function for cobra that gives wrong flags the exit code of wrong usage. All of a command line are
// named at once, an unknown one with the flag that is like it, and the unknown variables with them.
func FlagErrors(env Env) func(*cobra.Command, error) error {
	return func(cmd *cobra.Command, first error) error {
		errs := []error{suggested(cmd, first)}
		for _, err := range wrongFlags(cmd, env.Args) {
			if !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == err.Error() }) {
				errs = append(errs, err)
			}
		}
		if !cmd.HasParent() {
			errs = append(errs, unknownVariables(env, append(settingNames(cmd), SocketSetting))...)
		}
		return Fail(ExitUsage, errors.Join(errs...))
	}
}

// wrongFlags returns what is wrong with each long flag of a command line, in the words of pflag, which stops at the first.
func wrongFlags(cmd *cobra.Command, args []string) (errs []error) {
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		name, value, given := strings.Cut(strings.TrimPrefix(args[i], "--"), "=")
		if !strings.HasPrefix(args[i], "--") || name == "help" {
			continue
		}
		f := cmd.Flags().Lookup(name)
		if f == nil {
			errs = append(errs, unknownFlag(cmd, name))
			continue
		}
		if !given && f.NoOptDefVal != "" {
			continue
		}
		if !given && i+1 < len(args) {
			i++
			value, given = args[i], true
		}
		if given {
			if err := cmd.Flags().Set(name, value); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

func suggested(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		return unknownFlag(cmd, unknown.GetSpecifiedName())
	}
	return err
}

func unknownFlag(cmd *cobra.Command, name string) error {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if others := commandsWith(cmd.Root(), name); len(others) > 0 {
		return fmt.Errorf("unknown flag: --%s: it says nothing about %s, it is a flag of %s", name, cmd.CommandPath(), shortList(others, 3))
	}
	if n := nearest.Word(name, names); n != "" {
		return fmt.Errorf("unknown flag: --%s, did you mean --%s?", name, n)
	}
	return fmt.Errorf("unknown flag: --%s", name)
}

// commandsWith are the commands, from one downwards, that take a flag.
func commandsWith(cmd *cobra.Command, flag string) (names []string) {
	if f := cmd.Flags().Lookup(flag); f != nil && !f.Hidden {
		names = append(names, cmd.CommandPath())
	}
	for _, c := range cmd.Commands() {
		names = append(names, commandsWith(c, flag)...)
	}
	return names
}

// shortList is the first of some names with commas between them, and how many more there are.
func shortList(names []string, most int) string {
	if len(names) <= most+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// hinted is an error with a hint of its own.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// WithHint gives an error a hint in place of the usual one.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

// DidYouMean returns a suggestion for a misspelt word: ", did you mean X?"; empty if no known word is near.
func DidYouMean(word string, known []string) string {
	if n := nearest.Word(word, known); n != "" {
		return fmt.Sprintf(", did you mean %s?", n)
	}
	return ""
}
