package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// A Measure is one run of a client.
type Measure struct {
	Wall     time.Duration
	CPU      time.Duration // of the client, user and system
	Peak     int64         // bytes resident at most
	Server   time.Duration // processor time of the server
	Requests int64         // that the server counted; 0: it does not count
	Dialled  int64         // connections
	Bytes    int64         // of content that the server got

	// Reads, Writes and Lists are of objects: GetObject; PutObject and
	// CompleteMultipartUpload; ListObjectsV2.
	Reads, Writes, Lists int64
}

// A command is a client about to be run.
type command struct {
	bin  string
	args []string
	env  []string
}

func (c command) String() string { return strings.Join(append([]string{c.bin}, c.args...), " ") }

// errSlow is a client that was stopped because it took too long.
var errSlow = errors.New("stopped: it takes too long")

// measure runs a command to its end, or until limit has passed.
//
// The kernel counts from our own peak memory, as of a process that has just been split off
// from ours. So this process must stay small while it measures.
func measure(ctx context.Context, c command, limit time.Duration) (Measure, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.bin, c.args...)
	cmd.Env = c.env
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it has started ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	err := cmd.Run()
	m := Measure{Wall: time.Since(began)}
	if ctx.Err() != nil {
		return m, context.Cause(ctx)
	}
	if err != nil {
		return m, fmt.Errorf("%s: %w\n%s", c, err, last(said.String(), 2000))
	}
	m.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.Peak = usage.Maxrss << 10
	}
	return m, nil
}

// used is the processor time that a process has had until now, user and system.
func used(pid int) (time.Duration, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, err
	}
	st, err := p.Stat()
	return time.Duration(st.CPUTime() * float64(time.Second)), err
}

// last is the end of a text.
func last(s string, n int) string { return s[max(0, len(s)-n):] }
