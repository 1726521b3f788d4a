package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

const indexHelp = `Make the index and the key index of a mirror anew, of everything that is there: what
"spack buildcache update-index -k" does, concurrently and safe beside publishers.

A package that lacks content fails the command: it never silently disappears. The index
is then as it was. A package that no reader can use is left out with a warning.`

func indexCommand(env cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use: "index DESTINATION", Short: "Rebuild the index of a mirror", Long: indexHelp, Args: arguments,
		Example: "  publish index s3://bucket/noble/spack",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runIndex(cmd, args[0], &f, env)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.json, "json", false, "print one JSON document")
	f.storage.register(fs)
	fs.BoolVar(&f.requireSigned, "require-signed", false, "fail if a package is not signed")
	fs.StringVar(&f.trustedKeys, "trusted-keys", "", "`FILE` of armored public keys: fail if a package is signed by any other")
	f.cdn.register(fs)
	fs.DurationVar(&f.timeout, "timeout", 0, "stop after this time, such as 30m; 0: never")
	return cmd
}

// arguments: a command takes as many as its usage names.
func arguments(cmd *cobra.Command, args []string) error {
	if len(args) != len(strings.Fields(cmd.Use))-1 {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("%s, want: publish %s", english.Plural(len(args), "argument", ""), cmd.Use))
	}
	return nil
}

func runIndex(cmd *cobra.Command, where string, f *flags, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	trust, err := readTrust(f.requireSigned, f.trustedKeys)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	log := env.Log()
	d, err := f.storage.open(ctx, where, log)
	if err != nil {
		return err
	}
	defer d.close()
	cdn, err := f.cdn.open(ctx, d, log)
	if err != nil {
		return err
	}
	began := time.Now()
	rebuilt, err := rebuildAll(ctx, d, trust)
	if err != nil {
		return err
	}
	var all news
	for _, r := range rebuilt {
		all.add(r.Shown(r.Mirror), r.Stale)
	}
	told, cdnErr := cdn.tell(ctx, all.stale, all.shown)
	if f.json {
		return errors.Join(cdnErr, cli.WriteJSON(env.Stdout, struct {
			Version    int                     `json:"version"`
			Indices    []rebuiltMirror         `json:"indices"`
			Invalidate *cli.InvalidationReport `json:"invalidation,omitempty"`
		}{cli.ReportVersion, rebuilt, told}))
	}
	for _, r := range rebuilt {
		what := "is right already"
		if r.Changed {
			what = fmt.Sprintf("was %d packages", r.Before)
		}
		for i, f := range r.Findings {
			if i == cli.ShownWarnings {
				escape.Fprintf(env.Stdout, "%swarning: and %d more, see --json\n", prefixed(r.Mirror), len(r.Findings)-i)
				break
			}
			escape.Fprintf(env.Stdout, "%swarning: %s\n", prefixed(r.Mirror), f)
		}
		escape.Fprintf(env.Stdout, "%s%s index: %s, %s (%.1f s)\n", prefixed(r.Mirror), r.Layout, english.Plural(r.After, "package", ""), what, time.Since(began).Seconds())
		for _, a := range r.Audiences {
			escape.Fprintf(env.Stdout, "%s%s: %s\n", prefixed(r.Mirror), a.Readers, english.Plural(a.Packages, "package", ""))
		}
	}
	if told != nil {
		escape.Fprintf(env.Stdout, "invalidation %s: %s %s\n", told.ID, told.Status, strings.Join(told.Paths, " "))
	}
	return cdnErr
}

// A rebuiltMirror is one index of a mirror below DESTINATION.
type rebuiltMirror struct {
	Mirror string `json:"mirror"` // its path; empty for DESTINATION itself
	publish.Rebuilt
}

// rebuildAll rebuilds the mirror at a destination, or, if there is none, those below it.
func rebuildAll(ctx context.Context, d *destination, trust buildcache.Trust) ([]rebuiltMirror, error) {
	var all []rebuiltMirror
	add := func(path string) error {
		rebuilt, err := publish.Rebuild(ctx, d.mirror(path), trust)
		for _, r := range rebuilt {
			all = append(all, rebuiltMirror{path, r})
		}
		return err
	}
	err := add("")
	if !errors.Is(err, publish.ErrNoMirror) {
		return all, err
	}
	roots, rootsErr := buildcache.Roots(ctx, d.mirror(""))
	if rootsErr != nil || len(roots) == 0 {
		return nil, errors.Join(rootsErr, err)
	}
	for _, path := range roots {
		if err := add(path); err != nil {
			return all, fmt.Errorf("mirror %q: %w", path, err)
		}
	}
	return all, nil
}

func prefixed(mirror string) string {
	if mirror == "" {
		return ""
	}
	return mirror + ": "
}
