package main

import (
	"context"
	"errors"

	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

func routeFlag(fs *pflag.FlagSet, route *string) {
	help.Group(fs, "Licences", func(fs *pflag.FlagSet) {
		fs.StringVar(route, "licenses-to", "", "publish packages that --licenses refuses, and their dependents, to `DESTINATION` instead: a mirror that is not public")
	})
}

// checkRoute completes the other destination, and returns what is wrong with it.
func (p *publishing) checkRoute(source, destination string) error {
	if p.route == "" {
		return nil
	}
	_, route, err := cli.Places(source, p.route, nil)
	if err != nil {
		return field.Wrap("licenses-to", err)
	}
	p.route = route
	switch {
	case p.rules.Licences == "":
		return field.Wrap("licenses-to", errors.New("no rules say which packages go there: give --licenses FILE as well"))
	case p.route == destination:
		return field.Wrap("licenses-to", errors.New("it is DESTINATION itself, which gets the packages that may be redistributed"))
	}
	return field.Wrap("licenses-to", p.target.ValidateAt(p.route))
}

// runRouted publishes the packages that the first publish routed to the other destination, unless the first
// failed.
func (p *publishing) runRouted(ctx context.Context, first *task.Publish, env cli.Env, err error) error {
	routed := first.Report.With(publish.Routed)
	if p.route == "" || len(routed) == 0 || err != nil && !(p.rules.KeepGoing && first.Report.Indexed()) {
		return err
	}
	second := *first
	second.Destination, second.Upstream = p.route, nil
	second.Target.CDN = target.CDNConfig{} // the CDN of the first destination
	second.Options.Licences, second.Options.Route, second.Options.Upstream = nil, false, nil
	second.Options.Selection.Include = nil
	for _, r := range routed {
		second.Options.Selection.Include = append(second.Options.Selection.Include, "/"+r.Hash)
	}
	env.Output = p.output
	second.Report = task.NewReport(env, first.Source, p.route, p.dryRun, nil)
	screen := task.NewScreen(env)
	screen.Introduce(first.Source, p.route, "")
	second.Observer, second.Identified = screen, screen.Identified
	secondErr := second.Run(ctx)
	second.Report.Finish(secondErr)
	first.Report.Routed = second.Report
	return errors.Join(err, secondErr)
}

// print prints a report, and the report of the publish to the other destination.
func (p *publishing) print(r *task.Report, env cli.Env) error {
	err := r.Print(env, p.json)
	if err == nil && r.Routed != nil && !p.json {
		err = r.Routed.Print(env, false)
	}
	return err
}
