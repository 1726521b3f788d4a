package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/steplog"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/workflow"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// Run runs the step. It has reported its error, which has the exit code. check returns an error for an invalid
// command.
func Run(ctx context.Context, env cli.Env, commands, check Commands) error {
	signal.Ignore(syscall.SIGPIPE) // a closed log is no reason to stop
	a := newAction(env)
	a.commands, a.check = commands, check
	return a.run(ctx)
}

// An action is one step of a workflow: its inputs, the job, and the report.
type action struct {
	env    cli.Env
	runner *workflow.Runner
	in     *inputs
	log    *steplog.Log
	report *task.Report // owned by the job until the job has ended or was abandoned
	exit   func(int)

	commands Commands
	check    Commands
	ran      *command // nil: the step publishes
}

func newAction(env cli.Env) *action {
	r := workflow.New(env.Raw.Stdout, env.Getenv) // the runner escapes the rest of the output
	return &action{env: env, runner: r, in: &inputs{summary: true}, log: steplog.New(r), report: task.NewReport(env, "", "", false, nil), exit: os.Exit}
}

// stopWithin is how long a job may take to end after it was cancelled. GitHub kills the process 10 s after it
// has cancelled the workflow, and outputs and summary must be written before.
const stopWithin = 4 * time.Second

// exitWithin is when the process exits in any case: nothing else ends it if the Docker client has been killed.
const exitWithin = 5500 * time.Millisecond

// run returns an error that has been reported, with its exit code.
func (a *action) run(ctx context.Context) error {
	defer a.exitInTime(ctx)()
	// A process that is killed must not leave a step that looks as if it had not run.
	a.runner.Output("result", "failed")
	a.runner.Output("failure-class", cli.ClassOf(cli.ExitInternal))
	return a.conclude(defect.Caught(func() error { return a.perform(ctx) }))
}

// exitInTime ends the process soon after ctx has ended, unless it is stopped.
func (a *action) exitInTime(ctx context.Context) (stop func()) {
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		select {
		case <-done:
		case <-time.After(exitWithin):
			a.exit(cli.ExitCode(context.Cause(ctx)))
		}
	}()
	return func() {
		close(done)
		<-gone
	}
}

func (a *action) perform(ctx context.Context) error {
	a.log.Begin(steplog.PartInputs)
	in, err := readInputs(a.env, a.runner)
	a.in = in
	a.report = task.NewReport(a.env, in.path, in.destination, in.dryRun, in.settings)
	for _, unknown := range unknownInputs(a.env.Environ()) {
		a.log.Warn("unknown input", unknown)
	}
	for _, advice := range in.deprecated {
		a.runner.Say("%s", advice) // the runner prints the warning itself, from action.yml
	}
	for _, s := range in.settings {
		a.runner.Say("%s = %s (%s)", s.Name, s.Value, s.From)
	}
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	if in.missing != nil {
		return cli.Fail(cli.ExitSource, fmt.Errorf("path %w", in.missing))
	}
	if in.maskAccount {
		a.runner.Mask(in.role.Account())
	}
	a.log.Trusted = in.options.Trust.Keys != nil
	ctx, cancel := cli.WithTimeout(ctx, in.timeout)
	defer cancel()
	if len(in.command) > 0 {
		env := a.env
		env.Args = in.command
		if err := a.check(ctx, env); err != nil {
			return err
		}
		return a.inTime(ctx, a.command)
	}
	report := a.report
	return a.inTime(ctx, func(ctx context.Context) error { return a.publish(ctx, report) })
}

// publish gets credentials and does the job. It may still run after inTime has returned, so its data must not
// be read before it has returned.
func (a *action) publish(ctx context.Context, r *task.Report) error {
	in := a.in
	log := a.log.Logger()
	a.log.Begin(steplog.PartIdentity)
	if err := a.identify(ctx, log); err != nil {
		return err
	}
	a.log.Begin(task.PartScan)
	j := task.Publish{
		Source: in.source, Destination: in.destination, Target: in.target, Options: in.options, DryRun: in.dryRun, ReadBack: in.verify, Upstream: in.upstream, Catalog: in.catalog,
		Environment: target.Environment{Log: log, Observe: a.log.Observe, AWS: in.aws, Roots: in.roots}, Report: r, Observer: a.log,
	}
	j.Target.CDN.NoReadBack = !in.verify
	return j.Run(ctx)
}

