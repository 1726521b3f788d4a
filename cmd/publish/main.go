// Command publish puts Spack buildcaches on S3 or into a directory, keeps their indices
// right and makes CloudFront forget what is out of date.
//
// This package alone reads the environment, prints for people, and exits. Results go to
// standard output, progress and messages to standard error.
package main

import (
	"context"
	"errors"
	"os"
	"runtime/debug"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
)

// version is that of the release. It is a constant, so that the same source makes the
// same binary.
const version = "0.1.0-dev"

func main() {
	os.Exit(run(context.Background(), cli.Env{
		Version: version, Args: os.Args[1:], Lookup: os.LookupEnv, Environ: os.Environ, Stdout: os.Stdout, Stderr: os.Stderr,
	}))
}

// softMemory is how much memory we take before we rather collect garbage more often than let
// it double what is in use: the index of a large mirror has hundreds of megabytes.
const softMemory = 450 << 20

func run(ctx context.Context, env cli.Env) int {
	if _, set := env.Lookup("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(softMemory)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	env.Signals = cli.CatchSignals(cancel, os.Exit)
	defer env.Signals.Stop()
	out := cli.NewResults(env.Stdout)
	env = env.Escaped(out)
	cmd := rootCommand(env)
	cmd.InitDefaultCompletionCmd(env.Args...)
	refuseAsUsage(cmd)
	cmd.SetArgs(env.Args)
	err := defect.Caught(func() error { return cmd.ExecuteContext(ctx) })
	if err == nil {
		err = out.Failed()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	if err != nil && !errors.Is(err, cli.ErrReported) {
		env.Complain(err)
		escape.Fprintf(env.Stderr, "%s", defect.StackOf(err))
	}
	return cli.ExitCode(err)
}
