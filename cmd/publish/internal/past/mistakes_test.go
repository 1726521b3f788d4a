package past_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/past"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
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

// A view that is damaged is invalid content, of each command that reads it, and what is said names the view and what makes a view again.
func TestADamagedViewIsNamed(t *testing.T) {
	at := publishtest.Copied(t, "v3-view")
	if err := os.WriteFile(filepath.Join(at, layout.V3View("site/login")), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		command func(cli.Env) *cobra.Command
		args    []string
		code    int
		want    string
	}{
		{past.Rollback, []string{at, "--view", "site/login", "--to", "1"}, cli.ExitSource, "publish view set makes it again"},
		{past.Diff, []string{at, at + "#view=site/login"}, cli.ExitSource, "v3 view site/login: "},
		{past.History, []string{at, "--view", "site/login"}, cli.ExitDone, "warning: v3 view site/login: its pointer cannot be read"},
	} {
		var stderr strings.Builder
		cmd := test.command(cli.Env{Stdout: io.Discard, Stderr: &stderr})
		cmd.SetArgs(test.args)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(t.Context())
		if said := stderr.String() + fmt.Sprint(err); cli.ExitCode(err) != test.code || !strings.Contains(said, test.want) || strings.Contains(said, "publish index") {
			t.Errorf("%q: exit %d, %s", test.args, cli.ExitCode(err), said)
		}
	}
}
