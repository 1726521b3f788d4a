package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
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
			if err := json.Unmarshal([]byte(stdout), &document); err != nil || code != cli.ExitDone || len(document.Pages) != 3 {
				t.Fatalf("%v: exit %d: %v\n%s%s", at, code, err, stdout, stderr)
			}
			top := document.Pages[2] // of the tree, with 404.html and robots.txt
			if top.Mirror != "" || top.Packages != 20 || top.Unchanged != unchanged || len(top.Stale) != map[bool]int{false: 3, true: 0}[unchanged] {
				t.Errorf("%v: the tree: %+v", at, top)
			}
			for _, p := range document.Pages[:2] {
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

// With --catalog, a publish brings the page up to date after the index. A run that changes nothing makes the requests that it makes without, and
// a dry run says what would be written.
func TestThePageFollowsTheIndex(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := s3test.New(s3test.Options{})
	defer server.Close()
	publish := func(flags ...string) (said string, requests []s3test.Entry) {
		t.Helper()
		server.ForgetLog()
		args := append(append([]string{"--endpoint-url", server.URL}, flags...), spack(t, "v3-signed"), "s3://bucket/noble")
		code, stdout, stderr := execute(t, nil, args...)
		if code != cli.ExitDone {
			t.Fatalf("%v: exit %d\n%s%s", flags, code, stdout, stderr)
		}
		return stdout, server.Log()
	}
	if said, requests := publish("--catalog", "--dry-run"); !strings.Contains(said, "would update the page index.html") || slices.ContainsFunc(requests, s3test.Entry.Mutates) {
		t.Errorf("a dry run: %s", said)
	}
	said, requests := publish("--catalog")
	var written []string
	for _, r := range requests {
		if r.Mutates() {
			written = append(written, strings.TrimPrefix(r.Key, "noble/"))
		}
	}
	index := slices.Index(written, layout.V3Index)
	if last := len(written) - 1; index < 0 || written[last] != "index.html" || !strings.Contains(said, "page index.html: 11 packages") {
		t.Fatalf("%s\nwritten: %q", said, written)
	}
	for i, name := range written {
		if strings.HasPrefix(name, "catalog/") != (i > index && i < len(written)-1) {
			t.Errorf("object %d of %d written, where the index is %d: %s", i, len(written), index, name)
		}
	}
	_, without := publish()
	if _, with := publish("--catalog"); len(with) != len(without) || slices.ContainsFunc(with, s3test.Entry.Mutates) {
		t.Errorf("nothing is new: %d requests, without --catalog %d", len(with), len(without))
	}
}

// A publish into one mirror of a tree brings the row of that mirror in the page of the tree up to date. A page of another program at
// the top stays, and is no reason to fail.
func TestThePageOfATreeFollowsItsMirrors(t *testing.T) {
	tree := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		code, stdout, stderr := execute(t, nil, args...)
		if code != cli.ExitDone {
			t.Fatalf("%v: exit %d\n%s%s", args, code, stdout, stderr)
		}
		return stdout
	}
	one, two := "file://"+filepath.Join(tree, "noble", "spack"), "file://"+filepath.Join(tree, "jammy")
	run("--include", "zlib", spack(t, "v3-signed"), one)
	run(spack(t, "v3-signed"), two)
	run("catalog", "file://"+tree)
	rows := func() string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(tree, "index.html"))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(text), `"tree":[`)
		rows, _, _ := strings.Cut(after, "]")
		return rows
	}
	jammy := `{"path":"jammy","packages":11,"names":11}`
	if got := rows(); got != jammy+`,{"path":"noble/spack","packages":1,"names":1}` {
		t.Fatalf("the tree: %s", got)
	}
	source := filepath.Join(t.TempDir(), "source")
	if err := os.CopyFS(filepath.Join(source, "noble", "spack"), os.DirFS(spack(t, "v3-signed"))); err != nil {
		t.Fatal(err)
	}
	if said := run("--catalog", source, "file://"+tree); !strings.Contains(said, "page noble/spack: index.html: 11 packages") || !strings.Contains(said, "page index.html: 22 packages") {
		t.Errorf("said: %s", said)
	}
	if got := rows(); got != jammy+`,{"path":"noble/spack","packages":11,"names":11}` {
		t.Errorf("after a publish the tree has %s", got)
	}
	write(t, filepath.Join(tree, "index.html"), "mine")
	run("--catalog", "--view", "site", source, "file://"+tree)
	if text, err := os.ReadFile(filepath.Join(tree, "index.html")); err != nil || string(text) != "mine" {
		t.Errorf("%s, %v", text, err)
	}
}

// A page that cannot be written is said, and has an exit code of its own. The packages are published all the same, and the next publish that changes
// the index, or publish catalog, brings the page up to date.
func TestAPageThatFailsDoesNotStopAPublish(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	for name, denied := range map[string]string{"denied": "/index.html", "denied parts": "/catalog/"} {
		server := s3test.New(s3test.Options{})
		defer server.Close()
		server.Hook(func(r *http.Request) s3test.Fault {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, denied) {
				return s3test.Refuse(403, "AccessDenied")
			}
			return s3test.None
		})
		at := []string{"--endpoint-url", server.URL}
		code, stdout, stderr := execute(t, nil, append(at, "--catalog", "--json", spack(t, "v3-signed"), "s3://bucket/noble")...)
		var report struct {
			Result   string
			Mirrors  []struct{ Index struct{ Written bool } }
			Findings []struct{ Severity, Reason string }
		}
		if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != cli.ExitCatalog || !report.Mirrors[0].Index.Written || len(report.Findings) != 1 ||
			report.Findings[0].Severity != "warning" || !strings.Contains(stderr, "allow s3:PutObject") {
			t.Errorf("%s: exit %d: %v\n%s%s", name, code, err, stdout, stderr)
		}
		server.Hook(nil)
		if code, stdout, _ := execute(t, nil, append(append([]string{"verify"}, at...), "s3://bucket/noble")...); code != cli.ExitDone {
			t.Errorf("%s: the mirror is damaged:\n%s", name, stdout)
		}
		if code, stdout, stderr := execute(t, nil, append(append([]string{"catalog"}, at...), "s3://bucket/noble")...); code != cli.ExitDone || !strings.Contains(stdout, "11 packages") {
			t.Errorf("%s: exit %d\n%s%s", name, code, stdout, stderr)
		}
	}
	to := t.TempDir()
	write(t, filepath.Join(to, "index.html"), "mine")
	code, _, stderr := execute(t, nil, "--catalog", spack(t, "v3-signed"), "file://"+to)
	if text, err := os.ReadFile(filepath.Join(to, "index.html")); code != cli.ExitCatalog || err != nil || string(text) != "mine" || !strings.Contains(stderr, "out of the way") {
		t.Errorf("another page: exit %d, %v: %s\n%s", code, err, text, stderr)
	}
	if _, err := os.Stat(filepath.Join(to, layout.V3Index)); err != nil {
		t.Error(err)
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
