package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/views"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/browse"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const viewHelp = `Show and change the views of a mirror of layout v3. A view is a named index: clients that choose it in
mirrors.yaml read it in place of the index of the whole mirror, and see only its packages.

DESTINATION is one mirror, s3://bucket[/prefix] or file:///directory. Packages are selected in Spack's syntax for specs
(slurm@25: ^openmpi), by /hash, or by the name of a lock file (spack.lock), which stands for its environment. As in a view
made by Spack, their dependencies are in the view as well, as far as the mirror holds them.

Any number of publishers may change one view. A view that is right already is not written.`

func viewCommand(env cli.Env) *cobra.Command {
	cmd := &cobra.Command{GroupID: help.Maintaining, Use: "view", Short: "Show and change the views of a mirror", Long: viewHelp, Args: cobra.NoArgs,
		Example: "  publish view list s3://bucket/noble/spack\n  publish view set s3://bucket/noble/spack 2026-11 'slurm@25.11' /hyibvwk\n  publish view show s3://bucket/noble/spack 2026-11"}
	cmd.AddCommand(browse.Views(env), browse.View(env), viewChange(env, views.Set), viewChange(env, views.Add), viewChange(env, views.Remove))
	return cmd
}

// A viewing holds the settings of a change of a view.
type viewing struct {
	change       views.Change
	empty        bool
	target       target.Config
	dryRun, json bool
	timeout      time.Duration
}

var viewShort = map[views.Act]string{
	views.Set:    "Make a view offer these packages and no others",
	views.Add:    "Add packages to a view",
	views.Remove: "Take packages out of a view",
}

var viewLong = map[views.Act]string{
	views.Set: `Make a view offer the selected packages and their dependencies, and nothing else. A missing view is
created. With --from it gets the content of another view, in one write: so a name such as current moves from one dated view
to the next.`,
	views.Add: `Add the selected packages and their dependencies to a view. A missing view is created.`,
	views.Remove: `Take the selected packages out of a view. Their dependencies stay. A package cannot be removed alone if another
package of the view needs it for installing. The packages stay in the mirror.`,
}

