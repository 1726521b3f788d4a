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
		{"buildcach", `"buildcach" is not there. Of its host, an action in a container sees only github.workspace ("::error::x" "README.md" "buildcache/") and runner.temp (empty)`},
		{"/opt/buildcache", "an action in a container sees only"},
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

// A symbolic link in the workspace must not make us publish, or trust, what is elsewhere in the container.
func TestPathsAreConfined(t *testing.T) {
	r, workspace, temp, env := machine(t)
	outside := t.TempDir()
	for _, dir := range []string{filepath.Join(outside, "v3"), filepath.Join(temp, "real"), filepath.Join(temp, "_runner_file_commands"), filepath.Join(temp, "_github_home")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "key.asc"), []byte("key"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"out": outside, "buildcache/out": outside, "root": "/", "proc": "/proc/self", "up": "..", "commands": filepath.Join(temp, "_runner_file_commands"),
		"temp": temp, "again": "out/v3", "inside": "buildcache", "tempreal": filepath.Join(temp, "real"), "inner": workspace + "/buildcache",
	} {
		if err := os.Symlink(to, filepath.Join(workspace, link)); err != nil {
			t.Fatal(err)
		}
	}
	bad := []string{
		"out", "out/v3", "buildcache/out", "root", "root/etc", "proc", "up", "again", "commands", "temp/_github_home", outside, "/", "/etc", "/proc/self", "/proc/self/cwd/..", "buildcache/../..",
		temp + "/_runner_file_commands", "/home/runner/work/_temp/_github_home", "file://" + outside,
	}
	for _, path := range bad {
		if got, err := r.Directory(path); err == nil || !strings.Contains(err.Error(), "github.workspace") && !strings.Contains(err.Error(), "no directory") {
			t.Errorf("%s is taken for %s, %v", path, got, err)
		}
		if content, err := r.Read(filepath.Join(path, "key.asc")); err == nil {
			t.Errorf("%s is read: %q", path, content)
		}
	}
	for path, want := range map[string]string{
		"inside": workspace + "/buildcache", "inner/v3": workspace + "/buildcache/v3", "tempreal": temp + "/real", "temp/real": temp + "/real", ".": workspace, "": workspace, temp: temp,
	} {
		if got, err := r.Directory(path); err != nil || got != want {
			t.Errorf("%q is taken for %s, want %s: %v", path, got, want, err)
		}
	}
	if content, err := r.Read("tempreal/key.asc"); err != nil || string(content) != "key" {
		t.Errorf("%q, %v", content, err)
	}

	// The workspace may itself be behind a link.
	behind := filepath.Join(t.TempDir(), "workspace")
	if err := os.Symlink(workspace, behind); err != nil {
		t.Fatal(err)
	}
	env["GITHUB_WORKSPACE"] = behind
	if got, err := New(nil, env.getenv).Directory("buildcache"); err != nil || got != workspace+"/buildcache" {
		t.Errorf("%s, %v", got, err)
	}
}

// What is read is a file, and not more of it than there can be.
func TestReadDoesNotHang(t *testing.T) {
	r, workspace, _, _ := machine(t)
	if err := syscall.Mkfifo(filepath.Join(workspace, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	large, err := os.Create(filepath.Join(workspace, "large"))
	if err == nil {
		err = large.Truncate(1 << 40)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	for path, want := range map[string]string{"fifo": "a pipe, not a regular file", "large": "more than 16777216 bytes", "buildcache": "a directory, not a regular file", "none": "no such file"} {
		if _, err := r.Read(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
