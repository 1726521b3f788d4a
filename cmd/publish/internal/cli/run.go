package cli

import (
	"context"
	"errors"
	"os"
	"runtime/debug"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
)

// softMemory is how much memory is used before garbage is collected more often, instead of letting it double what is
// in use: the index of a large mirror has hundreds of megabytes.
const softMemory = 450 << 20

// Run runs a program in an environment and returns its exit code. The context of do ends with the first signal, its
// streams escape what is written to them, a panic is an internal error, and an error is printed with its hint.
func Run(ctx context.Context, env Env, do func(context.Context, Env) error) int {
	if _, set := env.Lookup("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(softMemory)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	env.Signals = CatchSignals(cancel, os.Exit)
	defer env.Signals.Stop()
	out := NewResults(env.Stdout)
	env = env.Escaped(out).TakeSecrets()
	err := defect.Caught(func() error { return do(ctx, env) })
	if err == nil {
		err = out.Failed()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	if err != nil && !errors.Is(err, ErrReported) {
		env.Complain(err)
		escape.Fprintf(env.Stderr, "%s", defect.StackOf(err))
	}
	return ExitCode(err)
}
