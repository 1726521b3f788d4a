package action

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// Where no container can be started, the binary of a release does the same in a `run:` step: the
// shell that GitHub starts passes on inputs that the step sets as its environment.
func TestActionInAScript(t *testing.T) {
	w := newWorld(t)
	j := w.job(t)
	j.copyIn(t, "../testdata/v3-signed", "buildcache")
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	env := maps.Clone(j.env)
	files := make(map[string]string)
	for _, name := range []string{"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV"} {
		files[name] = filepath.Join(j.temp, "_runner_file_commands", name)
		if err := os.WriteFile(files[name], nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	maps.Copy(env, files)
	for name, value := range w.with() {
		env["INPUT_"+strings.ToUpper(name)] = value
	}
	script := filepath.Join(j.temp, "script.sh")
	if err := os.WriteFile(script, []byte(bin+" action\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", script)
	cmd.Dir = j.workspace
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if out := fileCommands(t, files["GITHUB_OUTPUT"]); out["result"] != "published" {
		t.Errorf("outputs %v\n%s", out, said)
	}
	if m := w.mirror("noble/spack"); !m.Works() || len(m.Specs) == 0 {
		t.Errorf("the mirror: %v", m)
	}
	if text(t, files["GITHUB_STEP_SUMMARY"]) == "" || text(t, files["GITHUB_ENV"]) != "" {
		t.Errorf("summary %q, environment %q", text(t, files["GITHUB_STEP_SUMMARY"]), text(t, files["GITHUB_ENV"]))
	}
}
