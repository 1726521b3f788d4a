package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/once"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
)

// A Check returns all mistakes in a command line, as errors of package field, and has no other effect. Its
// arguments are nil if they cannot be told from the values of unknown flags.
type Check func(cmd *cobra.Command, args []string) error

// FlagErrors returns a function for cobra that gives wrong flags the exit code of wrong usage. It names all
// mistakes of a command line at once: unknown flags with a similar flag, and the findings of check. Without a
// check it validates the storage flags and the destination.
func FlagErrors(env Env, check Check) func(*cobra.Command, error) error {
	return func(cmd *cobra.Command, first error) error {
		args, unknown, wrong := wrongFlags(cmd, env.Args)
		errs := append([]error{suggested(cmd, first)}, wrong...)
		if unknown {
			args = nil
		}
		found := field.Each(check(cmd, args))
		if len(found) == 0 {
			found = together(cmd, args)
		}
		errs = append(errs, found...)
		if !cmd.HasParent() {
			errs = append(errs, unknownVariables(env, append(settingNames(cmd), SocketSetting))...)
		}
		said := make(map[string]bool)
		return Fail(ExitUsage, errors.Join(slices.DeleteFunc(errs, func(err error) bool {
			twice := said[err.Error()]
			said[err.Error()] = true
			return twice
		})...))
	}
}

// together returns mistakes in the combination of flags, and in the destination.
func together(cmd *cobra.Command, args []string) (errs []error) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if v, ok := once.Inner(f.Value).(checked); ok {
			errs = append(errs, field.Each(Named(v.check(), nil))...)
		}
	})
	for i, word := range strings.Fields(cmd.Use)[1:] {
		if word == "DESTINATION" && i < len(args) {
			if err := CheckPlace(args[i]); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// wrongFlags returns the arguments of a command line, and an error for each of its wrong long flags, in the
// words of pflag, which stops at the first. Unknown reports an unknown flag among them.
func wrongFlags(cmd *cobra.Command, all []string) (args []string, unknown bool, errs []error) {
	args = all
	if path := strings.Fields(cmd.CommandPath())[1:]; len(path) > 0 { // the words of the command come first
		if at := slices.Index(all, path[len(path)-1]); at >= 0 {
			args = all[at+1:]
		}
	}
	all, args = args, []string{}
	once.Forget(cmd)
	for i := 0; i < len(all) && all[i] != "--"; i++ {
		name, value, given := strings.Cut(strings.TrimPrefix(all[i], "--"), "=")
		if !strings.HasPrefix(all[i], "-") || all[i] == "-" {
			args = append(args, all[i])
		}
		if !strings.HasPrefix(all[i], "--") || name == "help" {
			continue
		}
		f := cmd.Flags().Lookup(name)
		if f == nil {
			unknown, errs = true, append(errs, unknownFlag(cmd, name))
			continue
		}
		if !given && f.NoOptDefVal != "" {
			continue
		}
		if !given && i+1 < len(all) {
			i++
			value, given = all[i], true
		}
		if given {
			if err := cmd.Flags().Set(name, value); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return args, unknown, append(errs, field.Each(once.Check(cmd))...)
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
		return fmt.Errorf("unknown flag: --%s: %s has no such flag, it is a flag of %s", name, cmd.CommandPath(), shortList(others))
	}
	if n := nearest.Word(name, names); n != "" {
		return fmt.Errorf("unknown flag: --%s, did you mean --%s?", name, n)
	}
	return fmt.Errorf("unknown flag: --%s", name)
}

// commandsWith returns the commands, from one downwards, that have a flag.
func commandsWith(cmd *cobra.Command, flag string) (names []string) {
	if f := cmd.Flags().Lookup(flag); f != nil && !f.Hidden {
		names = append(names, cmd.CommandPath())
	}
	for _, c := range cmd.Commands() {
		names = append(names, commandsWith(c, flag)...)
	}
	return names
}

// shortList joins the first names with commas, and says how many more there are.
func shortList(names []string) string {
	const most = 3
	if len(names) <= most+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// hinted is an error with its own hint.
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
