package browse

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/downloads"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/prune"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const duHelp = `Show how the bytes of a cache are used: by name, version, operating system, target or view, the
largest first.

If the cache can be listed, it also shows the size of packages outside of the index, and of objects
without references: superseded indices, and leftovers of interrupted publishers. It also shows what
publish prune would delete now, without rules about packages. A URL cannot be listed: only the
packages of its index are shown.

With --usage, a file of publish usage, it shows how often packages were downloaded, and which
were not.
` + browseHelp

// Du returns the command `publish du`.
func Du(env cli.Env) *cobra.Command {
	var f browseFlags
	var by, used string
	var top int
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "du DESTINATION|URL", Short: "Show how the bytes of a cache are used", Long: duHelp, Args: cli.Arguments,
		Example: "  publish du s3://bucket/noble/spack\n  publish du --by target --top 0 file:///srv/mirror",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDu(cmd, args[0], &f, by, used, top, env)
		},
	}
	f.register(cmd.Flags())
	help.Choice(cmd.Flags(), &by, "by", "name", "group packages by this", "name", "version", "os", "target", "view")
	cmd.Flags().StringVar(&used, "usage", "", "show downloads, from this `FILE` of publish usage --output")
	cmd.Flags().IntVar(&top, "top", 20, "show only this many groups of each mirror; 0: all. --json always has all")
	return cmd
}

// A consumption is the storage that one mirror uses.
type consumption struct {
	Mirror   string  `json:"mirror"`
	Packages int     `json:"packages"`
	Bytes    int64   `json:"bytes"` // of the packages in the index
	Groups   []group `json:"groups"`
	Missing  int     `json:"missing"` // packages whose document or tarball is missing
	// Unread are packages that were not downloaded; with --usage.
	Unread *downloads.Unread `json:"unread,omitempty"`
	// Listed is the storage outside of the index, from a listing.
	Listed *leavings `json:"listed,omitempty"`
}

// A group is packages with something in common.
type group struct {
	inventory.Group
	Downloads *int64 `json:"downloads,omitempty"` // with --usage
}

type leavings struct {
	All        inventory.Amount `json:"all"`
	Unindexed  inventory.Amount `json:"unindexed"`
	Superseded inventory.Amount `json:"superseded"`
	Other      inventory.Amount `json:"other"`
	Prunable   inventory.Amount `json:"prunable"` // what publish prune would delete now
}

// groupings returns the groups of a package, for each --by except view.
var groupings = map[string]func(*inventory.Document) []string{
	"name":    func(d *inventory.Document) []string { return []string{d.Build.Name} },
	"version": func(d *inventory.Document) []string { return []string{d.Build.Name + "@" + d.Version.String()} },
	"os":      func(d *inventory.Document) []string { return []string{d.OS} },
	"target":  func(d *inventory.Document) []string { return []string{d.Target} },
}

func runDu(cmd *cobra.Command, where string, f *browseFlags, by, used string, top int, env cli.Env) error {
	if groupings[by] == nil && by != "view" {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--by %q: want name, version, os, target or view", by))
	}
	if top < 0 {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--top %d: want 0 or more", top))
	}
	var counts map[string]int64
	if used != "" {
		r, err := usageFile(used)
		if err != nil {
			return err
		}
		counts = r.Downloads()
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
		c, err := consumed(ctx, s, by, counts)
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
		if err := c.print(env, by, f.view, top); err != nil {
			return err
		}
	}
	return nil
}

func consumed(ctx context.Context, s shownMirror, by string, counts map[string]int64) (*consumption, error) {
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
	c := &consumption{Mirror: s.shown, Packages: len(u.Documents), Groups: []group{}}
	for _, g := range inventory.GroupBy(u.Documents, names) {
		c.Groups = append(c.Groups, group{Group: g})
	}
	if counts != nil {
		c.count(u.Documents, names, counts)
	}
	for _, g := range inventory.GroupBy(u.Documents, func(*inventory.Document) []string { return []string{""} }) {
		c.Bytes = g.Bytes
	}
	for _, d := range u.Documents {
		if d.Unusable != nil {
			c.Missing++
		}
	}
	if u.Listed {
		c.Listed = &leavings{inventory.Amount{Objects: u.Objects, Bytes: u.Bytes}, u.Unindexed, u.Superseded, u.Other, inventory.Amount{}}
		c.Listed.Prunable, err = prunable(ctx, s.reader)
	}
	return c, err
}