// An abandoned job did not end when it was stopped.
type abandoned struct{ error }

func (e abandoned) Unwrap() error { return e.error }

// inTime runs a job that must end soon after ctx, and abandons it otherwise.
func (a *action) inTime(ctx context.Context, do func(context.Context) error) error {
	ended := make(chan error, 1)
	go func() { ended <- defect.Caught(func() error { return do(ctx) }) }()
	select {
	case err := <-ended:
		return cli.Stopped(ctx, err)
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return cli.Stopped(ctx, err)
	case <-time.After(stopWithin):
		// The job still owns the report. The log has the known facts.
		a.report = task.NewReport(a.env, a.in.path, a.in.destination, a.in.dryRun, a.in.settings)
		return abandoned{context.Cause(ctx)}
	}
}

// conclude shows the result. It never fails: at worst it shows less.
func (a *action) conclude(err error) error {
	err, forgiven := a.forgive(err)
	code := cli.ExitCode(err)
	if broken := defect.Caught(func() error { a.writeResults(err, forgiven); return nil }); broken != nil {
		a.runner.Say("the result cannot be shown: %v\n%s", broken, defect.StackOf(broken))
		code = max(code, cli.ExitInternal)
	}
	if code == cli.ExitDone {
		return nil
	}
	return cli.Fail(code, cli.ErrReported)
}

// writeResults writes outputs, summary, report and annotations, those that later steps need first.
func (a *action) writeResults(err, forgiven error) {
	if len(a.in.command) > 0 {
		a.concludeCommand(err)
		return
	}
	a.log.Close()
	a.report.Finish(err)
	for _, f := range a.report.Findings {
		if f.Severity == buildcache.Warning {
			a.log.Warn("found", f.String())
		}
	}
	o := a.outcome(err, forgiven)
	o.signed = a.log.Signatures(a.report)
	a.runner.Group("")
	a.outputs(o)
	if a.in.summary {
		a.runner.Summary(o.markdown())
	}
	a.writeReport()
	a.log.Annotate()
	if err != nil {
		if strings.Contains(o.message(), "\n") { // the annotation may show less
			a.runner.Say("%s", o.message())
		}
		a.runner.Error(o.title(), o.message())
	}
	if stack := defect.StackOf(err); stack != "" {
		a.runner.Say("%s", stack)
	}
	a.runner.Say("%s", o.sentence())
}

// forgive returns no failure for an error that the inputs allow.
func (a *action) forgive(err error) (failure, forgiven error) {
	switch {
	case errors.Is(err, source.ErrNothing) && a.in.ifNone == "warn":
		a.log.Warn("no packages", err.Error())
		return nil, err
	case errors.Is(err, source.ErrNothing) && a.in.ifNone == "ignore":
		a.runner.Say("%s", err.Error())
		return nil, err
	case cli.ExitCode(err) == cli.ExitInvalidation && a.in.onInvalidation == "warn":
		a.log.Warn("no invalidation", err.Error())
		return nil, err
	}
	return err, nil
}

func (a *action) writeReport() {
	if a.in.reportFile == "" {
		return
	}
	var b strings.Builder
	if err := cli.WriteJSON(&b, a.report); err != nil {
		a.log.Warn("no report", err.Error())
		return
	}
	a.writeFile(b.String())
}

// writeFile writes the report-file.
func (a *action) writeFile(text string) {
	f, err := a.runner.File(a.in.reportFile)
	if err != nil {
		return // reported with all mistakes in the inputs
	}
	err = f.Write([]byte(a.runner.Redact(text)))
	if err != nil {
		a.log.Warn("no report", err.Error())
		return
	}
	a.runner.Output("report-file", a.runner.There(f.Path()))
}
