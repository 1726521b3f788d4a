package main

import (
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// What goes wrong with a source, as a user sees it.
func TestExitCodesOfRuns(t *testing.T) {
	destination := "file://" + t.TempDir() + "/mirror"
	for _, row := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"nosuch", destination}, cli.ExitSource, "hint: look for a misspelt path"},
		{[]string{t.TempDir(), destination}, cli.ExitSource, "holds no Spack mirror"},
		{[]string{"--require-signed", clitest.Spack(t, "v3-unsigned"), destination}, cli.ExitSource, "11 problems"},
		{[]string{"--dry-run", "--require-signed", clitest.Spack(t, "v3-unsigned"), destination}, cli.ExitSource, "11 problems"},
		{[]string{"--expect-os", "rocky9", "--include", "zlib", clitest.Spack(t, "v3-unsigned"), destination}, cli.ExitSource, "built for the os ubuntu22.04"},
		{[]string{"--timeout", "1ns", clitest.Spack(t, "v3-unsigned"), destination}, cli.ExitTimeout, "the timeout has passed"},
		{[]string{"version"}, cli.ExitDone, ""},
		{[]string{"version", "x"}, cli.ExitUsage, "1 argument, want: publish version"},
		{[]string{"man"}, cli.ExitUsage, "0 arguments, want: publish man DIRECTORY"},
		{[]string{"verify", "a", "b"}, cli.ExitUsage, "2 arguments, want: publish verify DESTINATION|URL"},
	} {
		code, _, errs := execute(t, nil, row.args...)
		if code != row.code || !strings.Contains(errs, row.want) {
			t.Errorf("%q: exit code %d: %s", row.args, code, errs)
		}
	}
}

// Too few or too many arguments are a usage error, whichever layer counts them.
func TestWrongArgumentsAreWrongUsage(t *testing.T) {
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"push"}, "no PATH: want publish push [flags] PATH..."},
		{[]string{"push", "--wait"}, "no PATH"},
		{[]string{"action", "x"}, `unknown command "x" for "publish action"`},
		{[]string{"completion", "bash", "x"}, `unknown command "x" for "publish completion bash"`},
		{[]string{"index"}, "0 arguments, want: publish index DESTINATION"},
		{[]string{"bench"}, "0 arguments"},
		{[]string{"indexer"}, "0 arguments"},
		{[]string{"verify"}, "0 arguments"},
		{[]string{"status", "x"}, "1 argument"},
		{[]string{"drain", "x"}, "1 argument"},
		{[]string{"daemon", "x"}, "1 argument"},
		{[]string{"doctor", "x", "y"}, "2 arguments"},
		{[]string{"exec"}, "no COMMAND"},
		{[]string{"retry", "x"}, `"x" is no ID`},
		{[]string{"push", "--sideways"}, "unknown flag: --sideways"},
	} {
		code, _, errs := execute(t, nil, row.args...)
		if code != cli.ExitUsage || !strings.Contains(errs, row.want) {
			t.Errorf("%q: exit code %d: %s", row.args, code, errs)
		}
	}
}
