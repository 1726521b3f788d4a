package past

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/rollback"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const rollbackHelp = `Restore an earlier state of an index: a generation of publish history, the index at a time in
UTC or, without --to, the previous generation.

The index is switched once, as a new generation: the history is kept. Documents and tarballs
stay. Packages that the rollback takes out stay out of the index until they are published again;
publish index --heal brings all of them back. Packages withdrawn since then stay withdrawn. A rollback
is refused if a document or content that the index would name is gone.

A client that knows the hash of a package, such as from a lock file, can still install it:
publish withdraw prevents that.`

type rolling struct {
	common
	to          string
	dryRun      bool
	signed      bool
	trustedKeys userfile.Names
}

// Rollback returns the command `publish rollback`.
func Rollback(env cli.Env) *cobra.Command {
	var r rolling
	cmd := &cobra.Command{
		GroupID: help.Maintaining, Use: "rollback DESTINATION", Short: "Restore an earlier state of an index", Long: rollbackHelp, Args: cli.Arguments,
		Example: "  publish rollback s3://bucket/noble/spack --dry-run\n  publish rollback s3://bucket/noble/spack --to 41\n  publish rollback s3://bucket/noble/spack --to 2026-11-28T18:00:00Z --view 2026-11",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("to") && r.to == "" {
				return cli.Usage(errors.New("--to: it is empty: name a generation or a time, or leave it out to go back to the generation before this one"))
			}
			return r.run(cmd.Context(), args[0], env)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&r.to, "to", "", "`GENERATION` or time in UTC; default: the generation before this one")
	fs.BoolVar(&r.dryRun, "dry-run", false, "print what would be done and do nothing")
	r.register(fs)
	r.registerIndex(fs)
	help.Group(fs, "Signatures", func(fs *pflag.FlagSet) {
		fs.BoolVar(&r.signed, "require-signed", false, "bring back signed packages only")
		cli.TrustedKeysFlag(fs, &r.trustedKeys, "`FILE` of armored public keys: bring back no package that is signed by any other key")
	})
	cli.StorageFlags(fs, &r.target)
	cli.CDNFlags(fs, &r.target.CDN)
	return cmd
}

// A rolled index is the result for one index.
type rolled struct {
	Mirror    string   `json:"mirror"`
	Layout    string   `json:"layout"`
	View      string   `json:"view,omitempty"`
	From      int      `json:"from"`       // generation
	To        int      `json:"to"`         // the generation brought back
	Now       int      `json:"generation"` // the new generation
	Packages  int      `json:"packages"`   // offered by the index
	Digest    string   `json:"digest"`
	Changed   bool     `json:"changed"`
	Removed   []string `json:"removed"`
	Returned  []string `json:"returned"`
	Withdrawn []string `json:"withdrawn"` // offered then, and withdrawn now

	index index
	plan  *rollback.Plan
}

func (r *rolling) run(ctx context.Context, where string, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(ctx, r.timeout)
	defer cancel()
	to, err := parseTarget(r.to)
	if err != nil {
		err = fmt.Errorf("--to: %w", err)
	}
	trust, trustErr := cli.ReadTrust(r.signed, r.trustedKeys)
	if err = errors.Join(err, trustErr); err != nil {
		return cli.Usage(err)
	}
	d, cdn, err := cli.OpenServed(ctx, env, where, r.target)
	if err != nil {
		return err
	}
	defer d.Close()
	all, err := r.indices(ctx, func(path string) mirror.Reader { return d.Mirror(path) })
	if err != nil {
		return err
	}
	if to.Time.IsZero() && len(all) > 1 {
		return cli.Fail(cli.ExitUsage, severalIndices(where, all))
	}
	done, err := r.plan(ctx, d, all, to, trust)
	if err != nil {
		return err
	}
	changes := target.Changes{}
	if !r.dryRun {
		for _, x := range done {
			if err := x.apply(ctx, &changes); err != nil {
				return fmt.Errorf("%s: %w", x.index.what(), err)
			}
		}
	}
	invalidated, cdnErr := cdn.Update(ctx, changes)
	if r.json {
		return errors.Join(cdnErr, cli.WriteJSON(env.Stdout, struct {
			Version    int                  `json:"version"`
			DryRun     bool                 `json:"dry_run"`
			Indices    []*rolled            `json:"indices"`
			Invalidate *target.Invalidation `json:"invalidation,omitempty"`
		}{cli.ReportVersion, r.dryRun, done, invalidated}))
	}
	for _, x := range done {
		x.print(env, r.dryRun)
	}
	return cdnErr
}

// plan plans all indices before the first one is changed.
func (r *rolling) plan(ctx context.Context, d *target.Destination, all []index, to rollback.Target, trust buildcache.Trust) ([]*rolled, error) {
	var done []*rolled
	var missing []buildcache.Finding
	for _, x := range all {
		p, err := rollback.NewPlan(ctx, rollback.Mirror{Layout: x.layout, Store: d.Mirror(x.path), Trust: trust, Pointer: x.pointer}, to)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.what(), refused(err))
		}
		if len(all) > 1 { // together they may take too much memory
			p.Release()
		}
		for _, f := range p.Missing {
			f.File = buildcache.Join(x.path, f.File)
			missing = append(missing, f)
		}
		done = append(done, &rolled{
			Mirror: x.path, Layout: x.layout.Name(), View: x.layout.ViewName(), From: p.From.Generation, To: p.To.Generation, Now: p.From.Generation,
			Packages: x.pointer.Coverage.Len(), Digest: x.pointer.Digest(),
			Removed: some(p.Removes), Returned: some(p.Returns), Withdrawn: some(p.Withdrawn), index: x, plan: p,
		})
	}
	if len(missing) > 0 {
		return nil, cli.WithHint(&buildcache.FindingsError{Findings: missing}, "publish the named packages again, or choose a generation without them: publish history")
	}
	return done, nil
}

func some(names []string) []string { return append([]string{}, names...) }

// apply switches the index.
func (x *rolled) apply(ctx context.Context, changes *target.Changes) error {
	author := history.AuthorOf(ctx)
	author.Reason = fmt.Sprintf("to generation %d", x.To)
	out, err := x.plan.Apply(history.By(ctx, author))
	if err != nil {
		return err
	}
	x.Changed, x.Packages, x.Digest = out.Written, out.After, out.Digest()
	x.Now = out.Pointer.Generation
	s := reindex.Expectation{Path: x.Mirror, Digest: x.Digest, Layout: x.index.layout, Packages: hashes(x.Returned), Without: hashes(x.Removed)}
	var stale []string
	if out.Written {
		stale = x.index.layout.IndexNames()
	}
	changes.Add(s, stale)
	return nil
}

func hashes(names []string) []spec.Hash {
	var all []spec.Hash
	for _, name := range names {
		all = append(all, history.HashOf(name))
	}
	return all
}

func (x *rolled) print(env cli.Env, dryRun bool) {
	then := fmt.Sprintf("generation %d", x.To)
	if t := x.plan.To.Time; !t.IsZero() {
		then += " of " + t.UTC().Format(time.RFC3339)
	}
	switch {
	case !x.plan.Changes():
		escape.Fprintf(env.Told(), "%s: it offers what %s did: nothing to do\n", x.index.what(), then)
	case dryRun:
		escape.Fprintf(env.Told(), "%s: would go back to %s: %s less, %d again\n", x.index.what(), then, english.Plural(len(x.Removed), "package", ""), len(x.Returned))
	default:
		escape.Fprintf(env.Told(), "%s: generation %d offers what %s did: %s, %d less and %d again\n", x.index.what(), x.Now, then, english.Plural(x.Packages, "package", ""), len(x.Removed), len(x.Returned))
	}
	for _, list := range []struct {
		what  string
		names []string
	}{{"less", x.Removed}, {"again", x.Returned}, {"withdrawn, and stays out", x.Withdrawn}} {
		if len(list.names) > 0 {
			escape.Fprintf(env.Told(), "  %s: %s\n", list.what, shown(list.names))
		}
	}
}
