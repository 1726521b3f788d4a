package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// A flag that has one value is refused by every command if it is given twice with different ones, and is named. The last one does not win.
func TestAFlagThatIsGivenTwice(t *testing.T) {
	src, to := clitest.Spack(t, "v3-signed"), t.TempDir()
	for _, c := range []struct {
		args []string
		want []string // flags that are named; none: it is no mistake
	}{
		{[]string{"copy", "--view", "a", "--view", "b", src, to}, []string{"--view"}},
		{[]string{"export", "--view=a", "--view=b", src, to + "/x.tar"}, []string{"--view"}},
		{[]string{"ls", "--view", "a", "--view", "b", src}, []string{"--view"}},
		{[]string{"--dry-run", "--dry-run=false", "--timeout", "3m", "--timeout", "4m", src, to}, []string{"--dry-run", "--timeout"}},
		{[]string{"--if-exists", "skip", "--if-exists", "error", "--no-such-flag", src, to}, []string{"--if-exists", "--no-such-flag"}},
		{[]string{"--endpoint-url", "http://a:1", "--endpoint-url", "http://b:1", "--part-size", "x", src, to}, []string{"--endpoint-url", "--part-size"}},
		{[]string{"ls", "--json", "--json", "-v", "-v", src, "zlib"}, nil},
		{[]string{"--dry-run", "--timeout", "3m", "--timeout", "3m", "--include", "zlib", "--include", "munge", src, to}, nil},
	} {
		code, _, stderr := execute(t, nil, c.args...)
		if len(c.want) == 0 {
			if code != cli.ExitDone {
				t.Errorf("%q: exit %d, %s", c.args, code, stderr)
			}
			continue
		}
		if code != cli.ExitUsage || !strings.Contains(stderr, "given twice") {
			t.Errorf("%q: exit %d, %s", c.args, code, stderr)
		}
		for _, flag := range c.want {
			if !strings.Contains(stderr, flag) {
				t.Errorf("%q: %s is not named: %s", c.args, flag, stderr)
			}
		}
	}
}

// Each flag of each command is watched, or is known to have several values.
func TestEachFlagHasOneValueOrSeveral(t *testing.T) {
	eachCommand(command(cli.Env{}), func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			repeatable := strings.Contains(f.Usage, "repeatable") || strings.Contains(f.Usage, "`TYPES`")
			if f.Value.Set("") != nil || f.Value.Set("a") != nil || f.Value.Set("b") != nil {
				return // of a kind that takes no text
			}
			if several := strings.Contains(f.Value.String(), "a,b"); several && !repeatable || repeatable && !several {
				t.Errorf("%s --%s: %q has the value %s", cmd.CommandPath(), f.Name, f.Usage, f.Value)
			}
		})
	})
}
