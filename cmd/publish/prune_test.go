package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// A rule that names no package may be misspelt: with --yes it is refused before anything is deleted. In a tree it may match in any mirror.
func TestAPruneRefusesARuleThatMatchesNothing(t *testing.T) {
	tree := t.TempDir()
	for _, path := range []string{"a", "b"} {
		if err := os.CopyFS(filepath.Join(tree, path), os.DirFS(clitest.Spack(t, "v3-unsigned"))); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, stderr := execute(t, nil, "prune", "--yes", "--alone", "--keep-root", "munge", "file://"+tree+"/a"); code != cli.ExitDone {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	list := filepath.Join(t.TempDir(), "list")
	clitest.Write(t, list, strings.Repeat("a", 32)+"\n")
	files := func() (n int) {
		for _, dir := range []string{"a/v3", "b/v3"} {
			err := filepath.WalkDir(filepath.Join(tree, dir), func(string, os.DirEntry, error) error { n++; return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	before := files()
	for _, test := range []struct{ rule, value, at, want string }{
		{"--keep-root", "slurn", "/b", "--keep-root slurn: no package matches it: no package is called slurn, did you mean slurm?"},
		{"--keep-root", "slurn", "", "did you mean slurm?"},
		{"--keep-root", "slurm", "/a", "--keep-root slurm: no package matches it"},
		{"--keep-list", list, "/b", "none of the packages in these files"},
	} {
		args := []string{"prune", "--alone", "--keep-root", "munge", test.rule, test.value, "file://" + tree + test.at}
		if code, stdout, stderr := execute(t, nil, args...); code != cli.ExitDone || !strings.Contains(stdout+stderr, "warning") {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
		code, _, stderr := execute(t, nil, append(args, "--yes")...)
		if code != cli.ExitUsage || !strings.Contains(stderr, test.want) || files() != before {
			t.Errorf("%v: exit %d, %d files of %d: %s", args, code, files(), before, stderr)
		}
	}
	if code, _, stderr := execute(t, nil, "prune", "--alone", "--yes", "--keep-root", "munge", "--keep-root", "slurm", "file://"+tree); code != cli.ExitDone || files() >= before {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
