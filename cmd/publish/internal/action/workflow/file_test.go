package workflow

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

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
	for _, path := range []string{"link/report.json", "fifo", "buildcache", "report.json/x"} {
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
	if left, err := filepath.Glob(filepath.Join(workspace, ".publish-*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// The report replaces a name and not what is behind it, and nothing that the runner executes after the step.
func TestAReportIsNotWrittenThroughALink(t *testing.T) {
	r, workspace, temp, env := machine(t)
	commands := filepath.Join(temp, "_runner_file_commands")
	elsewhere := t.TempDir() // where the runner of another host keeps them
	for _, dir := range []string{commands, filepath.Join(workspace, "commands"), filepath.Join(workspace, "real")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	victims := map[string]string{
		"GITHUB_ENV": filepath.Join(commands, "set_env_1"), "GITHUB_PATH": filepath.Join(elsewhere, "add_path_1"),
		"GITHUB_OUTPUT": filepath.Join(workspace, "commands", "set_output_1"), "GITHUB_STATE": filepath.Join(workspace, "state"),
	}
	for variable, name := range victims {
		env[variable] = name
		if err := os.WriteFile(name, []byte("before"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"env": victims["GITHUB_ENV"], "output": "commands/set_output_1", "dir": "commands", "real-link": "real", "temp": temp, "dangling": filepath.Join(workspace, "made"),
	} {
		if err := os.Symlink(to, filepath.Join(workspace, link)); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"hard-env": victims["GITHUB_ENV"], "hard-state": victims["GITHUB_STATE"]} {
		if err := os.Link(to, filepath.Join(workspace, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{
		"env", "output", "dir/report.json", "dir/set_output_1", "real-link/report.json", "temp/report.json", "temp/_runner_file_commands/set_env_1", "dangling", "state", "hard-state", "hard-env",
		"commands/report.json", "commands/set_output_1", temp + "/_runner_file_commands/set_env_1", "/home/runner/work/_temp/_runner_file_commands/new", temp + "/_github_home/.bashrc",
	} {
		f, err := r.File(path)
		if err == nil {
			err = f.Write([]byte("PATH=/evil"))
		}
		if err == nil {
			t.Errorf("%s is written", path)
		}
	}
	for variable, name := range victims {
		if text, err := os.ReadFile(name); err != nil || string(text) != "before" {
			t.Errorf("%s holds %q, %v", variable, text, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(workspace, "made")); err == nil {
		t.Error("a dangling link was followed")
	}
	// A file with a second hard link is replaced; the content under the other name stays.
	other := filepath.Join(elsewhere, "other")
	if err := os.WriteFile(other, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(other, filepath.Join(workspace, "report.json")); err != nil {
		t.Fatal(err)
	}
	f, err := r.File("report.json")
	if err == nil {
		err = f.Write([]byte("{}"))
	}
	text, _ := os.ReadFile(other)
	if got, readErr := os.ReadFile(filepath.Join(workspace, "report.json")); err != nil || readErr != nil || string(got) != "{}" || string(text) != "before" {
		t.Errorf("%q, %v, %v; elsewhere %q", got, err, readErr, text)
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

// A step without outputs does not look like one that has told everything.
func TestWhatCannotBeWrittenIsAWarning(t *testing.T) {
	r, log, output, summary := inRunner(t, nil)
	for _, dir := range []string{output, summary} { // where a file should be
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		r.Output("result", "published")
		r.Summary("# done")
	}
	got := commandsIn(log.String())
	if len(got) != 2 || got[0].name != "warning" || got[0].properties["title"] != "outputs are missing" || !strings.Contains(got[0].data, "cannot write to $GITHUB_OUTPUT") ||
		got[1].name != "warning" || got[1].properties["title"] != "the summary is missing" {
		t.Errorf("commands %q in %s", got, log)
	}
}
