package cli

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
)

// Arguments checks that a command has the number of arguments that its usage names.
func Arguments(cmd *cobra.Command, args []string) error {
	if len(args) != len(strings.Fields(cmd.Use))-1 {
		return wanted(cmd, args)
	}
	return nil
}

// AtLeast returns a check for at least n arguments.
func AtLeast(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return wanted(cmd, args)
		}
		return nil
	}
}

func wanted(cmd *cobra.Command, args []string) error {
	return Fail(ExitUsage, fmt.Errorf("%s, want: %s", english.Plural(len(args), "argument", ""), strings.TrimSuffix(cmd.UseLine(), " [flags]")))
}
