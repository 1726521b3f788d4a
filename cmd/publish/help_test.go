package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/style"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

// eachCommand calls do for each command that a user may call.
func eachCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	if cmd.Runnable() && !cmd.Hidden {
		do(cmd)
	}
	for _, c := range cmd.Commands() {
		if c.Name() != "completion" && c.Name() != "help" { // cobra's own
			eachCommand(c, do)
		}
	}
}

func TestEveryCommandIsInAGroupAndHasAnExample(t *testing.T) {
	root := rootCommand(cli.Env{})
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() && c.GroupID == "" && c.Name() != "help" && c.Name() != "completion" {
			t.Errorf("%s has no GroupID of package help", c.CommandPath())
		}
	}
	eachCommand(root, func(cmd *cobra.Command) {
		if cmd.Parent() == root && !slices.ContainsFunc(help.Groups(), func(g *cobra.Group) bool { return g.ID == cmd.GroupID }) {
			t.Errorf("%s has no GroupID of package help", cmd.CommandPath())
		}
		if !strings.HasPrefix(cmd.Example, "  publish") {
			t.Errorf("%s has no Example, or one that does not begin with publish", cmd.CommandPath())
		}
	})
}

// Help fits a terminal of 80 columns, examples included.
func TestHelpFitsATerminal(t *testing.T) {
	plain := style.Of(nil, nil)
	eachCommand(rootCommand(cli.Env{}), func(cmd *cobra.Command) {
		for line := range strings.Lines(help.Text(cmd, plain)) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > style.Width {
				t.Errorf("%s: a line of %d characters: %s", cmd.CommandPath(), n, line)
			}
		}
	})
}

// Flags about new objects, and about how fast they are sent, belong to commands that store some.
func TestOnlyFlagsThatActAreTaken(t *testing.T) {
	readers := []string{"publish ls", "publish show", "publish why", "publish du", "publish sbom", "publish verify", "publish keys list", "publish export"}
	found := 0
	eachCommand(rootCommand(cli.Env{}), func(cmd *cobra.Command) {
		if !slices.Contains(readers, cmd.CommandPath()) {
			return
		}
		found++
		for _, name := range []string{"sse", "kms-key-id", "storage-class", "unsafe-single-writer", "part-size", "limit-rate", "distribution-id"} {
			if cmd.Flags().Lookup(name) != nil {
				t.Errorf("%s only reads, and takes --%s", cmd.CommandPath(), name)
			}
		}
		if cmd.Flags().Lookup("endpoint-url") == nil {
			t.Errorf("%s takes no --endpoint-url", cmd.CommandPath())
		}
	})
	if found != len(readers) {
		t.Errorf("%d of %d commands are there", found, len(readers))
	}
}

func TestAFlagOfAnotherCommandIsRefusedWithAHint(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"verify", "--sse", "AES256", "file:///x"}, "unknown flag: --sse: publish verify has no such flag, it is a flag of publish, publish "},
		{[]string{"retry", "--deep"}, "unknown flag: --deep: publish retry has no such flag, it is a flag of publish verify\n"},
		{[]string{"exec", "--json", "a", "b", "--", "true"}, "--json: publish exec takes no such flag"},
	} {
		code, _, stderr := execute(t, nil, c.args...)
		if code != cli.ExitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("publish %q: exit code %d, want 2:\n%s\nwant %s", c.args, code, stderr, c.want)
		}
	}
}

// All mistakes are said in one run.
func TestWhatElseIsWrongIsNamedBesideAWrongFlag(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"view", "add", "s3:/b", "v", "x", "--concurrency", "0", "--endpoint-url", "ftp://x"}, []string{`"0" for "--concurrency"`, `--endpoint-url: endpoint "ftp://x"`, `did you mean s3://b?`}},
		{[]string{"view", "add", "s3:/b", "v/", "x", "--endpoint-url", "ftp://x"}, []string{`v/`, `--endpoint-url: endpoint "ftp://x"`, `did you mean s3://b?`}},
		{[]string{"keys", "retire", "s3://b", "AB", "--forc", "--endpoint-url", "x:9"}, []string{"did you mean --force?", `--endpoint-url: endpoint "x:9"`}},
		{[]string{"prune", "file:///x", "--nope", "--role-session-name", "x"}, []string{"unknown flag: --nope", "--role-session-name: it needs a role"}},
		{[]string{"rollback", "s3://b", "--timeout", "soon"}, []string{`"soon" for "--timeout"`, `"b" is no name of a bucket`}},
		{[]string{"ls", "s3:/b", "--endpoint-url", "x:9"}, []string{`--endpoint-url: endpoint "x:9"`, "did you mean s3://b?"}},
	} {
		code, _, stderr := execute(t, nil, c.args...)
		for _, want := range c.want {
			if code != cli.ExitUsage || !strings.Contains(stderr, want) {
				t.Errorf("publish %q: exit code %d, want 2:\n%s\nwant %s", c.args, code, stderr, want)
			}
		}
	}
}

// Wherever they stand.
func TestOutputFlagsStandBeforeCommandsToo(t *testing.T) {
	for _, line := range []string{"-q view list %s", "view -q list %s", "view list -q %s", "-q keys list %s", "--quiet keys list %s", "keys -q list %s"} {
		args := strings.Fields(fmt.Sprintf(line, "../../test/testdata/v3-signed"))
		if code, _, stderr := execute(t, nil, args...); code != cli.ExitDone || stderr != "" {
			t.Errorf("publish %q: exit code %d\n%s", args, code, stderr)
		}
	}
}

// A file is completed as SOURCE, although names of commands are, too.
func TestASourceIsCompleted(t *testing.T) {
	if code, out, errs := execute(t, nil, "__complete", "./s"); code != cli.ExitDone || !strings.HasPrefix(out, ":0\n") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}
