package action

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The user that GitHub's runners run as, whose files a job's are.
const runnerUID, runnerGID = 1001, 1001

// A job is a job on a runner, as far as a container action can tell: directories, environment
// and the form of `docker run` are those of GitHub's own runner (actions/runner:
// ContainerActionHandler, DockerCommandManager, ProcessInvoker).
type job struct {
	image string
	// workspace and temp are directories of the machine; a container has them elsewhere.
	workspace, temp string
	env             map[string]string // of the job, and what the runner adds
	// old is a runner from before 2.329, whose containers do not see temp.
	old     bool
	network string // of a job with services or a container; "": the default one
	options []string
	socket  *dockerSocket
}

// newJob lays out the directories of a runner that has checked out nothing yet.
func newJob(t *testing.T) *job {
	t.Helper()
	// Not t.TempDir: its parents are closed to others than the test's user.
	work, err := os.MkdirTemp("", "work-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	j := &job{
		image:     loaded(t),
		workspace: filepath.Join(work, "slurm-factory/slurm-factory"),
		temp:      filepath.Join(work, "_temp"),
		socket:    listenAsDocker(t, filepath.Join(work, "docker.sock")),
	}
	for _, dir := range []string{j.workspace, filepath.Join(j.temp, "_github_home"), filepath.Join(j.temp, "_github_workflow"), filepath.Join(j.temp, "_runner_file_commands")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(j.temp, "_github_workflow/event.json"), []byte(`{"inputs":{}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	j.env = map[string]string{
		"CI":                    "true",
		"GITHUB_ACTION":         "publish",
		"GITHUB_ACTIONS":        "true",
		"GITHUB_ACTOR":          "octocat",
		"GITHUB_API_URL":        "https://api.github.com",
		"GITHUB_EVENT_NAME":     "workflow_dispatch",
		"GITHUB_EVENT_PATH":     filepath.Join(j.temp, "_github_workflow/event.json"),
		"GITHUB_JOB":            "build",
		"GITHUB_REF":            "refs/heads/main",
		"GITHUB_REF_NAME":       "main",
		"GITHUB_REF_TYPE":       "branch",
		"GITHUB_REPOSITORY":     "vantagecompute/slurm-factory",
		"GITHUB_RUN_ATTEMPT":    "1",
		"GITHUB_RUN_ID":         "987654321",
		"GITHUB_RUN_NUMBER":     "7",
		"GITHUB_SERVER_URL":     "https://github.com",
		"GITHUB_SHA":            "ffac537e6cbbf934b08745a378932722df287a53",
		"GITHUB_WORKFLOW":       "build",
		"GITHUB_WORKSPACE":      j.workspace,
		"HOME":                  filepath.Join(j.temp, "_github_home"),
		"RUNNER_ARCH":           "X64",
		"RUNNER_ENVIRONMENT":    "github-hosted",
		"RUNNER_NAME":           "GitHub Actions 7",
		"RUNNER_OS":             "Linux",
		"RUNNER_TEMP":           j.temp,
		"RUNNER_TOOL_CACHE":     "/opt/hostedtoolcache",
		"RUNNER_WORKSPACE":      filepath.Dir(j.workspace),
		"ACTIONS_RUNTIME_URL":   "https://pipelines.actions.githubusercontent.com/x/",
		"ACTIONS_RUNTIME_TOKEN": canary("runtime"),
		"ACTIONS_RESULTS_URL":   "https://results-receiver.actions.githubusercontent.com/",
	}
	j.own(t, work)
	return j
}

// own gives files to the runner's user, as a checkout leaves them.
func (j *job) own(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, runnerUID, runnerGID)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copyIn puts a directory of the test into the workspace, as an earlier step would.
func (j *job) copyIn(t *testing.T, from, name string) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(j.workspace, name), os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	j.own(t, j.workspace)
}

// A step is the action under way.
type step struct {
	job            *job
	files          map[string]string // of file commands, by the variable that names them
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	name           string
	began          time.Time
	done           chan struct{}
	err            error
}

// An outcome is what is left of a step.
type outcome struct {
	code    int
	log     string // as people see it: commands carried out, secrets masked
	raw     string // as the container wrote it, without the commands that tell secrets
	outputs map[string]string
	summary string
	env     string // what it would have exported to later steps
	masks   []string
	took    time.Duration
}

func (o *outcome) String() string {
	return fmt.Sprintf("exit %d after %v\n%s\noutputs %v\nsummary:\n%s", o.code, o.took.Round(time.Millisecond), o.log, o.outputs, o.summary)
}

var steps atomic.Int64

// start starts the action with the inputs with, as `docker run` is started by the runner.
func (j *job) start(t *testing.T, with map[string]string) *step {
	t.Helper()
	s := &step{job: j, files: make(map[string]string), done: make(chan struct{})}
	id := fmt.Sprintf("%x", nonce())
	commands := filepath.Join(j.temp, "_runner_file_commands")
	for variable, file := range map[string]string{
		"GITHUB_OUTPUT": "set_output_", "GITHUB_STEP_SUMMARY": "step_summary_", "GITHUB_ENV": "set_env_",
		"GITHUB_PATH": "add_path_", "GITHUB_STATE": "save_state_",
	} {
		s.files[variable] = filepath.Join(commands, file+id)
		if err := os.WriteFile(s.files[variable], nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	j.own(t, commands)

	env := maps.Clone(j.env)
	maps.Copy(env, s.files)
	for name, value := range with {
		env["INPUT_"+strings.ToUpper(strings.ReplaceAll(name, " ", "_"))] = value
	}
	s.name = fmt.Sprintf("ghcriovantagecomputeslurmfactorypublish_%.6s", id)
	args := []string{"run", "--name", s.name, "--label", "5588e4", "--workdir", "/github/workspace", "--rm"}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		args = append(args, "-e", name) // the value is in the environment of the client
	}
	args = append(args, "-e", "GITHUB_ACTIONS=true")
	if _, ok := env["CI"]; !ok {
		args = append(args, "-e", "CI=true")
	}
	if j.network != "" {
		args = append(args, "--network", j.network)
	}
	args = append(args, j.options...)
	args = append(args, "-v", j.socket.path+":/var/run/docker.sock")
	for _, m := range j.mounts() {
		args = append(args, "-v", m[0]+":"+m[1])
	}
	args = append(args, j.image)
	if words := with["args"]; words != "" {
		args = append(args, strings.Fields(words)...)
	}
	s.cmd = exec.Command("docker", args...)
	s.cmd.Dir = j.workspace
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DOCKER_HOST=" + os.Getenv("DOCKER_HOST")}
	for name, value := range env {
		s.cmd.Env = append(s.cmd.Env, name+"="+j.translate(value))
	}
	// Whoever is interrupted on the terminal is the test, not the client.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	s.began = time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	steps.Add(1)
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		<-s.done
		exec.Command("docker", "rm", "--force", s.name).Run()
	})
	return s
}

// mounts are what of the machine a container action sees, and where.
func (j *job) mounts() [][2]string {
	all := [][2]string{
		{filepath.Join(j.temp, "_github_home"), "/github/home"},
		{filepath.Join(j.temp, "_github_workflow"), "/github/workflow"},
		{filepath.Join(j.temp, "_runner_file_commands"), "/github/file_commands"},
		{j.workspace, "/github/workspace"},
	}
	if !j.old {
		all = append(all, [2]string{j.temp, "/github/runner_temp"})
	}
	return all
}

// translate rewrites a value that is, or begins with, a path that the container has elsewhere.
func (j *job) translate(value string) string {
	for _, m := range j.mounts() {
		if rest, ok := strings.CutPrefix(value, m[0]); ok && (rest == "" || rest[0] == '/') {
			return m[1] + rest
		}
	}
	return value
}

func nonce() []byte {
	b := make([]byte, 16)
	rand.Read(b)
	return b
}

// The runner's time limits when a workflow is cancelled.
const (
	interruptAfter = 0
	terminateAfter = 7500 * time.Millisecond
	killAfter      = terminateAfter + 2500*time.Millisecond
)

// cancel does what the runner does when a workflow is cancelled.
func (s *step) cancel(t *testing.T) {
	t.Helper()
	for _, c := range []struct {
		after  time.Duration
		signal syscall.Signal
	}{{interruptAfter, syscall.SIGINT}, {terminateAfter, syscall.SIGTERM}, {killAfter - terminateAfter, syscall.SIGKILL}} {
		select {
		case <-s.done:
			return
		case <-time.After(c.after):
			s.cmd.Process.Signal(c.signal)
		}
	}
}

// wait waits for the end of the step and reads what it has left.
func (s *step) wait(t *testing.T) *outcome {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(3 * time.Minute):
		t.Fatalf("the step does not end:\n%s%s", &s.stdout, &s.stderr)
	}
	if exit := (*exec.ExitError)(nil); s.err != nil && !errors.As(s.err, &exit) {
		t.Fatal(s.err)
	}
	o := &outcome{code: s.cmd.ProcessState.ExitCode(), took: time.Since(s.began)}
	o.read(t, s)
	return o
}

func (j *job) run(t *testing.T, with map[string]string) *outcome {
	t.Helper()
	return j.start(t, with).wait(t)
}

var command = regexp.MustCompile(`^::([a-z-]+)(?: [^:]*)?::(.*)$`)

// unescape is how the runner reads what a command carries.
var unescape = strings.NewReplacer("%25", "%", "%0D", "\r", "%0A", "\n")

func (o *outcome) read(t *testing.T, s *step) {
	t.Helper()
	var log, raw []string
	stopped := ""
	for _, line := range strings.Split(s.stdout.String()+s.stderr.String(), "\n") {
		m := command.FindStringSubmatch(line)
		switch {
		case stopped != "" && line == "::"+stopped+"::":
			stopped = ""
			continue
		case stopped != "" || m == nil:
		case m[1] == "stop-commands":
			stopped = m[2]
			continue
		case m[1] == "add-mask":
			mask := unescape.Replace(m[2])
			for _, l := range append(strings.Split(mask, "\n"), mask) {
				if l != "" {
					o.masks = append(o.masks, l)
				}
			}
			continue
		}
		log, raw = append(log, line), append(raw, line)
	}
	o.raw = strings.Join(raw, "\n")
	o.log = strings.Join(log, "\n")
	for _, mask := range o.masks {
		o.log = strings.ReplaceAll(o.log, mask, "***")
	}
	o.outputs = fileCommands(t, s.files["GITHUB_OUTPUT"])
	o.summary = text(t, s.files["GITHUB_STEP_SUMMARY"])
	o.env = text(t, s.files["GITHUB_ENV"]) + text(t, s.files["GITHUB_PATH"]) + text(t, s.files["GITHUB_STATE"])
}

func text(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// fileCommands reads name=value and name<<delimiter, as the runner does.
func fileCommands(t *testing.T, file string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	lines := strings.Split(text(t, file), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "" {
			continue
		}
		name, value, short := strings.Cut(line, "=")
		if long, delimiter, ok := strings.Cut(line, "<<"); ok && (!short || len(long) < len(name)) {
			name = long
			var held []string
			for i++; i < len(lines) && lines[i] != delimiter; i++ {
				held = append(held, lines[i])
			}
			if i == len(lines) {
				t.Fatalf("%s: no end of %s", filepath.Base(file), name)
			}
			value = strings.Join(held, "\n")
		} else if !short {
			t.Fatalf("%s: invalid line %q", filepath.Base(file), line)
		}
		all[name] = value
	}
	return all
}

// A dockerSocket stands where every container action finds the engine's own socket.
type dockerSocket struct {
	path   string
	opened atomic.Int64
}

func listenAsDocker(t *testing.T, path string) *dockerSocket {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	d := &dockerSocket{path: path}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.opened.Add(1)
			c.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return d
}

// A canary is a secret that is nowhere to be seen again.
func canary(what string) string { return fmt.Sprintf("canary-%s-%x", what, nonce()) }

// snapshot is everything below a directory: its names, owners, modes and sizes.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		name, _ := filepath.Rel(dir, path)
		all[name] = fmt.Sprintf("%d:%d %v %d %v", stat.Uid, stat.Gid, info.Mode(), info.Size(), info.ModTime())
		if d.IsDir() {
			all[name] = fmt.Sprintf("%d:%d %v", stat.Uid, stat.Gid, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
