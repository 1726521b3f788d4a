package past_test

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/past"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
)

// A generation or a view that is not named, or is not there, is wrong usage, and the message says so.
func TestMistakesAreWrongUsage(t *testing.T) {
	m := publishtest.Original("v3-unsigned")
	for _, test := range []struct {
		command func(cli.Env) *cobra.Command
		args    []string
		want    string
	}{
		{past.Rollback, []string{m, "--to", ""}, "--to: it is empty"},
		{past.Rollback, []string{m, "--view", "nosuch"}, "there is no such view"},
		{past.Diff, []string{m, "#0"}, "#0: generation 0: the first one is 1\n"},
		{past.Diff, []string{m, "#"}, "#: nothing follows the #: want a generation, a time in UTC or view=NAME"},
		{past.Diff, []string{m, "#then"}, "nor view=NAME"},
	} {
		cmd := test.command(cli.Env{Stdout: io.Discard, Stderr: io.Discard})
		cmd.SetArgs(test.args)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error()+"\n", test.want) || cli.ExitCode(err) != cli.ExitUsage {
			t.Errorf("%q: %v", test.args, err)
		}
	}
}