func viewChange(env cli.Env, act views.Act) *cobra.Command {
	v := viewing{change: views.Change{Act: act}}
	selection := " PACKAGE..."
	if act == views.Set {
		selection = " [PACKAGE...]"
	}
	cmd := &cobra.Command{
		Use: string(act) + " DESTINATION NAME" + selection, Short: viewShort[act], Long: viewLong[act], Args: cli.AtLeast(2),
		Example: "  publish view " + string(act) + " s3://bucket/noble/spack 2026-11 'slurm@25.11' /hyibvwk\n  publish view " + string(act) + " s3://bucket/noble/spack login spack.lock",
		RunE:    func(cmd *cobra.Command, args []string) error { return v.run(cmd, args, env) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.BoolVar(&v.dryRun, "dry-run", false, "print what would be done and do nothing")
	fs.BoolVar(&v.json, "json", false, "print one JSON document")
	if act == views.Set {
		cmd.Example += "\n  publish view set s3://bucket/noble/spack current --from 2026-11"
		fs.StringVar(&v.change.From, "from", "", "give the view the content of the view `NAME`")
		fs.BoolVar(&v.empty, "empty", false, "make the view offer nothing")
	}
	cli.StorageFlags(fs, &v.target)
	cli.CDNFlags(fs, &v.target.CDN)
	cli.TimeoutFlag(fs, &v.timeout, "stop after this time, such as 30m; 0: never")
	return cmd
}

// read parses the arguments after DESTINATION.
func (v *viewing) read(name string, packages []string) (err error) {
	v.change.View = name
	v.change.Want, err = wantedOf(packages)
	if err = errors.Join(layout.CheckView(name), err); err != nil {
		return err
	}
	if v.change.From != "" {
		if err := layout.CheckView(v.change.From); err != nil {
			return field.Wrap("from", err)
		}
	}
	ways := 0
	for _, given := range []bool{len(packages) > 0, v.change.From != "", v.empty} {
		if given {
			ways++
		}
	}
	switch {
	case ways == 1:
		return nil
	case v.change.Act != views.Set:
		return errors.New("no package is given: name some, or a lock file")
	case ways == 0:
		return errors.New("nothing is given: name packages or a lock file, or --from another view, or --empty for a view that offers nothing")
	}
	return errors.New("give packages, or --from, or --empty: only one of them")
}

func (v *viewing) run(cmd *cobra.Command, args []string, env cli.Env) error {
	if err := errors.Join(cli.CheckPlace(args[0]), v.read(args[1], args[2:]), v.target.ValidateAt(args[0])); err != nil {
		return cli.Usage(err)
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), v.timeout)
	defer cancel()
	d, cdn, err := cli.OpenServed(ctx, env, args[0], v.target)
	if err != nil {
		return err
	}
	defer d.Close()
	report, err := v.carryOut(ctx, d, cdn)
	if report == nil {
		return cli.Stopped(ctx, viewFailure(err))
	}
	if printErr := report.print(env, v.json); err == nil {
		err = printErr
	}
	return cli.Stopped(ctx, err)
}

// viewFailure gives an error caused by the request the exit code of wrong usage.
func viewFailure(err error) error {
	for _, asked := range []error{views.ErrNothing, views.ErrLacking, views.ErrNeeded, views.ErrLayout, views.ErrNoView} {
		if !errors.Is(err, asked) {
			continue
		}
		if asked == views.ErrLacking {
			err = cli.WithHint(err, "publish the package, or leave it out; `publish verify` says what is damaged and what mends it")
		}
		return cli.Fail(cli.ExitUsage, err)
	}
	return err
}

// carryOut plans the change and applies it, unless it is a dry run. The report is nil only if nothing was written.
func (v *viewing) carryOut(ctx context.Context, d *target.Destination, cdn *target.CDN) (*viewReport, error) {
	s := d.Mirror("")
	plan, err := views.NewPlan(ctx, s, v.change)
	if err != nil {
		return nil, err
	}
	r := &viewReport{
		Version: cli.ReportVersion, View: plan.View, DryRun: v.dryRun, Before: plan.Before, After: plan.After, Changes: plan.Changes,
		Added: append([]string{}, plan.Added...), Removed: append([]string{}, plan.Removed...), Findings: append([]buildcache.Finding{}, plan.Findings...),
	}
	if v.dryRun {
		if paths := cdn.Paths([]string{plan.Pointer()}); plan.Changes && len(paths) > 0 {
			r.Invalidate = &target.Invalidation{Paths: paths}
		}
		return r, nil
	}
	out, err := plan.Apply(ctx, s)
	if err != nil {
		return nil, err
	}
	r.Before, r.After, r.Changes, r.Written, r.Digest = out.Before, out.After, out.Written, out.Written, out.Digest()
	var stale []string
	if out.Written {
		stale = []string{plan.Pointer()}
	}
	var changes target.Changes
	changes.Add(plan.Expectation("", out), stale)
	r.Invalidate, err = cdn.Update(ctx, changes)
	return r, err
}

// A viewReport is the result of a change of a view.
type viewReport struct {
	Version    int                  `json:"version"`
	View       string               `json:"view"`
	DryRun     bool                 `json:"dry_run"`
	Before     int                  `json:"before"` // packages that it offers
	After      int                  `json:"after"`
	Changes    bool                 `json:"changes"`
	Written    bool                 `json:"written"`
	Digest     string               `json:"digest,omitempty"`
	Added      []string             `json:"added"`
	Removed    []string             `json:"removed"`
	Findings   []buildcache.Finding `json:"findings"`
	Invalidate *target.Invalidation `json:"invalidation,omitempty"`
}

func (r *viewReport) print(env cli.Env, asJSON bool) error {
	if asJSON {
		return cli.WriteJSON(env.Stdout, r)
	}
	if env.Shows().Quiet {
		cli.PrintWarnings(env.Stdout, "", r.Findings, false)
		return nil
	}
	var b strings.Builder
	for _, p := range r.Removed {
		escape.Fprintf(&b, "  - %s\n", p)
	}
	for _, p := range r.Added {
		escape.Fprintf(&b, "  + %s\n", p)
	}
	cli.PrintWarnings(&b, "  ", r.Findings, false)
	what := "is right already"
	switch {
	case r.Changes && r.DryRun:
		what = fmt.Sprintf("would be written, was %d (dry run: nothing is written)", r.Before)
	case r.Written:
		what = fmt.Sprintf("was %d", r.Before)
	}
	escape.Fprintf(&b, "view %s: %s, %s\n", r.View, english.Plural(r.After, "package", ""), what)
	cli.PrintInvalidation(&b, r.Invalidate)
	_, err := io.WriteString(env.Stdout, b.String())
	return err
}
