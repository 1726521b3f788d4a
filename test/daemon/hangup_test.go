package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// around runs publish exec around a command, and returns when that has said that it is ready.
func (h *host) around(command ...string) (*exec.Cmd, *safeBuffer) {
	h.t.Helper()
	return h.begin(exec.Command(h.bin, append([]string{"exec", "--allow-empty", h.source, h.destination, "--"}, command...)...))
}

// begin begins a command, and returns when it has said that it is ready.
func (h *host) begin(cmd *exec.Cmd) (*exec.Cmd, *safeBuffer) {
	h.t.Helper()
	cmd.Env, cmd.WaitDelay = h.env, time.Second // what it has begun may live on
	out := new(safeBuffer)
	cmd.Stdout, cmd.Stderr = out, h.log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { cmd.Process.Kill() })
	h.until("the command runs", func() bool { return strings.Contains(out.String(), "ready") })
	return cmd, out
}

// When a session is closed, the command of publish exec is told, and waited for; what it completes even then is
// published. A second SIGHUP, which a terminal sends, changes nothing.
func TestHangupOfExec(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	u := spackmirror.New(spackmirror.V3, 3)
	last := mirrorOf(t, u, u.All())
	cmd, out := h.around("sh", "-c", fmt.Sprintf(`trap 'sleep 1; cp -r %s/. %s; echo told; exit 0' HUP; echo ready; while :; do sleep 0.1; done`, last, h.source))
	cmd.Process.Signal(syscall.SIGHUP)
	cmd.Process.Signal(syscall.SIGHUP)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 129 || !strings.Contains(out.String(), "told") {
		t.Errorf("exit code %d, it said %s", code, out)
	}
	wantWhole(t, bucket, 3)
	if left := stateDirs(t, h); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Under nohup, closing the session changes nothing.
func TestIgnoredHangupOfExec(t *testing.T) {
	t.Parallel()
	h, _, _ := bucketHost(t)
	cmd, out := h.begin(exec.Command("sh", "-c", `trap '' HUP; exec "$@"`, "sh", h.bin, "exec", "--allow-empty", h.source, h.destination, "--",
		"sh", "-c", "echo ready; while ! test -e "+h.dir+"/go; do sleep 0.1; done; echo ended"))
	cmd.Process.Signal(syscall.SIGHUP)
	if err := os.WriteFile(h.dir+"/go", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 0 || !strings.Contains(out.String(), "ended") {
		t.Errorf("exit code %d, it said %s", code, out)
	}
}

// What a killed publish exec leaves is removed by the next one; what another one uses stays, and so does what is somebody
// else's by its name.
func TestWhatAKilledExecLeavesIsRemoved(t *testing.T) {
	t.Parallel()
	h, _, _ := bucketHost(t)
	wait := []string{"sh", "-c", "echo ready; while ! test -e " + h.dir + "/go; do sleep 0.1; done"}
	killed, _ := h.around(wait...)
	old := stateDirs(t, h)
	if len(old) != 1 {
		t.Fatalf("directories %v", old)
	}
	used, _ := h.around(wait...)
	both := stateDirs(t, h)
	killed.Process.Kill()
	killed.Wait()
	other := filepath.Join(h.dir, "tmp", "publish-exec-notes")
	if err := os.WriteFile(other, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if r := h.run("exec", "--allow-empty", h.source, h.destination, "--", "true"); r.Code != 0 {
		t.Error(r)
	}
	want := slices.DeleteFunc(both, func(dir string) bool { return dir == old[0] })
	if got := stateDirs(t, h); !slices.Equal(got, append(want, other)) {
		t.Errorf("after the next one: %v, want %v and %s", got, want, other)
	}
	if err := os.WriteFile(h.dir+"/go", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := used.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		t.Errorf("the other one: %v", err)
	}
}

// Without a directory for temporary files, publish exec says so and runs nothing.
func TestExecWithoutATemporaryDirectory(t *testing.T) {
	t.Parallel()
	h, _, _ := bucketHost(t)
	h.env = append(h.env, "TMPDIR="+h.dir+"/nowhere")
	r := h.run("exec", h.source, h.destination, "--", "echo", "built")
	if r.Code != 2 || r.Stdout != "" || !strings.Contains(r.Stderr, h.dir+"/nowhere") || !strings.Contains(r.Stderr, "hint: set TMPDIR") {
		t.Error(r)
	}
}

// SIGHUP loads the configuration anew from the first moment on: before the configuration is read, and before the queue is
// open. strace holds the daemon where it has opened the configuration.
func TestHangupWhileTheDaemonStarts(t *testing.T) {
	h, _, _ := bucketHost(t)
	h.configure()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("apt-get install strace: %v", err)
	}
	config := h.dir + "/config.yaml"
	// -D: the process that we start is the daemon, and strace a child of it.
	cmd := exec.Command(strace, "-D", "-f", "-qq", "-o", "/dev/null", "-P", config, "-e", "trace=openat", "-e", "inject=openat:delay_exit=500ms:when=1", h.bin, "daemon", "--config", config)
	cmd.Env, cmd.Stderr = h.env, h.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	h.until("the configuration is open", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the daemon has ended: %v", err)
		default:
		}
		return isOpen(cmd.Process.Pid, config)
	})
	cmd.Process.Signal(syscall.SIGHUP)
	if strings.Contains(h.log.String(), "the daemon begins") {
		t.Error("strace has not held the daemon")
	}
	h.until("the configuration is loaded", func() bool { return strings.Contains(h.log.String(), "configuration loaded") })
	cmd.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		t.Errorf("stopped: %v", err)
	}
}

// isOpen reports whether a process has a file open.
func isOpen(pid int, file string) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	all, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(e os.DirEntry) bool {
		to, err := os.Readlink(dir + e.Name())
		return err == nil && to == file
	})
}

// A daemon whose socket is removed, as by what clears temporary directories, makes it again, with the same mode; and stops as it
// always does.
func TestARemovedSocketIsMadeAgain(t *testing.T) {
	t.Parallel()
	h, _, _ := bucketHost(t)
	h.start()
	before, err := os.Lstat(h.socket)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := os.RemoveAll(filepath.Dir(h.socket)); err != nil {
			t.Fatal(err)
		}
		h.until("the daemon answers again", func() bool { _, err := h.get("/readyz"); return err == nil })
	}
	if after, err := os.Lstat(h.socket); err != nil || after.Mode() != before.Mode() {
		t.Errorf("the socket has %v, had %v: %v", after.Mode(), before.Mode(), err)
	}
	if !strings.Contains(h.log.String(), "the socket was removed") {
		t.Error("nothing is said of it")
	}
	if code := h.stop(); code != 0 {
		t.Errorf("stopped with %d", code)
	}
}
