package action

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// What is suggested is copied into a shell.
func TestSuggestedCommandsAreQuoted(t *testing.T) {
	o := &outcome{in: &inputs{destination: "s3://cache/x"}, found: 1, report: task.NewReport(cli.Env{}, "", "", false, nil)}
	o.in.target.CDN.PublicURL = "https://cache.example.org/$(touch${IFS}pwned)"
	o.report.Mirrors = []task.MirrorReport{{Path: "a;touch pwned;'`touch pwned`'", Packages: []task.PackageReport{{Name: "a", Hash: strings.Repeat("a", 32)}}}}
	var b strings.Builder
	o.use(&b)
	_, text, ok := strings.Cut(b.String(), "```sh\n")
	line, _, _ := strings.Cut(text, "\n")
	cmd := exec.Command("sh", "-c", `spack() { printf '%s\n' "$@"; }; `+line)
	cmd.Dir = t.TempDir()
	got, err := cmd.CombinedOutput()
	if want := "mirror\nadd\n--unsigned\n" + mirrorName(o.mirrorURL(o.report.Mirrors[0].Path)) + "\n" + o.mirrorURL(o.report.Mirrors[0].Path) + "\n"; !ok || err != nil || string(got) != want {
		t.Errorf("suggested is %s, which does %s, %v", line, got, err)
	}
	if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
		t.Errorf("%s has made %v, %v", line, left, err)
	}
}
