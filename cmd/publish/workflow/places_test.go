package workflow

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A machine is a runner's: its directories under the names that they have there, and those
// that a container has for them.
func machine(t testing.TB) (r *Runner, workspace, temp string, env variables) {
	t.Helper()
	dir := t.TempDir()
	workspace, temp = filepath.Join(dir, "github", "workspace"), filepath.Join(dir, "github", "runner_temp")
	for _, d := range []string{filepath.Join(workspace, "buildcache", "v3"), temp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	env = variables{
		"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": workspace, "RUNNER_TEMP": temp,
		"RUNNER_WORKSPACE": "/home/runner/work/factory", "GITHUB_REPOSITORY": "vantage/factory",
	}
	return New(nil, env.getenv), workspace, temp, env
}

func TestPlaces(t *testing.T) {
	r, workspace, temp, _ := machine(t)
	for _, row := range []struct{ path, here string }{
		{"buildcache", workspace + "/buildcache"},
		{"./buildcache/", workspace + "/buildcache"},
		{".", workspace},
		{workspace + "/buildcache", workspace + "/buildcache"},
		{"/home/runner/work/factory/factory/buildcache", workspace + "/buildcache"},
		{"file:///home/runner/work/factory/factory/buildcache", workspace + "/buildcache"},
		{"/home/runner/work/_temp/buildcache", temp + "/buildcache"},
		{"/home/runner/work/_temperature", "/home/runner/work/_temperature"},
		{"/home/runner/work/factory/factory2/x", "/home/runner/work/factory/factory2/x"},
		{"/srv/x", "/srv/x"},
	} {
		if got := r.Here(row.path); got != row.here {
			t.Errorf("%s is %s here, want %s", row.path, got, row.here)
		}
	}
	for here, there := range map[string]string{
		workspace + "/report.json": "/home/runner/work/factory/factory/report.json",
		temp + "/report.json":      "/home/runner/work/_temp/report.json",
		"/srv/report.json":         "/srv/report.json",
	} {
		if got := r.There(here); got != there {
			t.Errorf("%s is %s there, want %s", here, got, there)
		}
	}
}

func TestDirectory(t *testing.T) {
	r, workspace, _, env := machine(t)
	for _, name := range []string{"README.md", "::error::x"} {
		if err := os.WriteFile(filepath.Join(workspace, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := r.Directory("buildcache"); err != nil || got != workspace+"/buildcache" {
		t.Errorf("%s, %v", got, err)
	}
	for _, row := range []struct{ path, want string }{
		{"buildcach", `"buildcach" is not there. An action in a container sees of its machine only github.workspace ("::error::x" "README.md" "buildcache/") and runner.temp (empty)`},
		{"/opt/buildcache", "sees of its machine only"},
		{"README.md", `"README.md" is no directory`},
	} {
		if _, err := r.Directory(row.path); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", row.path, err, row.want)
		}
	}

	// Runners before 2.329.0 say where their temporary directory is, and do not show it.
	env["RUNNER_TEMP"] = "/home/runner/work/_temp"
	for _, path := range []string{"/home/runner/work/_temp/buildcache", "file:///home/runner/work/_temp/buildcache"} {
		if _, err := New(nil, env.getenv).Directory(path); err == nil || !strings.Contains(err.Error(), "2.329.0") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestDirectoryWithMuchInIt(t *testing.T) {
	r, workspace, _, _ := machine(t)
	for i := range 30 {
		if err := os.Mkdir(filepath.Join(workspace, strings.Repeat("a", i+1)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Directory("x"); err == nil || !strings.Contains(err.Error(), "and 11 more") {
		t.Error(err)
	}
}

func TestFile(t *testing.T) {
	r, workspace, temp, _ := machine(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(workspace, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(workspace, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"../x", "/etc/x", ".", outside + "/x", workspace + "-2/x"} {
		if f, err := r.File(path); err == nil {
			t.Errorf("%s is taken for %s", path, f.Path())
		}
	}
	for path, want := range map[string]string{
		"report.json": workspace + "/report.json", "a/b/report.json": workspace + "/a/b/report.json",
		"/home/runner/work/_temp/r.json": temp + "/r.json",
	} {
		f, err := r.File(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, content := range []string{"{}", "{ }"} { // also where there is one already
			if err := f.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(want)
			if err != nil || string(got) != content {
				t.Errorf("%s: %q, %v", want, got, err)
			}
		}
	}
	for _, path := range []string{"link/report.json", "fifo", "buildcache"} {
		f, err := r.File(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Write(nil); err == nil {
			t.Errorf("%s is written", path)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside of the workspace: %v, %v", left, err)
	}
}

// Root in a container makes files for the user of the workspace.
func TestFileBelongsToTheOwnerOfTheWorkspace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	r, workspace, _, _ := machine(t)
	if err := os.Chown(workspace, 1001, 127); err != nil {
		t.Fatal(err)
	}
	f, err := r.File("a/b/report.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "a/b", "a/b/report.json"} {
		info, err := os.Stat(filepath.Join(workspace, name))
		if err != nil {
			t.Fatal(err)
		}
		if is := info.Sys().(*syscall.Stat_t); is.Uid != 1001 || is.Gid != 127 {
			t.Errorf("%s belongs to %d:%d", name, is.Uid, is.Gid)
		}
	}
}
