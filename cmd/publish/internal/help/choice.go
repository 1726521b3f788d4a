package help

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/once"
)

// A choice is a flag for one of a fixed set of words, or for several separated by commas.
type choice struct {
	pflag.Value
	words []string
}

// Choice adds a flag for one of some words, which help shows and the shell completes. The flag accepts any
// text: wrong words are reported where all settings are validated.
func Choice(fs *pflag.FlagSet, p *string, name, value, usage string, words ...string) {
	fs.StringVar(p, name, value, usage)
	choose(fs, name, words)
}

// Choices is Choice for several of the words.
func Choices(fs *pflag.FlagSet, p *[]string, name string, value []string, usage string, words ...string) {
	fs.StringSliceVar(p, name, value, usage)
	choose(fs, name, words)
}

func choose(fs *pflag.FlagSet, name string, words []string) {
	f := fs.Lookup(name)
	f.Value = &choice{f.Value, words}
}

// Words are the words of a choice.
func (c *choice) Words() []string { return c.words }

// Complete makes the shell complete the values of all flags of a command, and of those below it: the words of a
// choice, and file names only for flags that take a file.
func Complete(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		_ = cmd.RegisterFlagCompletionFunc(f.Name, completion(f)) // an error means that the command has its own completion
	})
	for _, c := range cmd.Commands() {
		Complete(c)
	}
}

func completion(f *pflag.Flag) cobra.CompletionFunc {
	if c, ok := once.Inner(f.Value).(interface{ Words() []string }); ok {
		return func(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			before := "" // a list continues after its last comma
			if strings.HasSuffix(f.Value.Type(), "Slice") {
				before = begun[:strings.LastIndex(begun, ",")+1]
			}
			var all []cobra.Completion
			for _, w := range c.Words() {
				all = append(all, before+w)
			}
			return all, cobra.ShellCompDirectiveNoFileComp
		}
	}
	switch kind, _ := pflag.UnquoteUsage(f); kind {
	case "FILE", "PATH":
		return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		}
	case "":
		return cobra.FixedCompletions([]cobra.Completion{"true", "false"}, cobra.ShellCompDirectiveNoFileComp)
	}
	return cobra.NoFileCompletions
}
