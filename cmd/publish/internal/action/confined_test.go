package action

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// What an earlier step has left in the workspace cannot make the action publish what else is in its
// container, nor write into what the runner executes.
func TestAStepStaysInItsPlaces(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(outside, os.DirFS(clitest.Spack(t, "v3-signed"))); err != nil {
		t.Fatal(err)
	}
	s := newStage(t, "v3-signed")
	if err := os.Symlink(outside, filepath.Join(s.dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"link", outside, "/", "/proc/self/cwd/..", "../" + filepath.Base(outside)} {
		s.with["path"] = path
		got := s.run(t, t.Context())
		got.ends(t, cli.ExitSource, map[string]string{"result": "failed", "failure-class": "source"})
	}
	if n := s.bucket.Count("PutObject"); n > 0 {
		t.Errorf("%d objects were published", n)
	}
	s.with["path"] = "buildcache"
	commands := filepath.Join(t.TempDir(), "set_env_7")
	clitest.Write(t, commands, "before")
	s.env["GITHUB_ENV"] = commands
	if err := os.Symlink(commands, filepath.Join(s.dir, "report.json")); err != nil {
		t.Fatal(err)
	}
	s.with["report-file"] = "report.json"
	got := s.run(t, t.Context())
	got.ends(t, cli.ExitDone, map[string]string{"result": "published", "report-file": ""})
	if text, err := os.ReadFile(commands); err != nil || string(text) != "before" {
		t.Errorf("the runner would execute %q, %v", text, err)
	}
	if !strings.Contains(got.log, "::warning title=no report::") {
		t.Errorf("no warning: %s", got.log)
	}
}

// A green step whose outputs are empty looks like one that had nothing to tell.
func TestAStepWithoutOutputsWarns(t *testing.T) {
	s := newStage(t, "v3-signed")
	s.env["GITHUB_OUTPUT"] = filepath.Join(t.TempDir(), "gone", "output")
	got := s.run(t, t.Context())
	if got.code != cli.ExitDone || strings.Count(got.log, "::warning title=outputs are missing::") != 1 {
		t.Errorf("%d: %s", got.code, got.log)
	}
}

// A key that was pasted into a secret with a line break at its end is that key.
func TestAStepWithALineBreakInItsKey(t *testing.T) {
	s := newStage(t, "v3-signed")
	session := s.static(t)
	s.env["GITHUB_ACTIONS"] = "true"
	s.with["credentials"] = "env"
	t.Setenv("AWS_ACCESS_KEY_ID", session.AccessKey+"\n")
	t.Setenv("AWS_SECRET_ACCESS_KEY", session.SecretKey+"\r\n")
	t.Setenv("AWS_SESSION_TOKEN", session.Token+"\n")
	s.run(t, t.Context()).ends(t, cli.ExitDone, map[string]string{"result": "published"})
}
