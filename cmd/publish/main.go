// Command publish puts Spack buildcaches on S3 or into a directory, keeps their indices
// right and makes CloudFront forget what is out of date.
//
// This package alone reads the environment, prints for people, and exits. Results go to
// standard output, progress and messages to standard error.
package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"syscall"

	"golang.org/x/term"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/escape"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
)

// version is that of the release. It is a constant, so that the same source makes the
// same binary.
const version = "0.1.0-dev"

func main() {
	os.Exit(run(context.Background(), environment{
		args: os.Args[1:], lookup: os.LookupEnv, environ: os.Environ, stdout: os.Stdout, stderr: os.Stderr,
	}))
}

// An environment is everything that the program gets from outside.
type environment struct {
	args           []string
	lookup         func(string) (string, bool)
	environ        func() []string // all of it, for finding what nobody asks for
	stdout, stderr io.Writer       // what is written to them reaches a terminal or a log escaped

	// raw are the two as they are: for a command that is run, for what moves a cursor, and for
	// packages that escape what they write themselves. Nothing else may write to them.
	raw     streams
	results *results

	signals *signals // nil: nothing catches any
}

// streams are those that the program was given.
type streams struct{ stdout, stderr io.Writer }

// escaped puts what escapes between the program and its streams. Results go to out.
func (e environment) escaped(out *results) environment {
	e.raw, e.results = streams{e.stdout, e.stderr}, out
	e.stdout, e.stderr = escape.NewWriter(out), escape.NewWriter(e.stderr)
	return e
}

// terminal returns the terminal that a stream is, or nil.
func terminal(w io.Writer) *os.File {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// complain says what has failed, and what to do about it.
func (e environment) complain(err error) {
	escape.Fprintf(e.stderr, "publish: %v\n", err)
	if h := hint(err); h != "" {
		escape.Fprintf(e.stderr, "hint: %s\n", h)
	}
}

func (e environment) getenv(name string) string {
	value, _ := e.lookup(name)
	return value
}

// log is for what a user should know although nothing failed.
func (e environment) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// errSignal is the cause of a context that a signal has ended.
type errSignal struct{ syscall.Signal }

func (e errSignal) Error() string { return "stopped by " + e.Signal.String() }

// softMemory is how much memory we take before we rather collect garbage more often than let
// it double what is in use: the index of a large mirror has hundreds of megabytes.
const softMemory = 450 << 20

func run(ctx context.Context, env environment) int {
	if _, set := env.lookup("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(softMemory)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	env.signals = catchSignals(cancel, os.Exit)
	defer env.signals.stop()
	out := &results{w: env.stdout}
	env = env.escaped(out)
	cmd := rootCommand(env)
	cmd.InitDefaultCompletionCmd(env.args...)
	refuseAsUsage(cmd)
	cmd.SetArgs(env.args)
	err := defect.Caught(func() error { return cmd.ExecuteContext(ctx) })
	if err == nil {
		err = out.failed()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	if err != nil && !errors.Is(err, errReported) {
		env.complain(err)
		escape.Fprintf(env.stderr, "%s", defect.StackOf(err))
	}
	return exitCode(err)
}
