package cli

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/resume"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signals"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
)

// softMemory is the memory in use above which garbage is collected more often. Below it, memory may double: the
// index of a large mirror has hundreds of megabytes.
const softMemory = 450 << 20

// wantsJSON reports whether the command line or the environment asks for JSON.
func (e Env) wantsJSON() bool {
	own := e.Args
	if at := slices.Index(own, "--"); at >= 0 {
		own = own[:at]
	}
	return slices.Contains(own, "--json") || slices.Contains(own, "--json=true") || e.Getenv(Variable("json")) == "true"
}

// A failureJSON is the document of a command that failed before it had a result.
type failureJSON struct {
	Version  int      `json:"version"`
	Result   string   `json:"result"`
	ExitCode int      `json:"exit_code"`
	Error    string   `json:"error"`
	Hints    []string `json:"hints"`
}

func failureOf(err error) failureJSON {
	return failureJSON{ReportVersion, "failed", ExitCode(err), err.Error(), append([]string{}, Hints(err)...)}
}

// Run runs a program in an environment and returns its exit code. The first signal ends the context of do. The
// streams escape their output, a panic is an internal error, and an error is printed with its hint.
func Run(ctx context.Context, env Env, do func(context.Context, Env) error) int {
	if _, set := env.Lookup("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(softMemory)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	env.Signals = signals.Catch(func(got syscall.Signal) { cancel(SignalError{got}) }, func(got syscall.Signal) { os.Exit(ExitSignal + int(got)) })
	defer env.Signals.Stop()
	out := newResults(env.Stdout)
	env = env.escaped(out).takeSecrets()
	err := defect.Caught(func() error { return do(ctx, env) })
	if err == nil {
		err = out.failed()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && errors.Is(err, context.Canceled) {
		err = resume.As(err, cause)
	}
	if err != nil && !errors.Is(err, ErrReported) {
		env.Complain(err)
		if env.wantsJSON() && !out.hasBegun() {
			_ = WriteJSON(env.Stdout, failureOf(err)) // out keeps the error
		}
		escape.Fprintf(env.Stderr, "%s", defect.StackOf(err))
	}
	return ExitCode(err)
}
