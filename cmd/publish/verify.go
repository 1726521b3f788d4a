package main

import (
	"context"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const verifyHelp = `Check a mirror as fsck checks a file system: pointers resolve, sizes and digests agree,
every package is in the index and the index offers nothing else, keys are what they say.
Nothing is changed.

DESTINATION is s3://bucket[/prefix] or file:///directory; a URL of http:// or https://
is read as clients read it, from its index on. With damage the exit code is 8.`

// A verifying is what a user may say about it.
type verifying struct {
	target        target.Config
	requireSigned bool
	trustedKeys   string
	deep, json    bool
	timeout       time.Duration
}

func verifyCommand(env cli.Env) *cobra.Command {
	var v verifying
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "verify DESTINATION|URL", Short: "Check a mirror for damage", Long: verifyHelp, Args: cli.Arguments,
		Example: "  publish verify --deep s3://bucket/noble/spack\n  publish verify https://cache.example.org/noble/spack",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd, args[0], &v, env)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&v.deep, "deep", false, "download and hash every blob")
	fs.BoolVar(&v.json, "json", false, "print one JSON document")
	cli.ReadFlags(fs, &v.target)
	cli.ConcurrencyFlag(fs, &v.target)
	fs.BoolVar(&v.requireSigned, "require-signed", false, "a package that is not signed is damage")
	fs.StringVar(&v.trustedKeys, "trusted-keys", "", "`FILE` of armored public keys: a signature by any other is damage")
	fs.DurationVar(&v.timeout, "timeout", 0, "stop after this time, such as 30m; 0: never")
	return cmd
}

func runVerify(cmd *cobra.Command, where string, v *verifying, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(cmd.Context(), v.timeout)
	defer cancel()
	trust, err := cli.ReadTrust(v.requireSigned, v.trustedKeys)
	if err != nil {
		return cli.Usage(err)
	}
	at, done, err := cli.OpenReaders(ctx, env, where, v.target)
	if err != nil {
		return err
	}
	defer done()
	found, err := verifyAll(ctx, where, at, verify.Options{Deep: v.deep, Trust: trust})
	if err != nil {
		return err
	}
	if err := found.print(env.Stdout, v.json); err != nil {
		return err
	}
	if found.Damaged {
		return cli.Fail(cli.ExitVerification, cli.ErrReported)
	}
	return nil
}

// verifications are what was found in a mirror, or in each of a tree of mirrors.
type verifications struct {
	Version int            `json:"version"`
	Damaged bool           `json:"damaged"`
	Mirrors []verification `json:"mirrors"`
}

type verification struct {
	Mirror string `json:"mirror"`
	*verify.Report
}

// verifyAll verifies the mirror at a place, or, if there is none, those below it.
func verifyAll(ctx context.Context, where string, at func(path string) mirror.Reader, o verify.Options) (*verifications, error) {
	found := &verifications{Version: cli.ReportVersion}
	add := func(path string) error {
		v, err := verify.Mirror(ctx, at(path), o)
		if err != nil {
			return err
		}
		found.Mirrors = append(found.Mirrors, verification{strings.TrimSuffix(redact.URL(where)+"/"+path, "/"), v})
		found.Damaged = found.Damaged || v.Damaged()
		return nil
	}
	if lister, ok := at("").(mirror.Lister); ok {
		return found, buildcache.EachMirror(ctx, lister, add)
	}
	return found, add("")
}

func (v *verifications) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return cli.WriteJSON(w, v)
	}
	for _, m := range v.Mirrors {
		if err := m.print(w); err != nil {
			return err
		}
	}
	return nil
}

func (v verification) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	for _, f := range v.Findings {
		escape.Fprintf(t, "%s\t%q\t%s\n", f.Severity, f.File, f.Reason)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, a := range v.Audiences {
		if _, err := escape.Fprintf(w, "%s: %s: %s\n", v.Mirror, a.Readers, english.Plural(a.Packages, "package", "")); err != nil {
			return err
		}
	}
	verdict := "no damage"
	if v.Damaged() {
		verdict = "damaged"
	}
	_, err := escape.Fprintf(w, "%s: layout %s, %d packages, %d objects, %s, %d keys, %d unreferenced blobs: %s\n",
		v.Mirror, strings.Join(v.Layouts, " and "), v.Packages, v.Objects, cli.Size(v.Bytes), v.Keys, v.Orphans, verdict)
	return err
}
