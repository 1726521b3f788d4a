package action

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
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
	if testing.Short() {
		t.Skip("compiles crane")
	}
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
