package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// An export never takes away what it was not asked to replace, and says so before it reads FROM.
func TestAnExportReplacesOnlyEarlierExports(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	from := "file://" + clitest.Spack(t, "v3-signed")
	for range 2 { // the second replaces what the first wrote
		if code, _, stderr := execute(t, nil, "export", from, "base.tar", "hwloc"); code != cli.ExitDone {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
	clitest.Write(t, "thesis.txt", "a thesis")
	if err := os.Mkdir("directory", 0o755); err != nil {
		t.Fatal(err)
	}
	before := make(map[string][]byte)
	for _, name := range []string{"base.tar", "thesis.txt"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		before[name] = text
	}
	for file, want := range map[string]string{
		filepath.Join(dir, "base.tar"): "builds on", "thesis.txt": "only a file that publish export wrote is replaced", "directory": "is a directory", "s3://bucket/x.tar": "not an address",
	} {
		code, _, stderr := execute(t, nil, "export", "--base", "base.tar", "file://"+filepath.Join(dir, "is not read"), file, "munge")
		if code != cli.ExitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d: %s", file, code, stderr)
		}
	}
	for name, text := range before {
		if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, text) {
			t.Errorf("%s has changed: %v", name, err)
		}
	}
	if left, _ := filepath.Glob("*.partial"); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// Where nothing is new since the base, no earlier file passes for what is new.
func TestAnExportOfNothingLeavesNoEarlierOne(t *testing.T) {
	t.Chdir(t.TempDir())
	from := "file://" + clitest.Spack(t, "v3-signed")
	for _, args := range [][]string{{"base.tar", "hwloc"}, {"--base", "base.tar", "new.tar", "munge"}, {"--base", "base.tar", "--dry-run", "new.tar", "hwloc"}} {
		if code, _, stderr := execute(t, nil, append([]string{"export", from}, args...)...); code != cli.ExitDone {
			t.Fatalf("%q: exit code %d: %s", args, code, stderr)
		}
	}
	if _, err := os.Stat("new.tar"); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := execute(t, nil, "export", "--base", "base.tar", from, "new.tar", "hwloc"); code != cli.ExitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if _, err := os.Stat("new.tar"); err == nil {
		t.Error("the earlier file is left")
	}
}
