package daemon

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
	"github.com/vantagecompute/slurm-factory-publish/test/systemd"
)

// manage lets the daemon of a host say how it is.
func manage(t *testing.T, h *host) *systemd.Manager {
	t.Helper()
	m := systemd.Manage(t, filepath.Join(h.dir, "notify"))
	h.env = append(h.env, "NOTIFY_SOCKET="+m.Path)
	return m
}

func TestSystemdIsTold(t *testing.T) {
	t.Parallel()
	h, _, _ := bucketHost(t)
	m := manage(t, h)
	h.env = append(h.env, "WATCHDOG_USEC=400000")
	h.start()
	h.until("it is ready", func() bool { return m.Count("READY=1") == 1 })
	h.until("it is well, again and again", func() bool { return m.Count("WATCHDOG=1") > 3 })
	h.cmd.Process.Signal(syscall.SIGHUP)
	h.until("it has reloaded", func() bool { return m.Count("RELOADING=1\nMONOTONIC_USEC=") == 1 && m.Count("READY=1") == 2 })
	h.stop()
	if m.Count("STOPPING=1\nEXTEND_TIMEOUT_USEC=70000000") != 1 {
		t.Errorf("it said %s", m)
	}
}

// What makes no progress is not well, although the process lives.
func TestSystemdIsNotToldThatAllIsWell(t *testing.T) {
	t.Parallel()
	h, p, _ := bucketHost(t)
	h.extra = "stalled_after: 1s\nstop_timeout: 1s\n"
	m := manage(t, h)
	h.env = append(h.env, "WATCHDOG_USEC=200000")
	h.start()
	release := make(chan struct{})
	p.Inject(func(r faultproxy.Request) faultproxy.Fault {
		if r.Mutating() {
			return faultproxy.Hold(func() { <-release })
		}
		return faultproxy.Fault{}
	})
	u := spackmirror.New(spackmirror.V3, 2)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.until("it is not healthy", func() bool { _, err := h.get("/healthz"); return err != nil })
	before := m.Count("WATCHDOG=1")
	time.Sleep(time.Second)
	if n := m.Count("WATCHDOG=1") - before; n > 0 {
		t.Errorf("said %d times that all is well", n)
	}
	if s := h.status(); s.Healthy {
		t.Errorf("%+v", s)
	}
	p.Inject(nil)
	close(release)
	h.until("it is well again", func() bool { _, err := h.get("/healthz"); return err == nil && h.jobs("published") == 2 })
}

// A socket that systemd has opened is used, and kept.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	given := filepath.Join(h.dir, "given")
	l, err := net.Listen("unix", given)
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	h.configure()
	u := spackmirror.New(spackmirror.V3, 3)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.socket = given
	for range 2 {
		h.cmd = exec.Command("sh", "-c", fmt.Sprintf("LISTEN_PID=$$ LISTEN_FDS=1 exec %s daemon --config %s/config.yaml", h.bin, h.dir))
		h.cmd.Env, h.cmd.Stderr, h.cmd.ExtraFiles = h.env, h.log, []*os.File{f}
		if err := h.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		h.exited = make(chan struct{})
		go func(cmd *exec.Cmd, exited chan struct{}) { cmd.Wait(); close(exited) }(h.cmd, h.exited)
		// Who asks before it is ready waits, and is not refused.
		h.must("drain", "--wait")
		if code := h.stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if _, err := os.Stat(given); err != nil {
			t.Errorf("the socket of systemd: %v", err)
		}
	}
	wantWhole(t, bucket, 3)
}
