package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// What a mirror lacks is 4, and a path that leads nowhere is a misspelt one: 2.
func TestWhatIsNotThereHasTheCodeThatTheDocsSay(t *testing.T) {
	at := licensed(t)
	documents, err := filepath.Glob(filepath.Join(at, "v3/manifests/spec/zlib/*.json"))
	if err != nil || len(documents) != 1 {
		t.Fatal(documents, err)
	}
	if err := os.Remove(documents[0]); err != nil {
		t.Fatal(err)
	}
	to := "file://" + t.TempDir()
	for _, test := range []struct {
		want int
		args []string
	}{
		{cli.ExitSource, []string{"sbom", "file://" + at}},
		{cli.ExitUsage, []string{"import", filepath.Join(at, "nofile"), to}},
		{cli.ExitUsage, []string{"import", at, to}},
		{cli.ExitUsage, []string{"sbom", "--public-url", "foo", "file://" + spack(t, "v3-signed")}},
		{cli.ExitSource, []string{"import", filepath.Join(at, "v3/layout.json"), to}},
	} {
		if code, _, stderr := execute(t, nil, test.args...); code != test.want {
			t.Errorf("%v: exit %d, want %d: %s", test.args, code, test.want, stderr)
		}
	}
}
