// Package daemon holds what is promised of the daemon: the real binary beside a build that writes
// into its source, against a real S3 server.
package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// A host is a build host: a source, a state directory and a configuration, and the daemon while
// it runs.
type host struct {
	t                          *testing.T
	bin                        string
	dir, source, state, socket string
	env                        []string
	destination                string
	extra                      string // lines of the configuration
	mirror                     string // lines of the mirror

	cmd    *exec.Cmd
	log    *safeBuffer
	exited chan struct{}
}

// newHost makes a host that publishes to a destination. Its directory has a short path, because
// sockets must.
func newHost(t *testing.T, destination string, env []string) *host {
	t.Helper()
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "host")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{
		t: t, bin: bin, dir: dir, source: dir + "/source", state: dir + "/state", socket: dir + "/run/socket", env: append(env[:len(env):len(env)], "TMPDIR="+dir+"/tmp"), destination: destination, log: new(safeBuffer),
	}
	for _, d := range []string{h.source, dir + "/tmp"} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		h.kill()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("the daemon said:\n%s", h.log)
		}
	})
	return h
}

// configure writes the configuration: the smallest, and what was added.
func (h *host) configure() {
	h.t.Helper()
	text := fmt.Sprintf("state_dir: %s\nsocket: %s\n%smirrors:\n  - source: %s\n    destination: %s\n%s", h.state, h.socket, h.extra, h.source, h.destination, h.mirror)
	if err := os.WriteFile(h.dir+"/config.yaml", []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// start starts the daemon and waits until it answers.
func (h *host) start() {
	h.t.Helper()
	h.configure()
	h.cmd = exec.Command(h.bin, "daemon", "--config", h.dir+"/config.yaml")
	h.cmd.Env = h.env
	h.cmd.Stderr = h.log
	h.cmd.Stdout = h.log
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		cmd.Wait()
		close(exited)
	}(h.cmd, h.exited)
	h.until("the daemon answers", func() bool {
		select {
		case <-h.exited:
			h.t.Fatalf("the daemon has ended:\n%s", h.log)
		default:
		}
		_, err := h.get("/readyz")
		return err == nil
	})
}

// kill ends the daemon at once.
func (h *host) kill() {
	if h.cmd != nil {
		h.cmd.Process.Kill()
		<-h.exited
		h.cmd = nil
	}
}

// stop tells the daemon to stop, and returns its exit code.
func (h *host) stop() int {
	h.t.Helper()
	h.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-h.exited:
	case <-time.After(2 * time.Minute):
		h.t.Fatal("the daemon does not stop")
	}
	code := h.cmd.ProcessState.ExitCode()
	h.cmd = nil
	return code
}

// run runs a command of the program against the daemon.
func (h *host) run(args ...string) program.Result {
	h.t.Helper()
	r, err := program.Run(append(h.env, "PUBLISH_SOCKET="+h.socket), h.bin, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// must is run for what has to succeed.
func (h *host) must(args ...string) string {
	h.t.Helper()
	r := h.run(args...)
	if r.Code != 0 {
		h.t.Fatal(r)
	}
	return r.Stdout
}

// get asks the daemon over its socket.
func (h *host) get(path string) (string, error) {
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", h.socket)
	}}}
	resp, err := c.Get("http://daemon" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(text), err
}

// A status is what tests look at of one.
type status struct {
	Healthy bool
	Mirrors []struct {
		Name, Paused string
		Jobs         map[string]int
		Waiting      int
		Indices      []struct{ Packages int }
	}
	Failed, Stuck, Incomplete []struct{ Package, File, Reason string }
	Owed                      []struct{ Reason string } `json:"obligations"`
}

func (h *host) status() status {
	h.t.Helper()
	var s status
	text, err := h.get("/v1/status")
	if err == nil {
		err = json.Unmarshal([]byte(text), &s)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// jobs is how many jobs are in a state.
func (h *host) jobs(state string) int {
	h.t.Helper()
	return h.status().Mirrors[0].Jobs[state]
}

// metric is the sum of a metric over all its labels.
func (h *host) metric(name string) float64 {
	h.t.Helper()
	text, err := h.get("/metrics")
	if err != nil {
		h.t.Fatal(err)
	}
	sum := 0.0
	for _, line := range strings.Split(text, "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok && (strings.HasPrefix(rest, "{") || strings.HasPrefix(rest, " ")) {
			var v float64
			fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v)
			sum += v
		}
	}
	return sum
}

// patience is how long a loaded machine may take for what a free one does at once.
const patience = 90 * time.Second

// until waits for something to be so.
func (h *host) until(what string, so func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("after %s: not so: %s", patience, what)
		}
	}
}

// drop puts files of one directory into another, as a copy does that is never half done. It keeps the
// order in which Spack writes: documents last.
func drop(t *testing.T, from, to string) {
	t.Helper()
	var documents []string
	err := filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if name, _ := filepath.Rel(from, path); strings.Contains(name, "spec.") {
			documents = append(documents, name)
		} else {
			move(t, path, filepath.Join(to, name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range documents {
		move(t, filepath.Join(from, name), filepath.Join(to, name))
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o777)
	}
	if err == nil {
		err = os.WriteFile(to+".part", content, 0o666)
	}
	if err == nil {
		err = os.Rename(to+".part", to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
