package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
)

// What a command line says and would be ignored is refused, and so is - where other programs take it for a stream; each is named, and nothing is written.
func TestWhatWouldBeIgnoredIsRefused(t *testing.T) {
	src, in := clitest.Spack(t, "v3-signed"), t.TempDir()
	t.Chdir(in)
	for _, row := range []struct {
		args string
		want []string
	}{
		{"copy --from-profile x SRC to zlib", []string{"--from-profile: FROM is "}},
		{"copy --from-profile x --from-region y --from-endpoint-url http://127.0.0.1:1 https://127.0.0.1:1/m to", []string{"--from-profile: FROM is https://127.0.0.1:1/m", "--from-region: FROM", "--from-endpoint-url: FROM"}},
		{"copy --from-region x --from s3://bucket SRC to", []string{"--from-region: FROM is "}},
		{"copy --sse AES256 --storage-class STANDARD_IA SRC to", []string{"--sse: TO is to", "--storage-class: TO is to"}},
		{"copy --region eu-north-1 s3://bucket/m to", []string{"--region: TO is to", "give --from-region, which is that of FROM"}},
		{"import --kms-key-id x x.tar to", []string{"--kms-key-id: TO is to"}},
		{"--sse AES256 SRC to", []string{"--sse: DESTINATION is to"}},
		{"view set --unsafe-single-writer to x zlib", []string{"--unsafe-single-writer: DESTINATION is to"}},
		{"SRC -", []string{"DESTINATION is -, "}},
		{"copy SRC -", []string{"TO is -, "}},
		{"export SRC - zlib", []string{"FILE is -, "}},
		{"export --base - SRC x.tar", []string{"--base is -, "}},
		{"import - to", []string{"FILE is -, "}},
		{"--trusted-keys - --licenses - SRC to", []string{"--trusted-keys is -, ", "--licenses is -, "}},
		{"man -", []string{"DIRECTORY is -, "}},
		{"copy --to-view a..b SRC to", []string{"publish: --to-view: \"a..b\""}},
	} {
		args := strings.Fields(strings.ReplaceAll(row.args, "SRC", src))
		code, _, stderr := execute(t, nil, args...)
		if code != cli.ExitUsage || strings.Contains(stderr, "hint: ") && !strings.Contains(row.args, "to-view") {
			t.Errorf("%s: exit %d: %s", row.args, code, stderr)
		}
		for _, want := range row.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: want %q: %s", row.args, want, stderr)
			}
		}
		if left, err := os.ReadDir(in); err != nil || len(left) > 0 {
			t.Fatalf("%s: it left %v, %v", row.args, left, err)
		}
	}
	// Variables are for all commands alike, and a file may have that name.
	for _, args := range [][]string{{"--include", "zlib", src, "./-"}, {"export", src, "./-.tar", "zlib"}} {
		if code, _, stderr := execute(t, clitest.Variables{"PUBLISH_SSE": "AES256", "PUBLISH_STORAGE_CLASS": "STANDARD_IA"}, args...); code != cli.ExitDone {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
}

// An export leaves nothing when it fails, and has no --keep-going: its hints say neither that something stays nor that the rest can be had.
func TestHintsAfterAnExportThatFailed(t *testing.T) {
	from := t.TempDir()
	if err := os.CopyFS(from, os.DirFS(clitest.Spack(t, "v3-signed"))); err != nil {
		t.Fatal(err)
	}
	documents, err := filepath.Glob(filepath.Join(from, "v3/manifests/spec/openssl/*"))
	if err != nil || len(documents) != 1 {
		t.Fatal(documents, err)
	}
	write(t, documents[0], "garbage")
	file := filepath.Join(t.TempDir(), "x.tar")
	for _, row := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{from, file, "munge"}, cli.ExitSource, "hint: mend or rebuild what is named in FROM, or name packages that do not need it\n"},
		{[]string{"--timeout", "1ns", from, file}, cli.ExitTimeout, "hint: give more time with --timeout\n"},
		{[]string{"http://127.0.0.1:1/x", file}, cli.ExitUpload, "are right, then run again\n"},
	} {
		code, _, stderr := execute(t, nil, append([]string{"export"}, row.args...)...)
		if code != row.code || !strings.Contains(stderr, row.want) || strings.Contains(stderr, "keep-going") || strings.Contains(stderr, "complete") {
			t.Errorf("%v: exit %d: %s", row.args, code, stderr)
		}
		for _, name := range []string{file, file + ".partial"} {
			if _, err := os.Lstat(name); err == nil {
				t.Errorf("%v left %s", row.args, name)
			}
		}
	}
}

// The report of an export that failed half-way does not say that something is stored: it is gone.
func TestTheReportOfAnExportThatFailed(t *testing.T) {
	from := publishtest.Copied(t, "v3-signed")
	publishtest.FlipFile(t, publishtest.ContentFile(t, from, "munge"))
	for _, flag := range []string{"--json", "--verbose"} {
		code, stdout, stderr := execute(t, nil, "export", flag, from, filepath.Join(t.TempDir(), "x.tar"))
		if code != cli.ExitSource || strings.Contains(stdout, "stored") || strings.Contains(stdout, "goes on") {
			t.Errorf("exit %d: %s%s", code, stdout, stderr)
		}
	}
}

// A view of a mirror with both layouts: the hint names the flag that takes one of them.
func TestAViewOfBothLayouts(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		if err := os.CopyFS(from, os.DirFS(clitest.Spack(t, fixture))); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"copy", "--to-view", "x", from, to}, {"--view", "x", from, to}} {
		if code, _, stderr := execute(t, nil, args...); code != cli.ExitSource || !strings.Contains(stderr, "hint: --layout v3 takes the mirror of layout v3 alone") {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
		if code, _, stderr := execute(t, nil, append([]string{"--layout", "v3", "--dry-run"}, args...)...); args[0] != "copy" && code != cli.ExitDone {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
}
