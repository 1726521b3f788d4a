package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const indexHelp = `Rebuild the index and the key index of a mirror from all its packages, as
"spack buildcache update-index -k" does, but concurrently, and safely beside publishers.

If a package lacks content, the command fails and the index stays unchanged: no package
disappears silently. A package that no reader can use is left out with a warning. Withdrawn
packages stay out. Packages removed by a rollback stay out, too, unless --heal is given.`

// An indexing holds the settings of a rebuild.
type indexing struct {
	target        target.Config
	requireSigned bool
	trustedKeys   userfile.Names
	heal          bool
	json          bool
	output        cli.Output
	timeout       time.Duration
}

func indexCommand(env cli.Env) *cobra.Command {
	var x indexing
	cmd := &cobra.Command{
		GroupID: help.Maintaining, Use: "index DESTINATION", Short: "Rebuild the index of a mirror", Long: indexHelp, Args: cli.Arguments,
		Example: "  publish index s3://bucket/noble/spack",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runIndex(cmd, args[0], &x, env)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&x.json, "json", false, "print one JSON document")
	cli.OutputFlags(fs, &x.output)
	fs.BoolVar(&x.heal, "heal", false, "also bring back packages that a rollback removed")
	cli.StorageFlags(fs, &x.target)
	fs.BoolVar(&x.requireSigned, "require-signed", false, "fail if a package is not signed")
	cli.TrustedKeysFlag(fs, &x.trustedKeys, "`FILE` of armored public keys: fail if a package is signed by any other key")
	cli.CDNFlags(fs, &x.target.CDN)
	cli.TimeoutFlag(fs, &x.timeout, "stop after this time, such as 30m; 0: never")
	return cmd
}

func runIndex(cmd *cobra.Command, where string, x *indexing, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(cmd.Context(), x.timeout)
	defer cancel()
	trust, err := cli.ReadTrust(x.requireSigned, x.trustedKeys)
	if err = errors.Join(err, x.output.Check()); err != nil {
		return cli.Usage(err)
	}
	env.Output = x.output
	d, cdn, err := cli.OpenServed(ctx, env, where, x.target)
	if err != nil {
		return err
	}
	defer d.Close()
	began := time.Now()
	rebuilt, err := rebuildAll(ctx, d, trust, x.heal)
	if found := (*buildcache.FindingsError)(nil); errors.As(err, &found) {
		if x.output.Verbose {
			found.Whole, err = true, found // the errors around it show the short form
		}
		return cli.WithHint(err, "publish the named packages again from the place where they were built, or remove their documents; then run publish index again")
	}
	if err != nil {
		return err
	}
	var all target.Changes
	for _, r := range rebuilt {
		all.Add(r.Expectation(r.Mirror), r.Stale)
	}
	invalidated, cdnErr := cdn.Update(ctx, all)
	if x.json {
		return errors.Join(cdnErr, cli.WriteJSON(env.Stdout, struct {
			Version    int                  `json:"version"`
			Indices    []rebuiltMirror      `json:"indices"`
			Invalidate *target.Invalidation `json:"invalidation,omitempty"`
		}{cli.ReportVersion, rebuilt, invalidated}))
	}
	for _, r := range rebuilt {
		what := "is right already"
		if r.Changed {
			what = fmt.Sprintf("was %d packages", r.Before)
		} else if len(r.Stale) > 0 {
			what = "is right already, and the index of keys was put right"
		}
		cli.PrintWarnings(env.Stdout, cli.Prefixed(r.Mirror), r.Findings, x.output.Verbose)
		escape.Fprintf(env.Told(), "%s%s index: %s, %s (%.1f s)\n", cli.Prefixed(r.Mirror), r.Layout, english.Plural(r.After, "package", ""), what, time.Since(began).Seconds())
		for _, a := range r.Audiences {
			escape.Fprintf(env.Told(), "%s%s: %s\n", cli.Prefixed(r.Mirror), a.Readers, english.Plural(a.Packages, "package", ""))
		}
	}
	cli.PrintInvalidation(env.Told(), invalidated)
	return cdnErr
}

// A rebuiltMirror is one index of a mirror below DESTINATION.
type rebuiltMirror struct {
	Mirror string `json:"mirror"` // its path; empty for DESTINATION itself
	reindex.Rebuilt
}

// rebuildAll rebuilds the mirror at a destination or, if there is none, the mirrors below it.
func rebuildAll(ctx context.Context, d *target.Destination, trust buildcache.Trust, heal bool) ([]rebuiltMirror, error) {
	var all []rebuiltMirror
	rebuild := reindex.Rebuild
	if heal {
		rebuild = reindex.RebuildEverything
	}
	err := roots.Each(ctx, d.Mirror(""), func(path string) error {
		rebuilt, err := rebuild(ctx, d.Mirror(path), trust)
		for _, r := range rebuilt {
			all = append(all, rebuiltMirror{path, r})
		}
		return cli.Below(path, err)
	})
	return all, err
}
