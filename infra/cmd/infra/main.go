// Command infra deploys and examines the infrastructure of the public Spack
// buildcache. It synthesizes in its own process and leaves the work in the account to
// the pinned CDK command line tool, whose exit code it passes on.
//
// Exit codes: 0 done; 1 it failed, or an examination found something; 2 usage or
// configuration; whatever cdk returns is passed on.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/aws/jsii-runtime-go"
	"github.com/spf13/cobra"
)

func main() {
	quietNode()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	e := environment{getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, terminal: isTerminal(os.Stdin)}
	code := run(ctx, os.Args[1:], e)
	stop()
	closeCDK()
	os.Exit(code)
}

// closeCDK ends the Node process of CDK. jsii-runtime-go waits for it from two goroutines,
// and the slower one may write "Runtime process exited abnormally: waitid: no child
// processes" below the result of a command that succeeded. By now everything has been
// written, so nothing else is lost.
func closeCDK() {
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stderr = null
	}
	jsii.Close()
}

// quietNode starts the program once more with the variable that spares people CDK's
// nine lines about an old Node. The Node process is given the environment of the
// moment in which Go initializes its packages, before main can change anything.
func quietNode() {
	const variable = "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION"
	if os.Getenv(variable) != "" {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	// Where there is no exec, the lines are shown and nothing else changes.
	_ = syscall.Exec(self, os.Args, append(os.Environ(), variable+"=18,20"))
}

// isTerminal says whether a person may be behind the file. /dev/null may be taken for one;
// it answers nothing, as a person may.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// An environment is what a command gets from the process around it.
type environment struct {
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
	terminal       bool // stdin is a person's
}

// exitError is a failure that has been reported already, with its exit code.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// usage is an error in what was asked for: flags, settings, configuration.
type usage struct{ error }

func (u usage) Unwrap() error { return u.error }

const (
	exitFailed = 1
	exitUsage  = 2
)

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, e environment) int {
	root := newRoot(e)
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	err := root.ExecuteContext(ctx)
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	}
	fmt.Fprintf(e.stderr, "infra: %v\n", err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(e.stderr, "hint: %s\n", hint)
	}
	var u usage
	if errors.As(err, &u) {
		return exitUsage
	}
	return exitFailed
}

func newRoot(e environment) *cobra.Command {
	root := &cobra.Command{
		Use:           "infra",
		Short:         "Deploy and examine the infrastructure of the public Spack buildcache",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2 // letters that may differ
	root.SetVersionTemplate("infra {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage{hinted{err, cmd.CommandPath() + " --help lists the flags"}}
	})
	root.AddCommand(
		newBootstrap(e), newSynth(e), newDiff(e), newDeploy(e), newDestroy(e), newDrift(e), newAdopt(e),
		newOutputs(e), newDoctor(e), newCost(e), newPermissions(e), newPolicy(e), newSettingsList(e),
	)
	return root
}

// knownCommand refuses a first argument that names no command, with the commands that are
// spelt like it.
func knownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "infra --help lists the commands"
	if alike := root.SuggestionsFor(args[0]); len(alike) > 0 {
		hint = "did you mean infra " + strings.Join(alike, " or infra ") + "?"
	}
	return usage{hinted{fmt.Errorf("unknown command %q", args[0]), hint}}
}

// onlyForCDK refuses arguments that do not stand behind --. cdk would take them for names
// of further stacks.
func onlyForCDK(cmd *cobra.Command, args []string) error {
	before := len(args)
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		before = dash
	}
	if before == 0 {
		return nil
	}
	return usage{hinted{fmt.Errorf("%s takes no argument %q", cmd.CommandPath(), args[0]),
		"settings are flags, such as --name-prefix; arguments for cdk follow --"}}
}

// noArguments refuses arguments as an error of usage.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage{hinted{fmt.Errorf("%s takes no argument %q", cmd.CommandPath(), args[0]), cmd.CommandPath() + " --help lists the flags"}}
	}
	return nil
}
