package pruning_test

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/pruning"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
)

// A place of logs that is not there is a mistake in the command line.
func TestLogsThatAreNotThereAreWrongUsage(t *testing.T) {
	cmd := pruning.Command(cli.Env{Stdout: io.Discard, Stderr: io.Discard})
	cmd.SetArgs([]string{publishtest.Original("v3-unsigned"), "--keep-used", "30d", "--usage", filepath.Join(t.TempDir(), "nosuch.log")})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(t.Context()); cli.ExitCode(err) != cli.ExitUsage || !strings.Contains(err.Error(), "nosuch.log") {
		t.Errorf("%v", err)
	}
}
