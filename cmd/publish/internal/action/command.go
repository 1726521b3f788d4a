package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/steplog"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/workflow"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// Commands runs the command of the program in env.Args, which is not the action.
type Commands func(ctx context.Context, env cli.Env) error

// A command is run by a step instead of publishing.
type command struct {
	args []string
	out  workflow.Tail // the end of its standard output
	all  bytes.Buffer
	took time.Duration
}

// ofCommands lists the inputs that a command obeys. All other settings are flags and arguments of the command.
var ofCommands = []string{
	"command", "role-to-assume", "credentials", "region", "audience", "role-session-name", "role-duration-seconds", "session-policy",
	"allowed-account-ids", "mask-aws-account-id", "auth-max-attempts", "summary", "report-file", "timeout", "ca-bundle",
}

// noStep lists the commands that cannot be a step: they run for ever, or run other programs.
var noStep = []string{"action", "daemon", "exec", "indexer"}

// words splits a command like a shell: quotes hold words together, and nothing else has a meaning. Words
// without quotes are separated by spaces or line breaks.
func words(to *[]string) value {
	return func(s string) error {
		var all []string
		var word strings.Builder
		quote, open := rune(0), false
		for _, c := range s {
			switch {
			case quote != 0 && c == quote:
				quote = 0
			case quote != 0:
				word.WriteRune(c)
			case c == '\'' || c == '"':
				quote, open = c, true
			case c == ' ' || c == '\t' || c == '\n' || c == '\r':
				if open {
					all = append(all, word.String())
				}
				word.Reset()
				open = false
			case strings.ContainsRune("$`;&|<>\\", c):
				return fmt.Errorf("it has %q: no shell reads it; put quotes around a word that needs this character", c)
			default:
				word.WriteRune(c)
				open = true
			}
		}
		if quote != 0 {
			return fmt.Errorf("a quote %c is not closed", quote)
		}
		if open {
			all = append(all, word.String())
		}
		*to = all
		if len(all) > 0 && all[0] == "publish" {
			return errors.New("leave publish out: it begins with the name of a command, such as prune")
		}
		if len(all) > 0 && slices.Contains(noStep, all[0]) {
			return fmt.Errorf("%s is no command for a step", all[0])
		}
		return nil
	}
}

// completeCommand sets the inputs that a command needs in place of SOURCE and DESTINATION.
func (in *inputs) completeCommand(env cli.Env, r *workflow.Runner, wrong *refusals) {
	for _, s := range in.settings {
		if s.From == "input" && !slices.Contains(ofCommands, s.Name) {
			wrong.refuse(s.Name, errors.New("a command takes no such input: give it as a flag or an argument of the command"))
		}
	}
	if in.reportFile != "" {
		_, err := r.File(in.reportFile)
		wrong.refuse("report-file", err)
	}
	var err error
	if in.caBundle != "" {
		in.roots, err = readRoots(in.caBundle, r)
		wrong.refuse("ca-bundle", err)
	}
	if in.sessionPolicy == "auto" {
		in.sessionPolicy = "none" // the needs of the command are unknown
	}
	in.completeRole(env, r, wrong)
}

// command runs the command of the step with its credentials.
func (a *action) command(ctx context.Context) error {
	a.log.Begin(steplog.PartIdentity)
	if err := a.identify(ctx, a.log.Logger()); err != nil {
		return err
	}
	a.log.Begin(steplog.PartCommand)
	c := &command{args: a.in.command}
	a.ran = c
	env := a.env
	env.Args = c.args
	env.Given = &target.Environment{AWS: a.in.aws, Roots: a.in.roots}
	env.Stdin = nil
	out, errs := a.runner.Lines(), a.runner.Lines()
	env.Stdout, env.Stderr = io.MultiWriter(out, &c.out), errs
	if a.in.reportFile != "" {
		env.Stdout = io.MultiWriter(env.Stdout, &c.all)
	}
	began := time.Now()
	err := a.commands(ctx, env)
	c.took = time.Since(began)
	out.End()
	errs.End()
	return err
}

// concludeCommand shows the result of a command.
func (a *action) concludeCommand(err error) {
	name := "publish"
	if len(a.in.command) > 0 {
		name += " " + a.in.command[0]
	}
	result, icon, said := "done", "✅", name+" is done"
	var stopped cli.SignalError
	switch {
	case errors.As(err, &stopped):
		result, icon, said = "cancelled", "⏹️", name+" was cancelled"
	case err != nil:
		result, icon, said = "failed", "❌", fmt.Sprintf("%s failed with exit code %d", name, cli.ExitCode(err))
	}
	a.log.Close()
	a.runner.Group("")
	a.runner.Output("result", result)
	a.runner.Output("failure-class", cli.ClassOf(cli.ExitCode(err)))
	out := ""
	var lost abandoned
	if !errors.As(err, &lost) && a.ran != nil { // otherwise the command still owns it
		c := a.ran
		a.runner.Output("duration-seconds", strconv.Itoa(int(c.took.Seconds())))
		out = c.out.String()
		if a.in.reportFile != "" {
			a.writeFile(c.all.String())
		}
	}
	if a.in.summary {
		text := fmt.Sprintf("## %s %s\n\n", icon, workflow.Text(said))
		if err != nil {
			text += workflow.Block("text", err.Error()) + "\n"
		}
		if out != "" {
			text += workflow.Block("text", out) + "\n"
		}
		a.runner.Summary(text)
	}
	a.log.Annotate()
	if err != nil {
		message := err.Error()
		words := a.outcome(err, nil).words()
		if a.ran != nil { // it has its own flags and arguments
			credentials := words.NoCredentials
			words = cli.CommandLine
			words.NoCredentials = credentials
		}
		for _, h := range cli.HintsIn(err, words) {
			message += "\nhint: " + h
		}
		if errors.Is(err, cli.ErrReported) { // the command has printed it
			message = said
		}
		if strings.Contains(message, "\n") {
			a.runner.Say("%s", message)
		}
		a.runner.Error(said, message)
	}
	if stack := defect.StackOf(err); stack != "" {
		a.runner.Say("%s", stack)
	}
	a.runner.Say("%s", said)
}
