package action

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// script runs a script of the release workflow.
func script(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	source, err := program.Source()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(source, ".github", name), args...)
	cmd.Dir = source
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestPushImage(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/slurm-factory-publish"
	dir, digest := image(t)

	if out, err := script(t, "push-image", dir, repository, "1.2.3", "sha256:"+strings.Repeat("0", 64)); err == nil {
		t.Errorf("pushed under a digest that is not its own: %s", out)
	}
	for _, what := range []string{"first", "again"} {
		if out, err := script(t, "push-image", dir, repository, "1.2.3", digest); err != nil {
			t.Fatalf("%s: %v\n%s", what, err, out)
		}
		tag, err := name.NewTag(repository + ":1.2.3")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := remote.Head(tag); err != nil || got.Digest.String() != digest {
			t.Errorf("%s: %v, %v, want %s", what, got, err, digest)
		}
	}

	// A version that somebody may have pulled keeps its image.
	other, err := random.Index(100, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := name.NewTag(repository + ":1.2.4")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(taken, other); err != nil {
		t.Fatal(err)
	}
	if out, err := script(t, "push-image", dir, repository, "1.2.4", digest); err == nil || !strings.Contains(out, "which stays") {
		t.Errorf("%v\n%s", err, out)
	}
	was, _ := other.Digest()
	if got, err := remote.Head(taken); err != nil || got.Digest != was {
		t.Errorf("1.2.4 is %v, %v, was %s", got, err, was)
	}
}

// A registry that is away, refuses or says something odd must not look like a version that does not exist: its image
// would be replaced.
func TestPushImageFailsClosed(t *testing.T) {
	digest, other := "sha256:"+strings.Repeat("0", 64), "sha256:"+strings.Repeat("1", 64)
	for _, row := range []struct {
		digest string // what crane does when it is asked for one
		pushed bool   // something may have been
		want   string // that is said; empty: it succeeds
	}{
		{`echo "Error: GET http://r/v2/x: MANIFEST_UNKNOWN: manifest unknown" >&2; [ -e "$LOG" ] || exit 1; echo ` + digest, true, ""},
		{`echo "Error: GET http://r/v2/x: NAME_UNKNOWN: repository name not known" >&2; [ -e "$LOG" ] || exit 1; echo ` + digest, true, ""},
		{`echo "Error: GET http://r/v2/x: MANIFEST_UNKNOWN: manifest unknown" >&2; [ -e "$LOG" ] || exit 1; echo ` + other, true, "after it was pushed"},
		{`echo ` + digest, false, ""},
		{`echo ` + other, false, "which stays"},
		{`echo sha256:OLD`, false, "no digest"},
		{`true`, false, "no digest"},
		{`echo "Error: GET http://r/v2/x: unexpected status code 503 Service Unavailable" >&2; exit 1`, false, "cannot tell"},
		{`echo "Error: GET http://r/v2/x: unexpected status code 404 Not Found: <html>" >&2; exit 1`, false, "cannot tell"},
		{`echo "Error: GET http://r/v2/x: DENIED: denied" >&2; exit 1`, false, "cannot tell"},
		{`echo "Error: GET http://r/v2/x: UNAUTHORIZED: authentication required" >&2; exit 1`, false, "cannot tell"},
		{`echo "Error: Get http://r/v2/: dial tcp: lookup r: no such host" >&2; exit 1`, false, "cannot tell"},
		{`exit 1`, false, "cannot tell"},
		{`kill -KILL $$`, false, "cannot tell"},
	} {
		dir := t.TempDir()
		log, crane := filepath.Join(dir, "log"), filepath.Join(dir, "crane")
		text := "#!/bin/bash\ncase $1 in digest) " + row.digest + ";; *) echo \"$*\" >>\"$LOG\";; esac\n"
		if err := os.WriteFile(crane, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("CRANE", crane)
		t.Setenv("LOG", log)
		out, err := script(t, "push-image", dir, "r/x", "1.2.3", digest)
		if (err == nil) != (row.want == "") || !strings.Contains(out, row.want) {
			t.Errorf("%s: %v, %s", row.digest, err, out)
		}
		if did, err := os.ReadFile(log); (err == nil) != row.pushed {
			t.Errorf("%s: did %s, %v", row.digest, did, err)
		}
	}
	for _, args := range [][]string{{".", "r/x", "1.2.3", "latest"}, {".", "r/x", "latest", digest}, {".", "r/x", "", digest}, {".", "r/x", "1.2.3", ""}, {".", "r/x"}} {
		t.Setenv("LOG", filepath.Join(t.TempDir(), "log"))
		if out, err := script(t, "push-image", args...); err == nil {
			t.Errorf("%q: %s", args, out)
		}
		if did, err := os.ReadFile(os.Getenv("LOG")); err == nil {
			t.Errorf("%q: did %s", args, did)
		}
	}
}

// What is released is what was built: every file of it, and no other.
func TestSameRelease(t *testing.T) {
	sum := func(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }
	for name, row := range map[string]struct {
		change func(dir string) error
		sum    string // in place of the one that was built
		want   string // that is said; empty: it is the same
	}{
		"the same":          {},
		"another file":      {change: func(dir string) error { return os.WriteFile(filepath.Join(dir, "publish-linux-arm64"), nil, 0o600) }, want: "other files"},
		"another directory": {change: func(dir string) error { return os.Mkdir(filepath.Join(dir, "x"), 0o700) }, want: "other files"},
		"a hidden file":     {change: func(dir string) error { return os.WriteFile(filepath.Join(dir, ".x"), nil, 0o600) }, want: "other files"},
		"a changed file":    {change: func(dir string) error { return os.WriteFile(filepath.Join(dir, "a b.deb"), []byte("evil"), 0o600) }, want: "a b.deb"},
		"a missing file":    {change: func(dir string) error { return os.Remove(filepath.Join(dir, "a b.deb")) }, want: "a b.deb"},
		"a link":            {change: func(dir string) error { return relink(dir, "publish-linux-amd64") }, want: "other files"},
		"other checksums": {change: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sum("evil")+"  a b.deb\n"), 0o600)
		}, want: "not the one that was built"},
		"checksums as links": {change: func(dir string) error { return relink(dir, "SHA256SUMS") }, want: "no SHA256SUMS"},
		"no checksums":       {change: func(dir string) error { return os.Remove(filepath.Join(dir, "SHA256SUMS")) }, want: "no SHA256SUMS"},
		"no sum":             {sum: "-", want: "no SHA-256"},
		"another sum":        {sum: sum("x"), want: "not the one that was built"},
	} {
		dir := t.TempDir()
		sums := sum("deb") + "  a b.deb\n" + sum("binary") + "  publish-linux-amd64\n"
		for file, content := range map[string]string{"a b.deb": "deb", "publish-linux-amd64": "binary", "SHA256SUMS": sums} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if row.change != nil {
			if err := row.change(dir); err != nil {
				t.Fatal(err)
			}
		}
		if row.sum == "" {
			row.sum = sum(sums)
		}
		out, err := script(t, "same-release", dir, strings.Trim(row.sum, "-"))
		if (err == nil) != (row.want == "") || !strings.Contains(out, row.want) {
			t.Errorf("%s: %v, %s", name, err, out)
		}
	}
}

