package browse

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// A viewedMirror is a mirror with its views.
type viewedMirror struct {
	Mirror string      `json:"mirror"`
	Views  []viewEntry `json:"views"`
}

type viewEntry struct {
	Name     string `json:"name"`
	Packages int    `json:"packages"` // offered packages
	Bytes    int64  `json:"bytes"`    // of its index
	Digest   string `json:"digest"`
	Error    string `json:"error,omitempty"` // why it cannot be read
}

// Views returns the command `publish view list`.
func Views(env cli.Env) *cobra.Command {
	var f browseFlags
	cmd := &cobra.Command{
		Use: "list DESTINATION", Short: "List the views of a mirror, or of each mirror of a tree", Args: cli.Arguments,
		Example: "  publish view list s3://bucket/noble/spack",
		RunE:    func(cmd *cobra.Command, args []string) error { return runViews(cmd, args[0], &f, env) },
	}
	f.registerPlain(cmd.Flags())
	return cmd
}

func runViews(cmd *cobra.Command, where string, f *browseFlags, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	at, done, err := cli.OpenReaders(ctx, env, where, f.target)
	if err != nil {
		return err
	}
	defer done()
	lister, ok := at("").(mirror.Lister)
	if !ok {
		return cli.Fail(cli.ExitUsage, errors.New("a URL cannot be listed: `publish view show URL NAME` shows one view"))
	}
	all := []viewedMirror{}
	err = roots.Each(ctx, lister, func(p string) error {
		views, err := entries(ctx, at(p))
		if err == nil && len(views) == 0 && p == "" { // otherwise it is a mirror of a tree
			err = isMirror(ctx, at(p))
		}
		if err == nil {
			all = append(all, viewedMirror{shown(where, p), views})
		}
		return err
	})
	if err != nil {
		return err
	}
	if f.json {
		return cli.WriteJSON(env.Stdout, struct {
			Version int            `json:"version"`
			Mirrors []viewedMirror `json:"mirrors"`
		}{cli.ReportVersion, all})
	}
	t := tabwriter.NewWriter(env.Stdout, 2, 8, 2, ' ', 0)
	for _, m := range all {
		if len(m.Views) == 0 {
			escape.Fprintf(t, "%s: no views\n", m.Mirror)
			continue
		}
		escape.Fprintf(t, "%s:\n", m.Mirror)
		for _, v := range m.Views {
			if v.Error != "" {
				escape.Fprintf(t, "  %s\tcannot be read: %s\n", v.Name, v.Error)
				continue
			}
			escape.Fprintf(t, "  %s\t%s\t%s\tsha256 %.12s\n", v.Name, english.Plural(v.Packages, "package", ""), cli.Size(v.Bytes), v.Digest)
		}
	}
	return t.Flush()
}

// isMirror returns buildcache.ErrNoMirror if r has no index.
func isMirror(ctx context.Context, r mirror.Reader) error {
	for _, l := range buildcache.Layouts() {
		if p, err := l.ReadPointer(ctx, r); err != nil || p.Version != mirror.Absent {
			return err
		}
	}
	return inventory.ErrNoIndex
}

// entries returns the views of a mirror. The number of packages is read from the pointer of a view, if it is
// there.
func entries(ctx context.Context, r mirror.Reader) ([]viewEntry, error) {
	names, err := buildcache.Views(ctx, r.(mirror.Lister))
	if err != nil {
		return nil, err
	}
	all := []viewEntry{}
	for _, name := range names {
		v := viewEntry{Name: name}
		p, x, err := readView(ctx, r, name)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, err
		case err != nil:
			v.Error = err.Error()
		default:
			v.Packages, v.Bytes, v.Digest = offeredBy(p, x), p.Size(), p.Digest()
		}
		all = append(all, v)
	}
	return all, nil
}

// readView reads the pointer of a view, and the view itself if the pointer does not count its packages.
func readView(ctx context.Context, r mirror.Reader, name string) (*buildcache.Pointer, *indices.Set, error) {
	l := buildcache.View(name)
	p, err := l.ReadPointer(ctx, r)
	if err == nil {
		err = p.Broken
	}
	if err != nil || p.Coverage != nil {
		return p, nil, err
	}
	x, err := l.ReadIndex(ctx, r, p)
	return p, x, err
}

func offeredBy(p *buildcache.Pointer, x *indices.Set) int {
	if x == nil {
		return p.Coverage.Len()
	}
	return x.Offered()
}

// View returns the command `publish view show`.
func View(env cli.Env) *cobra.Command {
	var f browseFlags
	cmd := &cobra.Command{
		Use: "show DESTINATION|URL NAME", Short: "Show the packages of a view, and how clients choose it", Args: cli.Arguments,
		Example: "  publish view show s3://bucket/noble/spack 2026-11\n  publish view show https://cache.example.org/noble/spack 2026-11",
		RunE:    func(cmd *cobra.Command, args []string) error { return runView(cmd, args[0], args[1], &f, env) },
	}
	f.registerPlain(cmd.Flags())
	return cmd
}

func runView(cmd *cobra.Command, where, name string, f *browseFlags, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	at, done, err := cli.OpenReaders(ctx, env, where, f.target)
	if err != nil {
		return err
	}
	defer done()
	inv, err := inventory.Read(ctx, at(""), name)
	if errors.Is(err, inventory.ErrNoIndex) {
		err = cli.WithHint(cli.Fail(cli.ExitUsage, err), "`publish view list` lists the views of a mirror")
	}
	if err != nil {
		return err
	}
	p, x, err := readView(ctx, at(""), name)
	if err != nil {
		return err
	}
	v := viewEntry{Name: name, Packages: offeredBy(p, x), Bytes: p.Size(), Digest: p.Digest()}
	if f.json {
		packages := []packageJSON{}
		for _, b := range inv.Builds {
			packages = append(packages, jsonOf(inv, b.Node))
		}
		return cli.WriteJSON(env.Stdout, struct {
			Version int    `json:"version"`
			Mirror  string `json:"mirror"`
			viewEntry
			Offers []packageJSON `json:"offers"`
		}{cli.ReportVersion, shown(where, ""), v, packages})
	}
	var text strings.Builder
	for _, b := range inv.Select(new(query.Query)) {
		escape.Fprintf(&text, "%s\n", id(b.Node))
	}
	escape.Fprintf(&text, "view %s: %s, %s, sha256 %s\n\n", v.Name, english.Plural(v.Packages, "package", ""), cli.Size(v.Bytes), v.Digest)
	text.WriteString(mirrorsYAML(shown(target.Canonical(where), ""), name))
	_, err = fmt.Fprint(env.Stdout, text.String())
	return err
}

// mirrorsYAML returns the lines of mirrors.yaml with which clients choose a view. It is quoted, because 25.11
// would be a number.
func mirrorsYAML(url, view string) string {
	return fmt.Sprintf("mirrors:\n  %s:\n    url: %q\n    view: %q\n", path.Base(url)+"-"+strings.ReplaceAll(view, "/", "-"), url, view)
}
