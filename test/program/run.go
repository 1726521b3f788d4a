package program

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A Process is a command that was started.
type Process struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	began          time.Time
}

// A Result is what a command said and how it ended.
type Result struct {
	Args           []string
	Stdout, Stderr string
	Code           int // -1: killed
	Took           time.Duration
}

func (r Result) String() string {
	return fmt.Sprintf("%s: exit %d after %v\nstdout: %s\nstderr: %s", strings.Join(r.Args, " "), r.Code,
		r.Took.Round(time.Millisecond), r.Stdout, r.Stderr)
}

// Begin starts the command bin with exactly the environment env.
func Begin(env []string, bin string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(bin, args...), began: time.Now()}
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	return p, p.cmd.Start()
}

// Kill ends the process at once and gives it no chance to clear up.
func (p *Process) Kill() { p.cmd.Process.Kill() }

// Stop asks the process to end, as systemd does.
func (p *Process) Stop() { p.cmd.Process.Signal(syscall.SIGTERM) }

// Hangup asks it to load its configuration anew.
func (p *Process) Hangup() { p.cmd.Process.Signal(syscall.SIGHUP) }

// Wait waits until the process has ended.
func (p *Process) Wait() (Result, error) {
	err := p.cmd.Wait()
	r := Result{
		Args: p.cmd.Args, Stdout: p.stdout.String(), Stderr: p.stderr.String(),
		Code: p.cmd.ProcessState.ExitCode(), Took: time.Since(p.began),
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = nil
	}
	return r, err
}

// Run runs a command to its end. The error is nil if it could be run, whatever its code.
func Run(env []string, bin string, args ...string) (Result, error) {
	p, err := Begin(env, bin, args...)
	if err != nil {
		return Result{}, err
	}
	return p.Wait()
}