// relink makes a file a link to one with the same content.
func relink(dir, name string) error {
	to := filepath.Join(filepath.Dir(dir), filepath.Base(dir)+"-"+name)
	return errors.Join(os.Rename(filepath.Join(dir, name), to), os.Symlink(to, filepath.Join(dir, name)))
}

// Each job that publishes compares what it has with what the job that built it has put out.
func TestTheReleaseComparesWhatItPublishes(t *testing.T) {
	source, err := program.Source()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(source, ".github", "workflows", "release.yml"))
	if err != nil {
		t.Fatal(err)
	}
	jobs := regexp.MustCompile(`(?m)^  [a-z]+:\n`).Split(string(text[bytes.Index(text, []byte("\njobs:\n")):]), -1)
	compared := 0
	for _, job := range jobs {
		uses := strings.Index(job, "bin/release/")
		if !strings.Contains(job, "actions/download-artifact") || uses < 0 {
			continue
		}
		compared++
		check := strings.Index(job, `.github/same-release bin/release "$SUMS"`)
		if check < 0 || check > uses || check < strings.Index(job, "actions/download-artifact") || !strings.Contains(job, "SUMS: ${{ needs.build.outputs.sums }}") {
			t.Errorf("not compared before it is used: %s", job)
		}
	}
	if compared != 2 { // image, for the SBOM that it attests, and release
		t.Errorf("%d jobs publish files, want 2", compared)
	}
}

func TestChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "CHANGELOG.md")
	text := "# Changelog\n\n## [Unreleased]\n\n- later\n\n## [1.2.3] - 2026-11-24\n\n### Added\n\n- now\n\n## [1.2.30] - 2026-01-01\n\n- before\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CHANGELOG", file)
	if out, err := script(t, "changes", "1.2.3"); err != nil || strings.TrimSpace(out) != "### Added\n\n- now" {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := script(t, "changes", "1.2.4"); err == nil {
		t.Errorf("a version that is not there: %s", out)
	}
}
