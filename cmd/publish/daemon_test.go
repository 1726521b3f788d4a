package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
)

// What the daemon prints as an example is the example.
func TestTheExampleIsPrinted(t *testing.T) {
	code, out, _ := execute(t, nil, "daemon", "--print-example-config")
	if code != 0 || out != service.Example {
		t.Errorf("exit %d, printed:\n%s", code, out)
	}
}

// A configuration that is wrong is wrong usage, and the message has its place.
func TestAWrongConfigurationIsWrongUsage(t *testing.T) {
	dir := t.TempDir()
	clitest.Write(t, dir+"/c.yaml", "state_dir: /var/lib/publish\nsocket: /run/publish.sock\nmirrors:\n  - source: /srv/buildcache\n    destinaton: file:///srv/mirror\n")
	code, _, errs := execute(t, nil, "daemon", "--config", dir+"/c.yaml")
	if code != cli.ExitUsage || !strings.Contains(errs, "c.yaml:5:5: unknown key") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := execute(t, nil, "daemon", "--config", dir+"/none.yaml"); code != cli.ExitUsage || !strings.Contains(errs, "no such file") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// The keys of signers are published unless that is turned off.
func TestPublishKeysFlag(t *testing.T) {
	for _, row := range []struct {
		args []string
		keys int
	}{{nil, 1}, {[]string{"--publish-keys=false"}, 0}} {
		dir := t.TempDir()
		if code, _, errs := execute(t, nil, append(row.args, clitest.Spack(t, "v2-signed"), "file://"+dir)...); code != cli.ExitDone {
			t.Fatal(errs)
		}
		if found, _ := filepath.Glob(dir + "/build_cache/_pgp/*.pub"); len(found) != row.keys {
			t.Errorf("%q: published are %q", row.args, found)
		}
	}
}

// All mistakes of a configuration are reported at once.
func TestIndexerSaysAllThatIsWrong(t *testing.T) {
	code, _, stderr := execute(t, nil, "indexer", "--queue", "indexer", "--settle", "0s", "--takeover", "1s", "file:///srv/mirror")
	for _, want := range []string{"--queue", "--settle: 0s", "--takeover: 1s", "file:///srv/mirror"} {
		if code != cli.ExitUsage || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, without %s:\n%s", code, want, stderr)
		}
	}
}
