package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/catalog"
	"github.com/vantagecompute/slurm-factory-publish/publish/downloads"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/pages"
)

const catalogHelp = `Write a web page of the packages that a mirror offers, into the mirror: index.html, and its parts
below catalog/. In a tree of mirrors, each mirror gets a page, and the tree gets a page that
lists them. 404.html and robots.txt are written at the top if they are missing.

The page searches as the user types, in Spack's syntax, and needs no files but its own. Only
new parts are written: segments named by their content, then index.html.

DESTINATION is s3://bucket[/prefix] or file:///directory. An index.html that this program
did not write is never replaced.`

// A cataloging holds the settings of a page.
type cataloging struct {
	target  target.Config
	title   string
	trusted userfile.Names // files of keys
	usage   string         // a file of publish usage
	recipes bool
	rebuild bool
	json    bool
	output  cli.Output
	timeout time.Duration
}

func catalogCommand(env cli.Env) *cobra.Command {
	var c cataloging
	cmd := &cobra.Command{
		GroupID: help.Maintaining, Use: "catalog DESTINATION", Short: "Write a web page of what a mirror offers", Long: catalogHelp, Args: cli.Arguments,
		Example: "  publish catalog s3://bucket/noble/spack\n  publish catalog --title 'ACME HPC' --distribution-id E2QWRUHAPOMQZL --public-url https://cache.example.org/noble/spack s3://bucket/noble/spack",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCatalog(cmd, args[0], &c, env)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&c.title, "title", "", "title of the page; default: its current title, at first Spack buildcache")
	fs.BoolVar(&c.rebuild, "rebuild", false, "rebuild the page, and read the document of every package again")
	cli.TrustedKeysFlag(fs, &c.trusted, "`FILE` of armored public keys: show for each package whether its signature is good and by one of these keys")
	fs.BoolVar(&c.recipes, "licenses", false, "show the licence of each package, from the recipe in its tarball, with one more request per package; a page that shows licences keeps them")
	fs.StringVar(&c.usage, "usage", "", "show how often packages were downloaded, from this `FILE` of publish usage --output")
	fs.BoolVar(&c.json, "json", false, "print one JSON document")
	cli.OutputFlags(fs, &c.output)
	cli.StorageFlags(fs, &c.target)
	cli.CDNFlags(fs, &c.target.CDN)
	fs.Lookup("public-url").Usage = "`URL` at which clients find DESTINATION: shown in the commands that readers of the page copy; default: the URL that the page has, at first its own address"
	cli.TimeoutFlag(fs, &c.timeout, "stop after this time, such as 30m; 0: never")
	return cmd
}

func runCatalog(cmd *cobra.Command, where string, c *cataloging, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	if err := c.output.Check(); err != nil {
		return cli.Usage(err)
	}
	env.Output = c.output
	d, cdn, err := cli.OpenServed(ctx, env, where, c.target)
	if err != nil {
		return err
	}
	defer d.Close()
	o, err := c.options()
	if err != nil {
		return err
	}
	all, err := catalogAll(ctx, d, c, o)
	if err != nil {
		return err
	}
	invalidated, cdnErr := cdn.Update(ctx, target.Changes{Stale: pages.Stale(all)})
	if c.json {
		return errors.Join(cdnErr, cli.WriteJSON(env.Stdout, struct {
			Version    int                  `json:"version"`
			Pages      []pages.Page         `json:"pages"`
			Invalidate *target.Invalidation `json:"invalidation,omitempty"`
		}{cli.ReportVersion, all, invalidated}))
	}
	for _, p := range all {
		escape.Fprintf(env.Told(), "%s\n", p)
		cli.PrintWarnings(env.Stderr, cli.Prefixed(p.Mirror), p.Warnings, c.output.Verbose)
	}
	if c.output.Verbose {
		cli.PrintInvalidation(env.Stdout, invalidated)
	}
	return cdnErr
}

// catalogAll updates the page of a mirror or, if there is no mirror, the pages of the mirrors below.
func catalogAll(ctx context.Context, d *target.Destination, c *cataloging, o catalog.Options) ([]pages.Page, error) {
	var all []pages.Page
	var absent error // why a place has no page
	err := roots.Each(ctx, d.Mirror(""), func(path string) error {
		p, err := pages.One(ctx, d, c.target.CDN.PublicURL, path, o)
		if err == nil {
			all = append(all, p)
		}
		if absent = err; path != "" && errors.Is(err, inventory.ErrNoIndex) {
			return nil // a mirror without an index has no page
		}
		return err
	})
	switch {
	case err != nil:
		return all, err
	case len(all) == 0:
		return nil, absent
	case all[0].Mirror != "":
		top, err := pages.Tree(ctx, d, all, o)
		if errors.Is(err, catalog.ErrForeign) {
			return all, nil // the tree has a page of its own
		}
		if err != nil {
			return all, err
		}
		all = append(all, top)
	}
	return all, catalog.Furnish(ctx, d.Mirror(""), all[len(all)-1].Result)
}

// options reads the files that the flags name.
func (c *cataloging) options() (catalog.Options, error) {
	o := catalog.Options{Title: c.title, Rebuild: c.rebuild, Licences: c.recipes}
	trust, err := cli.ReadTrust(false, c.trusted)
	o.Trusted = trust.Keys
	if c.usage != "" {
		text, readErr := userfile.Read(c.usage)
		if readErr == nil {
			o.Usage, readErr = downloads.Parse(text)
		}
		err = errors.Join(err, field.Wrap("usage", readErr))
	}
	return o, cli.Usage(err)
}
