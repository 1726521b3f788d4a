package past_test

import (
	"io"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/past"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
)

// A generation or a view that is not named, or is not there, is wrong usage, and the message says so.
func TestMistakesAreWrongUsage(t *testing.T) {
	m := publishtest.Original("v3-unsigned")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{m, "--to", ""}, "--to: it is empty"},
		{[]string{m, "--view", "nosuch"}, "there is no such view"},
	} {
		cmd := past.Rollback(cli.Env{Stdout: io.Discard, Stderr: io.Discard})
		cmd.SetArgs(test.args)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.want) || cli.ExitCode(err) != cli.ExitUsage {
			t.Errorf("%q: %v", test.args, err)
		}
	}
}
