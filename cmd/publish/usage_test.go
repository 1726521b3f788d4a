package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// logsOf is a directory with a log of CloudFront in which a package of a mirror was downloaded on each of some days.
func logsOf(t *testing.T, at, pkg string, days ...time.Time) string {
	t.Helper()
	d, err := dir.Open(at, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	inv, err := inventory.Read(t.Context(), d.Mirror(""), "")
	if err != nil {
		t.Fatal(err)
	}
	documents, err := inventory.Documents(t.Context(), d.Mirror(""), inv.Builds)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, doc := range documents {
		for _, day := range days {
			if doc.Build.Name == pkg {
				fmt.Fprintf(&b, `{"date":"%s","c-ip":"192.0.2.1","cs-method":"GET","cs-uri-stem":"/noble/spack/%s","sc-status":"200","sc-bytes":"%d","x-edge-result-type":"Hit"}`+"\n",
					day.Format(time.DateOnly), doc.Tarball().Name, doc.Tarball().Size)
			}
		}
	}
	logs := t.TempDir()
	clitest.Write(t, filepath.Join(logs, "cdn.log"), b.String())
	return logs
}

// Downloads are counted from logs, and du knows them.
func TestUsage(t *testing.T) {
	at, now := t.TempDir(), time.Now().UTC()
	if err := os.CopyFS(at, os.DirFS(clitest.Spack(t, "v3-signed"))); err != nil {
		t.Fatal(err)
	}
	logs := logsOf(t, at, "zlib", now.AddDate(0, 0, -200), now.AddDate(0, 0, -3))
	file := filepath.Join(t.TempDir(), "usage.json")
	code, stdout, stderr := execute(t, nil, "usage", "--path", "noble/spack", "--logs", logs, "--output", file, "file://"+at)
	if code != cli.ExitDone || !strings.Contains(stdout, "zlib@1.3.1/hyibvwk") || !strings.Contains(stdout, "100.0 % answered by the CDN; not downloaded: 10 of 11 packages") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "192.0.2") {
		t.Errorf("%v, or an address is kept", err)
	}
	code, stdout, stderr = execute(t, nil, "du", "--usage", file, "file://"+at)
	if code != cli.ExitDone || !strings.Contains(stdout, "DOWNLOADS") || !strings.Contains(stdout, "not downloaded: 10 packages") {
		t.Errorf("du: exit %d\n%s%s", code, stdout, stderr)
	}
	for want, args := range map[string][]string{
		"--logs":    {"usage", "file://" + at},
		"no logs":   {"usage", "--logs", t.TempDir(), "file://" + at},
		"version 0": {"du", "--usage", clitest.Spack(t, "v3-signed") + "/v3/layout.json", "file://" + at},
	} {
		if code, _, stderr := execute(t, nil, args...); code != cli.ExitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
}

// What a prune would delete is shown by du: here, an index that was replaced.
func TestDuShowsWhatAPruneSaves(t *testing.T) {
	at := t.TempDir()
	if err := os.CopyFS(at, os.DirFS(clitest.Spack(t, "v3-unsigned"))); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(at, "blobs/sha256/ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, name, "abc")
	old := time.Now().Add(-72 * time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := execute(t, nil, "du", "file://"+at); code != cli.ExitDone || !strings.Contains(stdout, "publish prune would delete 1 object, 3 B") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}
