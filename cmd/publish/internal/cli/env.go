package cli

import (
	"errors"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signals"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// An Env is everything that the program receives from outside.
type Env struct {
	Version        string
	Args           []string
	Lookup         func(string) (string, bool)
	Unset          func(string) error // removes a variable, so that no child process gets it; nil: none is removed
	Environ        func() []string    // all variables, to find the unknown ones
	Stdin          io.Reader          // answers to questions, if it is a terminal; nil: no questions are asked
	Stdout, Stderr io.Writer          // output to them is escaped

	// Raw are the two streams without escaping: for a child process, for cursor movement, and for packages that
	// escape their own output. Nothing else may write to them.
	Raw     Streams
	Results *Results

	Signals *signals.Caught // nil: signals are not caught

	Output Output  // how much is shown
	Shared *Output // how much is shown, for commands without flags of their own for this; nil: everything

	Given *target.Environment // existing credentials and trusted authorities; nil: from the surroundings
}

// An Output is how much is shown.
type Output struct {
	Verbose bool // show steps without a terminal, too, and whole lists
	Quiet   bool // show only errors and warnings
}

// Streams are the output streams of the program.
type Streams struct{ Stdout, Stderr io.Writer }

// Tell makes an error show as much detail as the output asks for.
func (o Output) Tell(err error) error {
	if found := (*buildcache.FindingsError)(nil); o.Verbose && errors.As(err, &found) {
		found.Whole = true
	}
	return err
}

// Shows returns how much is shown.
func (e Env) Shows() Output {
	if e.Shared == nil {
		return e.Output
	}
	return Output{e.Output.Verbose || e.Shared.Verbose, e.Output.Quiet || e.Shared.Quiet}
}

// Told returns the stream for results that only report success: with --quiet it discards them.
func (e Env) Told() io.Writer {
	if e.Shows().Quiet {
		return io.Discard
	}
	return e.Stdout
}

// escaped returns an environment with escaping streams. Results go to out.
func (e Env) escaped(out *Results) Env {
	e.Raw, e.Results = Streams{e.Stdout, e.Stderr}, out
	e.Stdout, e.Stderr = escape.NewWriter(out), escape.NewWriter(e.Stderr)
	return e
}

// Terminal returns the terminal behind a stream, an io.Reader or an io.Writer, or nil.
func Terminal(stream any) *os.File {
	if f, ok := stream.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// Complain prints an error and its hints.
func (e Env) Complain(err error) {
	escape.Fprintf(e.Stderr, "publish: %v\n", err)
	for _, h := range Hints(err) {
		escape.Fprintf(e.Stderr, "hint: %s\n", h)
	}
}

// Getenv returns the value of a variable; empty if it is not set.
func (e Env) Getenv(name string) string {
	value, _ := e.Lookup(name)
	return value
}

// Log returns a log for warnings: what a user should know although nothing failed.
func (e Env) Log() *slog.Logger {
	level := slog.LevelWarn
	if e.Shows().Quiet {
		level = slog.LevelError
	}
	return slog.New(slog.NewTextHandler(e.Stderr, &slog.HandlerOptions{Level: level}))
}
