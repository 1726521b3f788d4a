package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

const execHelp = `Run a command and publish what it builds while it runs, and the rest when it has ended.

Before the command is started, credentials, the right to list the destination and conditional writes are
tried; nothing is stored by that. If one fails, the command is not started.

SOURCE is where the command leaves packages, such as a mirror that Spack pushes to. They are published
as soon as they are complete; what is there already, too. SOURCE, DESTINATION and flags are
those of publish, and may be given as for it: in the environment, or in publish.yaml. The command
finds the socket of the daemon in PUBLISH_SOCKET, so a hook of it may call publish push.

With --dry-run the command runs, and what is there then is planned, and not published. What can be done
only once, --files and --index rebuild, is done when the command has ended and all else is published.

The exit code is that of the command, if that is not 0, and else that of publishing: 4 if packages
were refused or are not complete, 5 if the destination cannot be used, 7 if caches could not
be told.`

// What a shell says of a command that it cannot run.
const (
	exitNotRunnable = 126
	exitNotFound    = 127
)

func execCommand(env cli.Env) *cobra.Command {
	var p publishing
	cmd := &cobra.Command{
		Use: "exec [flags] [SOURCE DESTINATION] -- COMMAND [ARG...]", Short: "Publish what a command builds while it runs", Long: execHelp,
		Example: "  publish exec ./buildcache s3://bucket/noble/spack -- spack install --fail-fast",
		Args: func(cmd *cobra.Command, args []string) error {
			n := cmd.ArgsLenAtDash()
			if n < 0 || n == len(args) {
				return cli.Fail(cli.ExitUsage, errors.New("no COMMAND after --: see publish exec --help"))
			}
			return argsOrUsage(cmd, args[:n])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			n := cmd.ArgsLenAtDash()
			source, destination, _, err := cli.ReadSettings(cmd, args[:n], env)
			if err != nil {
				return cli.Fail(cli.ExitUsage, err)
			}
			if source == "" || destination == "" {
				return cli.Fail(cli.ExitUsage, errors.New("no SOURCE and DESTINATION: give both, or a publish.yaml, or PUBLISH_SOURCE and PUBLISH_DESTINATION; see publish exec --help"))
			}
			p.rules.KeepGoing = true
			return runExec(cmd.Context(), env, &p, source, destination, args[n:])
		},
	}
	p.register(cmd)
	fs := cmd.Flags()
	fs.Lookup("timeout").Usage = "stop publishing when the command has ended for so long, such as 30m; 0: never"
	// What publish does because it is asked to, this does always; and what is printed is the command's.
	// They are flags all the same, so that a publish.yaml will do for both.
	for _, always := range []string{"keep-going", "verify-source", "json"} {
		fs.Lookup(always).Hidden = true
	}
	return cmd
}

// runExec runs a daemon around a command.
func runExec(ctx context.Context, env cli.Env, p *publishing, source, destination string, command []string) error {
	source, err := filepath.Abs(source)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	j, err := p.job(env, source, destination, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(source, 0o777); err != nil { // the command may be what makes it
		return cli.Fail(cli.ExitSource, err)
	}
	if err := target.Apart(source, destination); err != nil {
		return err
	}
	if err := provePublishing(ctx, j); err != nil {
		return err
	}
	if j.DryRun {
		return execDry(ctx, env, j, p.timeout, command)
	}
	dir, err := newStateDir()
	if err != nil {
		return err
	}
	defer dir.remove()
	socket := filepath.Join(dir.path, "socket")
	own := service.Private{
		Mirror: service.Mirror{Name: destination, Source: source, Destination: destination, Target: p.target, Options: eachTime(j.Options)},
		Dir:    filepath.Join(dir.path, "state"), Socket: socket, Version: env.Version, Log: slog.New(slog.NewTextHandler(env.Stderr, nil)), Grace: execGrace,
	}
	c := &child{env: env, command: command, socket: socket}
	var left daemon.Drained
	own.Up = func(work context.Context, d *daemon.Daemon) error {
		c.runBeside(ctx, work)
		if work.Err() != nil || c.unknown != nil {
			return nil
		}
		if ctx.Err() != nil { // what the command completed is published, as far as there is time
			work, cancel := context.WithTimeout(work, execGrace)
			defer cancel()
			d.Drain(work, func(daemon.Drained) {})
			return nil
		}
		work, cancel := cli.WithTimeout(work, p.timeout)
		defer cancel()
		var err error
		left, err = d.Drain(work, func(daemon.Drained) {})
		_, counts := d.Counted()
		left.Published = counts[destination].Jobs[queue.Published] // also before the command has ended
		if err == nil && (len(j.Options.Selection.Files) > 0 || j.Options.Index == publish.IndexRebuild) {
			err = execOnce(work, env, j)
		}
		return cli.Stopped(work, err)
	}
	// A signal ends the command, and the daemon only when the command has ended.
	err = own.Run(context.WithoutCancel(ctx))
	if c.unknown != nil {
		return c.unknown
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		err = drained(env.Stderr, left, false)
	}
	return c.exit(err)
}

// eachTime is what a run of the daemon does of what is asked for.
func eachTime(o publish.Options) publish.Options {
	o.Selection.Files = nil
	if o.Index == publish.IndexRebuild {
		o.Index = publish.IndexMerge
	}
	return o
}

// execOnce publishes as publish does: what the daemon has done is nothing to do any more.
func execOnce(ctx context.Context, env cli.Env, j *cli.Job) error {
	j.Report = env.NewReport(j.Source, j.Destination, j.DryRun, nil) // which begins now
	err := j.Run(ctx)
	j.Report.Finish(err)
	return errors.Join(err, j.Report.Print(env.Stderr, false)) // what is printed is the command's
}

// execDry runs the command and plans what is there then.
func execDry(ctx context.Context, env cli.Env, j *cli.Job, timeout time.Duration, command []string) error {
	c := &child{env: env, command: command}
	if c.run(ctx); c.unknown != nil {
		return c.unknown
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := cli.WithTimeout(ctx, timeout)
	defer cancel()
	return c.exit(execOnce(ctx, env, j))
}

// execGrace is how long publishing may take after a signal and the end of the command: what cancels a CI
// job waits for some seconds.
const execGrace = 5 * time.Second

// A child is the command.
type child struct {
	env     cli.Env
	command []string
	socket  string // empty: there is no daemon

	code    int   // that it has ended with
	unknown error // why it could not be run
}

// runBeside is run that also tells the command to end if work does.
func (c *child) runBeside(ctx, work context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(work, cancel)()
	c.run(ctx)
}

// run runs the command to its end. If ctx ends, it is told to, and waited for.
func (c *child) run(ctx context.Context) {
	cmd := exec.Command(c.command[0], c.command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, c.env.Raw.Stdout, c.env.Raw.Stderr
	cmd.Env = c.env.Environ()
	if c.socket != "" {
		cmd.Env = append(cmd.Env, "PUBLISH_SOCKET="+c.socket)
	}
	if err := cmd.Start(); err != nil {
		c.unknown = cli.Fail(exitNotRunnable, err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			c.unknown = cli.Fail(exitNotFound, err)
		}
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

// exit is how we end, if publishing has ended with err.
func (c *child) exit(err error) error {
	if c.code == 0 {
		return err
	}
	if err != nil {
		c.env.Complain(err)
	}
	return cli.Fail(c.code, cli.ErrReported)
}
