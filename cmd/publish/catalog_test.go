package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// A page is written beside each mirror of a tree, on S3 too, and not again while nothing is new.
func TestPagesAreWrittenBesideTheirMirrors(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := s3test.New(s3test.Options{})
	defer server.Close()
	tree := t.TempDir()
	for _, name := range []string{"v3-signed", "v2-signed"} {
		if err := os.CopyFS(filepath.Join(tree, name), os.DirFS(spack(t, name))); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, said := execute(t, nil, "--endpoint-url", server.URL, "--require-signed=false", tree, "s3://bucket/noble"); code != cli.ExitDone {
		t.Fatal(said)
	}
	for _, at := range [][]string{{"--endpoint-url", server.URL, "s3://bucket/noble"}, {"file://" + tree}} {
		for _, unchanged := range []bool{false, true} {
			code, stdout, stderr := execute(t, nil, append([]string{"catalog", "--json", "--title", "ACME"}, at...)...)
			var document struct {
				Pages []struct {
					Mirror    string
					Packages  int
					Unchanged bool
					Stale     []string
				}
			}
			if err := json.Unmarshal([]byte(stdout), &document); err != nil || code != cli.ExitDone || len(document.Pages) != 2 {
				t.Fatalf("%v: exit %d: %v\n%s%s", at, code, err, stdout, stderr)
			}
			for _, p := range document.Pages {
				if p.Unchanged != unchanged || p.Packages < 9 || len(p.Stale) != map[bool]int{false: 1, true: 0}[unchanged] {
					t.Errorf("%v: %+v", at, p)
				}
			}
		}
	}
	for _, name := range []string{"v3-signed", "v2-signed"} {
		text, err := os.ReadFile(filepath.Join(tree, name, "index.html"))
		if err != nil || !strings.Contains(string(text), "<title>ACME</title>") || !strings.Contains(string(text), "default-src 'none'") {
			t.Errorf("%v\n%s", err, text)
		}
		if code, stdout, _ := execute(t, nil, "verify", "file://"+filepath.Join(tree, name)); code != cli.ExitDone {
			t.Errorf("beside a page, %s is damaged:\n%s", name, stdout)
		}
	}
}

// A page that another program made is not replaced.
func TestAnotherPageIsNotReplaced(t *testing.T) {
	at := filepath.Join(t.TempDir(), "mirror")
	if err := os.CopyFS(at, os.DirFS(spack(t, "v3-signed"))); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(at, "index.html"), "mine")
	code, _, stderr := execute(t, nil, "catalog", "file://"+at)
	if code != cli.ExitUsage || !strings.Contains(stderr, "never replaced") {
		t.Errorf("exit %d\n%s", code, stderr)
	}
	if text, err := os.ReadFile(filepath.Join(at, "index.html")); err != nil || string(text) != "mine" {
		t.Errorf("%v: %s", err, text)
	}
	if code, _, stderr := execute(t, nil, "catalog", "file://"+t.TempDir()); code != cli.ExitSource {
		t.Errorf("an empty directory: exit %d\n%s", code, stderr)
	}
}
