package browse

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const duHelp = `Show where the bytes of a cache are: by name, version, operating system, target or view, the
largest first.

Where the cache can be listed, it also shows what packages take that are in no index, and
what nothing points at: superseded indices, and what interrupted publishers left. A URL
cannot be listed, so there only the packages of its index are shown.
` + browseHelp

// Du returns the command `publish du`.
func Du(env cli.Env) *cobra.Command {
	var f browseFlags
	var by string
	var top int
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "du DESTINATION|URL", Short: "Show where the bytes of a cache are", Long: duHelp, Args: cli.Arguments,
		Example: "  publish du s3://bucket/noble/spack\n  publish du --by target --top 0 file:///srv/mirror",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDu(cmd, args[0], &f, by, top, env)
		},
	}
	f.register(cmd.Flags())
	help.Choice(cmd.Flags(), &by, "by", "name", "what packages are grouped by", "name", "version", "os", "target", "view")
	cmd.Flags().IntVar(&top, "top", 20, "show only so many groups of each mirror; 0: all. --json always has all")
	return cmd
}

// A consumption is what one mirror takes.
type consumption struct {
	Mirror   string            `json:"mirror"`
	Packages int               `json:"packages"`
	Bytes    int64             `json:"bytes"` // of the packages in the index
	Groups   []inventory.Group `json:"groups"`
	Missing  int               `json:"missing"` // packages whose document or tarball is not there
	// Listed is what a listing shows besides.
	Listed *leavings `json:"listed,omitempty"`
}

type leavings struct {
	All        inventory.Amount `json:"all"`
	Unindexed  inventory.Amount `json:"unindexed"`
	Superseded inventory.Amount `json:"superseded"`
	Other      inventory.Amount `json:"other"`
}

// groupings are what packages may be grouped by, besides views.
var groupings = map[string]func(*inventory.Document) []string{
	"name":    func(d *inventory.Document) []string { return []string{d.Build.Name} },
	"version": func(d *inventory.Document) []string { return []string{d.Build.Name + "@" + d.Version.String()} },
	"os":      func(d *inventory.Document) []string { return []string{d.OS} },
	"target":  func(d *inventory.Document) []string { return []string{d.Target} },
}

func runDu(cmd *cobra.Command, where string, f *browseFlags, by string, top int, env cli.Env) error {
	if groupings[by] == nil && by != "view" {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--by %q: want name, version, os, target or view", by))
	}
	if top < 0 {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--top %d: want 0 or more", top))
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	mirrors, done, err := f.browse(ctx, where, env)
	if err != nil {
		return err
	}
	defer done()
	all := []consumption{}
	for _, s := range mirrors {
		c, err := consumed(ctx, s, by)
		if err != nil {
			return err
		}
		all = append(all, *c)
	}
	if f.json {
		return cli.WriteJSON(env.Stdout, struct {
			Version int           `json:"version"`
			By      string        `json:"by"`
			Mirrors []consumption `json:"mirrors"`
		}{cli.ReportVersion, by, all})
	}
	for _, c := range all {
		if err := c.print(env, by, top); err != nil {
			return err
		}
	}
	return nil
}

func consumed(ctx context.Context, s shownMirror, by string) (*consumption, error) {
	names := groupings[by]
	if names == nil {
		var err error
		if names, err = viewsOf(ctx, s); err != nil {
			return nil, err
		}
	}
	u, err := s.Usage(ctx, s.reader)
	if err != nil {
		return nil, err
	}
	c := &consumption{Mirror: s.shown, Packages: len(u.Documents), Groups: inventory.GroupBy(u.Documents, names)}
	for _, g := range inventory.GroupBy(u.Documents, func(*inventory.Document) []string { return []string{""} }) {
		c.Bytes = g.Bytes
	}
	for _, d := range u.Documents {
		if d.Unusable != nil {
			c.Missing++
		}
	}
	if u.Listed {
		c.Listed = &leavings{inventory.Amount{Objects: u.Objects, Bytes: u.Bytes}, u.Unindexed, u.Superseded, u.Other}
	}
	return c, nil
}

// viewsOf tells the views that offer a package.
func viewsOf(ctx context.Context, s shownMirror) (func(*inventory.Document) []string, error) {
	l, ok := s.reader.(mirror.Lister)
	if !ok {
		return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("--by view: %s cannot be listed, so its views are not known: name one with --view", s.shown))
	}
	views, err := buildcache.Views(ctx, l)
	if err != nil {
		return nil, err
	}
	in := make(map[string][]string)
	for _, view := range views {
		inv, err := inventory.Read(ctx, s.reader, view)
		if err != nil {
			return nil, err
		}
		for _, b := range inv.Builds {
			in[b.Hash] = append(in[b.Hash], view)
		}
	}
	return func(d *inventory.Document) []string {
		if len(in[d.Hash]) == 0 {
			return []string{"(no view)"}
		}
		return in[d.Hash]
	}, nil
}

func (c *consumption) print(env cli.Env, by string, top int) error {
	t := tabwriter.NewWriter(env.Stdout, 2, 8, 2, ' ', tabwriter.AlignRight)
	escape.Fprintf(t, "%s\t%s\t\n", "SIZE", "PACKAGES")
	shown := c.Groups
	if top > 0 && len(shown) > top {
		shown = shown[:top]
	}
	for _, g := range shown {
		escape.Fprintf(t, "%s\t%d\t  %s\n", cli.Size(g.Bytes), g.Packages, g.Name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if more := len(c.Groups) - len(shown); more > 0 {
		escape.Fprintf(env.Stdout, "and %d more: --top 0 shows all\n", more)
	}
	escape.Fprintf(env.Stdout, "%s: %d packages, %s", c.Mirror, c.Packages, cli.Size(c.Bytes))
	if l := c.Listed; l != nil {
		escape.Fprintf(env.Stdout, "; in no index: %s; superseded: %s in %d blobs; all objects: %s", cli.Size(l.Unindexed.Bytes), cli.Size(l.Superseded.Bytes), l.Superseded.Objects, cli.Size(l.All.Bytes))
	}
	if c.Missing > 0 {
		escape.Fprintf(env.Stdout, "; %d packages cannot be installed: run publish verify", c.Missing)
	}
	_, err := escape.Fprintf(env.Stdout, "\n")
	return err
}
