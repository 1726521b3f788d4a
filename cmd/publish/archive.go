package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/archive"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/elsewhere"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/transfer"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

const exportHelp = `Write packages of a mirror into a tar file, with everything that installing them needs. On a
cluster without a network, publish import reads the file into a mirror. The file holds a complete
mirror, so it can also be unpacked. An earlier export of that name is replaced; any other file of
that name is kept, and the command fails.

FROM and PACKAGE are as for publish copy. With --base, packages that an earlier file holds are left
out: import the files in the order in which they were written.`

const importHelp = `Import the packages of a file written by publish export into a mirror. Packages that TO offers already
are not read, and other packages of TO stay. A package is an error if it needs a package that is
neither in the file nor in TO.

TO is s3://bucket[/prefix] or file:///directory.`

// An exporting holds the settings of an export.
type exporting struct {
	from target.Config
	selecting
	rules        cli.Rules
	bases        []string
	output       cli.Output
	dryRun, json bool
	timeout      time.Duration
}

func exportCommand(env cli.Env) *cobra.Command {
	e := exporting{rules: cli.DefaultRules()}
	cmd := &cobra.Command{
		GroupID: help.Publishing, Use: "export FROM FILE [PACKAGE...]", Short: "Write packages of a mirror into a tar file", Long: exportHelp, Args: cli.AtLeast(2),
		Example: "  publish export https://cache.example.org/noble/spack november.tar slurm@25:\n  publish export --base november.tar s3://cache/noble december.tar slurm@25:",
		RunE:    func(cmd *cobra.Command, args []string) error { return e.run(cmd, args, env) },
	}
	fs := cmd.Flags()
	fs.BoolVar(&e.dryRun, "dry-run", false, "print what would be done and do nothing")
	fs.BoolVar(&e.json, "json", false, "print one JSON document (see docs/json-report.md)")
	cli.OutputFlags(fs, &e.output)
	fs.StringArrayVar(&e.bases, "base", nil, "leave out what this earlier `FILE` holds; repeatable")
	e.selecting.register(fs, "export")
	cli.ReadFlags(fs, &e.from)
	cli.TrustFlags(fs, &e.rules)
	cli.BuildFlags(fs, &e.rules.Selection)
	cli.TimeoutFlag(fs, &e.timeout, "stop after this time, such as 30m; 0: never")
	return cmd
}

func (e *exporting) run(cmd *cobra.Command, args []string, env cli.Env) error {
	o, err := e.rules.Options()
	var want elsewhere.Closure
	var wrong error
	want.Want, wrong = wantedOf(args[2:])
	if err = errors.Join(err, e.output.Check(), e.from.Validate(), e.check(), wrong, archive.Replaceable(args[1], e.bases)); err != nil {
		return cli.Usage(err)
	}
	want.Layout, want.NoKeys, want.Builds, want.View = o.Selection.Layout, o.Selection.NoKeys, e.builds, e.view
	env.Output = e.output
	ctx, cancel := cli.WithTimeout(cmd.Context(), e.timeout)
	defer cancel()
	report := task.NewReport(env, args[0], args[1], e.dryRun, nil)
	err = e.output.Tell(cli.Stopped(ctx, e.export(ctx, args[0], args[1], want, o, report, env)))
	if found := (*buildcache.FindingsError)(nil); errors.As(err, &found) {
		err = cli.WithHint(err, "mend or rebuild what is named in FROM, or name packages that do not need it")
	}
	report.Finish(err)
	if printErr := report.Print(env, e.json); err == nil {
		err = printErr
	}
	return err
}

