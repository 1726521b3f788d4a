// Package wrap runs a command and publishes the packages that it builds while it runs.
package wrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/remote"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// Options are the settings of a command, besides those of publishing.
type Options struct {
	Timeout    time.Duration // for publishing after the command; 0: none
	AllowEmpty bool          // the source may then hold no package
}

// Run publishes the packages that a command builds while it runs, and the rest when it has ended. The source of
// the job is an absolute path.
func Run(ctx context.Context, env cli.Env, j *task.Publish, o Options, command []string) error {
	source, destination := j.Source, j.Destination
	if _, err := exec.LookPath(command[0]); err != nil {
		return notRunnable(err)
	}
	if err := os.MkdirAll(source, 0o777); err != nil { // the command may create it
		return cli.Fail(cli.ExitSource, err)
	}
	if err := target.Apart(source, destination); err != nil {
		return err
	}
	if err := provePublishing(ctx, j); err != nil {
		return err
	}
	if err := unselected(ctx, j); err != nil {
		escape.Fprintf(env.Stderr, "publish: warning: no package in %s is selected so far\n", source)
		for _, h := range cli.Hints(err) {
			escape.Fprintf(env.Stderr, "hint: %s\n", h)
		}
	}
	if j.DryRun {
		return dry(ctx, env, j, o.Timeout, command)
	}
	dir, err := newStateDir()
	if err != nil {
		return err
	}
	defer dir.remove()
	socket := filepath.Join(dir.path, "socket")
	own := service.Private{
		Mirror: service.Mirror{Name: destination, Source: source, Destination: destination, Target: j.Target, Options: eachTime(j.Options)},
		Dir:    filepath.Join(dir.path, "state"), Socket: socket, Version: env.Version, Log: logOf(env), Grace: grace,
	}
	c := &child{env: env, command: command, socket: socket}
	var left daemon.Drained
	packages := 0 // found packages
	own.Up = func(work context.Context, d *daemon.Daemon) error {
		c.runBeside(ctx, work)
		if work.Err() != nil || c.unknown != nil {
			return nil
		}
		if ctx.Err() != nil { // the completed packages are published, as far as there is time
			work, cancel := context.WithTimeout(work, grace)
			defer cancel()
			d.Drain(work, func(daemon.Drained) {})
			return nil
		}
		work, cancel := cli.WithTimeout(work, o.Timeout)
		defer cancel()
		var err error
		left, err = d.Drain(work, func(daemon.Drained) {})
		_, counts := d.Counted()
		for _, n := range counts[destination].Jobs {
			packages += n
		}
		left.Published = counts[destination].Jobs[queue.Published] // including those before the command ended
		if err == nil && (len(j.Options.Selection.Files) > 0 || j.Options.Index == publish.IndexRebuild) {
			err = once(work, env, j)
		}
		return cli.Stopped(work, err)
	}
	// A signal ends the command. The daemon ends after the command.
	err = own.Run(context.WithoutCancel(ctx))
	if c.unknown != nil {
		return c.unknown
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		err = remote.PrintDrained(env.Stderr, env.Output, left, false)
	}
	if err == nil && packages == 0 && len(j.Options.Selection.Files) == 0 && !o.AllowEmpty {
		if err := unselected(context.WithoutCancel(ctx), j); err != nil {
			return c.exit(err)
		}
		err = cli.Fail(cli.ExitSource, cli.WithHint(fmt.Errorf("SOURCE %s holds no package that is selected: the command has built nothing", source),
			"let the command push into that directory, or give --allow-empty"))
	}
	return c.exit(err)
}

// logOf returns the log of the daemon: published packages, or with --quiet only problems.
func logOf(env cli.Env) *slog.Logger {
	if env.Output.Quiet {
		return env.Log()
	}
	return slog.New(slog.NewTextHandler(env.Stderr, nil))
}

// unselected returns the error of a source that holds packages, none of which is selected.
func unselected(ctx context.Context, j *task.Publish) error {
	if s := j.Options.Selection; len(s.Include)+len(s.Exclude) == 0 {
		return nil
	}
	src, err := source.Open(ctx, j.Source, j.Options.Selection)
	if err == nil {
		src.Close()
	}
	var none *source.NotSelectedError
	if errors.As(err, &none) {
		return none
	}
	return nil
}

// eachTime returns the options for a run of the daemon, without those that take effect once.
func eachTime(o publish.Options) publish.Options {
	o.Selection.Files = nil
	if o.Index == publish.IndexRebuild {
		o.Index = publish.IndexMerge
	}
	return o
}

// once publishes like the command publish. Packages that the daemon has published are unchanged.
func once(ctx context.Context, env cli.Env, j *task.Publish) error {
	j.Report = task.NewReport(env, j.Source, j.Destination, j.DryRun, nil) // it begins now
	err := j.Run(ctx)
	j.Report.Finish(err)
	return errors.Join(err, j.Report.PrintTo(env.Stderr)) // standard output belongs to the command
}

// dry runs the command and then plans the packages in the source.
func dry(ctx context.Context, env cli.Env, j *task.Publish, timeout time.Duration, command []string) error {
	c := &child{env: env, command: command}
	if c.run(ctx); c.unknown != nil {
		return c.unknown
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := cli.WithTimeout(ctx, timeout)
	defer cancel()
	return c.exit(once(ctx, env, j))
}

// grace is how long publishing may take after a signal and the end of the command. A cancelled CI job is killed
// after some seconds.
const grace = 5 * time.Second

// A child is the running command.
type child struct {
	env     cli.Env
	command []string
	socket  string // empty: no daemon

	code    int   // its exit code
	unknown error // why it could not be run
}

// runBeside is run, and also stops the command if work ends.
func (c *child) runBeside(ctx, work context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(work, cancel)()
	c.run(ctx)
}

// run runs the command to its end. If ctx ends, it sends a signal to the command and waits.
func (c *child) run(ctx context.Context) {
	cmd := exec.Command(c.command[0], c.command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, c.env.Raw.Stdout, c.env.Raw.Stderr
	cmd.Env = c.env.Environ()
	if c.socket != "" {
		cmd.Env = append(cmd.Env, "PUBLISH_SOCKET="+c.socket)
	}
	if err := cmd.Start(); err != nil {
		c.unknown = notRunnable(err)
		return
	}
	defer context.AfterFunc(ctx, func() {
		s := syscall.SIGTERM
		var signal cli.SignalError
		if errors.As(context.Cause(ctx), &signal) {
			s = signal.Signal
		}
		cmd.Process.Signal(s)
	})()
	var ended *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &ended) {
		c.code = ended.ExitCode()
		if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			c.code = cli.ExitSignal + int(status.Signal())
		}
	} else if err != nil {
		c.code = cli.ExitInternal
	}
}

// notRunnable returns why a command cannot be run, with the exit code of a shell.
func notRunnable(err error) error {
	code := cli.ExitNotRunnable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		code = cli.ExitNotFound
	}
	return cli.Fail(code, fmt.Errorf("COMMAND: %w", err))
}

// exit returns the result of publish exec, given that publishing has ended with err.
func (c *child) exit(err error) error {
	if c.code == 0 {
		return err
	}
	if err != nil {
		c.env.Complain(err)
	}
	return cli.Fail(c.code, cli.ErrReported)
}
