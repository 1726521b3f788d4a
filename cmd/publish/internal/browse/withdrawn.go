package browse

import (
	"errors"
	"text/tabwriter"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// A withdrawal holds the withdrawn packages of one layout of a mirror.
type withdrawal struct {
	Mirror   string               `json:"mirror"` // its path; empty for DESTINATION itself
	Layout   string               `json:"layout"`
	Packages []withdraw.Withdrawn `json:"packages"`
}

func runWithdrawn(cmd *cobra.Command, args []string, f *browseFlags, format string, env cli.Env) error {
	if len(args) > 1 || format != "" || f.view != "" {
		return cli.Fail(cli.ExitUsage, errors.New("--withdrawn lists all withdrawn packages: give no QUERY, --format or --view"))
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	at, done, err := cli.OpenReaders(ctx, env, args[0], f.target)
	if err != nil {
		return err
	}
	defer done()
	all := []withdrawal{}
	read := func(path string) error {
		there := false
		for _, l := range buildcache.Layouts() {
			p, err := l.ReadPointer(ctx, at(path))
			if err != nil {
				return err
			}
			if p.Version == mirror.Absent {
				continue
			}
			there = true
			packages, err := withdraw.List(ctx, l, at(path))
			if err != nil {
				return err
			}
			all = append(all, withdrawal{path, l.Name(), packages})
		}
		if !there {
			return buildcache.ErrNoMirror
		}
		return nil
	}
	if lister, ok := at("").(mirror.Lister); ok {
		err = roots.Each(ctx, lister, read)
	} else {
		err = read("")
	}
	if err != nil {
		return err
	}
	if f.json {
		return cli.WriteJSON(env.Stdout, struct {
			Version int          `json:"version"`
			Mirrors []withdrawal `json:"mirrors"`
		}{cli.ReportVersion, all})
	}
	n := 0
	t := tabwriter.NewWriter(env.Stdout, 2, 8, 2, ' ', 0)
	for _, m := range all {
		for _, w := range m.Packages {
			if n++; n == 1 {
				escape.Fprintf(t, "PACKAGE\tHASH\tSINCE\tBY\tREASON\n")
			}
			escape.Fprintf(t, "%s%s\t%s\t%s\t%s\t%s\n", cli.Prefixed(m.Mirror), line(w.Package), w.Hash.Short(), day(w.Time), line(w.By), line(w.Reason))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if env.Shows().Quiet {
		return nil
	}
	escape.Fprintf(env.Stderr, "%s withdrawn\n", english.Plural(n, "package", ""))
	return nil
}