func (e *exporting) export(ctx context.Context, from, file string, want elsewhere.Closure, o publish.Options, report *task.Report, env cli.Env) (err error) {
	at, err := e.open(ctx, env, from, e.from, field.Place{})
	if err != nil {
		return err
	}
	defer at.close()
	defer func() { err = at.blamed(err) }()
	screen := task.NewScreen(env)
	screen.Introduce(from, file, at.endpoint)
	report.SourceEndpoint = redact.URL(at.endpoint)
	if want.Held, err = e.held(ctx); err != nil {
		return err
	}
	to, err := archive.Create(file)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	finished := false
	defer func() {
		if finished {
			to.Close()
		} else {
			to.Discard()
			report.Stored = nil // which is gone
		}
	}()
	src, err := at.source(ctx, to, want)
	if errors.Is(err, source.ErrNothing) {
		return cli.Fail(cli.ExitSource, err)
	}
	if err != nil {
		return err
	}
	relay := transfer.NewRelay("")
	plan, err := publish.NewPlan(ctx, src, func(string) mirror.Store { return relay.Into(to) }, o)
	if err != nil {
		return err
	}
	if !plan.Blocked() && !plan.Packages() { // a file without packages would be none
		return e.remove(file)
	}
	report.SetPlan(plan, nil, 0, 0)
	switch {
	case plan.Blocked():
		return &buildcache.FindingsError{Findings: plan.Findings}
	case e.dryRun:
		return nil
	}
	progress, stop := screen.Progress(plan)
	out, err := plan.Apply(ctx, progress)
	stop(out)
	report.SetOutcome(out, 0)
	if err != nil {
		return err
	}
	if err := to.Need(ctx, neededOf(src, want.Held)); err != nil {
		return err
	}
	if err := to.Finish(); err != nil {
		return err
	}
	finished = true
	report.MarkIndexed()
	return nil
}

// remove removes an earlier export at the name of an export without packages, which would pass for the new one.
func (e *exporting) remove(file string) error {
	if e.dryRun {
		return nil
	}
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// neededOf returns the packages of earlier files that the packages of a source need.
func neededOf(src *source.Source, held map[spec.Hash]bool) (all []string) {
	for _, m := range src.Mirrors {
		for _, p := range m.Packages {
			for _, n := range p.Spec.Nodes {
				if held[n.Hash] {
					all = append(all, string(n.Hash))
				}
			}
		}
	}
	return all
}

// held returns the packages that earlier files hold.
func (e *exporting) held(ctx context.Context) (map[spec.Hash]bool, error) {
	var readers []mirror.Reader
	for _, name := range e.bases {
		r, err := archive.Open(name)
		if err != nil {
			return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("--base: %w", err))
		}
		defer r.Close()
		readers = append(readers, r)
	}
	return elsewhere.Offered(ctx, readers...)
}

func importCommand(env cli.Env) *cobra.Command {
	c := copying{rules: cli.DefaultRules()}
	cmd := &cobra.Command{
		GroupID: help.Publishing, Use: "import FILE TO", Short: "Import the packages of a tar file into a mirror", Long: importHelp, Args: cli.Arguments,
		Example: "  publish import november.tar file:///srv/mirror",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.carryOut(cmd, args[0], args[1], nil, env, func(ctx context.Context) (*origins, error) {
				r, err := archive.Open(args[0])
				if info, statErr := os.Stat(args[0]); err != nil && (statErr != nil || !info.Mode().IsRegular()) {
					return nil, cli.Usage(err)
				}
				if err != nil {
					return nil, cli.Fail(cli.ExitSource, err)
				}
				needs, err := r.Needs(ctx)
				if err != nil {
					return nil, cli.Fail(cli.ExitSource, errors.Join(err, r.Close()))
				}
				c.needed = make(map[spec.Hash]bool)
				for _, h := range needs {
					c.needed[spec.Hash(h)] = true
				}
				at := new(origins)
				at.add(r, field.Place{Name: "FILE"}, r.Close)
				return at, nil
			})
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&c.dryRun, "dry-run", false, "print what would be done and do nothing")
	fs.BoolVar(&c.json, "json", false, "print one JSON document (see docs/json-report.md)")
	c.registerTo(fs)
	return cmd
}