// count adds the numbers of downloads.
func (c *consumption) count(documents []*inventory.Document, names func(*inventory.Document) []string, counts map[string]int64) {
	of := make(map[string]int64)
	c.Unread = new(downloads.Unread)
	for _, d := range documents {
		n := counts[d.Hash]
		for _, name := range names(d) {
			of[name] += n
		}
		if n == 0 {
			c.Unread.Packages++
			c.Unread.Bytes += d.Bytes()
		}
	}
	for i := range c.Groups {
		n := of[c.Groups[i].Name]
		c.Groups[i].Downloads = &n
	}
}

// prunable returns what publish prune would delete now without rules.
func prunable(ctx context.Context, r mirror.Reader) (inventory.Amount, error) {
	store, ok := r.(prune.Store)
	if !ok {
		return inventory.Amount{}, nil
	}
	p, err := prune.New(ctx, store, prune.Defaults())
	if err != nil {
		return inventory.Amount{}, err
	}
	objects, bytes := p.Objects()
	return inventory.Amount{Objects: int64(objects), Bytes: bytes}, nil
}

// viewsOf returns a function that names the views which offer a package.
func viewsOf(ctx context.Context, s shownMirror) (func(*inventory.Document) []string, error) {
	l, ok := s.reader.(mirror.Lister)
	if !ok {
		return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("--by view: %s cannot be listed, so its views are unknown: give one with --view", s.shown))
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

func (c *consumption) print(env cli.Env, by, view string, top int) error {
	t := tabwriter.NewWriter(env.Stdout, 2, 8, 2, ' ', tabwriter.AlignRight)
	escape.Fprintf(t, "SIZE\tPACKAGES\t")
	if c.Unread != nil {
		escape.Fprintf(t, "DOWNLOADS\t")
	}
	escape.Fprintf(t, "  %s\n", strings.ToUpper(by))
	shown := c.Groups
	if top > 0 && len(shown) > top {
		shown = shown[:top]
	}
	for _, g := range shown {
		escape.Fprintf(t, "%s\t%d\t", cli.Size(g.Bytes), g.Packages)
		if g.Downloads != nil {
			escape.Fprintf(t, "%d\t", *g.Downloads)
		}
		escape.Fprintf(t, "  %s\n", g.Name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if more := len(c.Groups) - len(shown); more > 0 {
		escape.Fprintf(env.Stdout, "and %d more: --top 0 shows all\n", more)
	}
	escape.Fprintf(env.Stdout, "%s: %s, %s", c.Mirror, english.Plural(c.Packages, "package", ""), cli.Size(c.Bytes))
	outside := "in no index"
	if view != "" {
		outside = "not in the view " + view
	}
	if l := c.Listed; l != nil {
		escape.Fprintf(env.Stdout, "; %s: %s; superseded: %s in %s; all objects: %s", outside, cli.Size(l.Unindexed.Bytes), cli.Size(l.Superseded.Bytes), english.Plural(int(l.Superseded.Objects), "blob", ""), cli.Size(l.All.Bytes))
	}
	if l := c.Listed; l != nil && l.Prunable.Objects > 0 {
		escape.Fprintf(env.Stdout, "; publish prune would delete %s, %s", english.Plural(int(l.Prunable.Objects), "object", ""), cli.Size(l.Prunable.Bytes))
	}
	if c.Unread != nil {
		escape.Fprintf(env.Stdout, "; not downloaded: %d packages, %s", c.Unread.Packages, cli.Size(c.Unread.Bytes))
	}
	if c.Missing > 0 {
		escape.Fprintf(env.Stdout, "; %d packages cannot be installed: run publish verify", c.Missing)
	}
	_, err := escape.Fprintf(env.Stdout, "\n")
	return err
}
