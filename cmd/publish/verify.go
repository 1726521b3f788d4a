package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
)

const verifyHelp = `Check a mirror as fsck checks a file system: pointers resolve, sizes and digests agree,
every package is in the index and the index offers nothing else, keys are what they say.
Nothing is changed.

DESTINATION is s3://bucket[/prefix] or file:///directory; a URL of http:// or https://
is read as clients read it, from its index on. With damage the exit code is 8.`

func verifyCommand(env environment) *cobra.Command {
	var f flags
	var deep bool
	cmd := &cobra.Command{
		Use: "verify DESTINATION|URL", Short: "Check a mirror for damage", Long: verifyHelp, Args: oneArgument,
		Example: "  publish verify --deep s3://bucket/noble/spack\n  publish verify https://cache.example.org/noble/spack",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd, args[0], &f, deep, env)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&deep, "deep", false, "download and hash every blob")
	fs.BoolVar(&f.json, "json", false, "print one JSON document")
	f.storage.register(fs)
	fs.BoolVar(&f.requireSigned, "require-signed", false, "a package that is not signed is damage")
	fs.StringVar(&f.trustedKeys, "trusted-keys", "", "`FILE` of armored public keys: a signature by any other is damage")
	fs.DurationVar(&f.timeout, "timeout", 0, "stop after this time, such as 30m; 0: never")
	return cmd
}

func runVerify(cmd *cobra.Command, where string, f *flags, deep bool, env environment) error {
	ctx, cancel := withTimeout(cmd.Context(), f.timeout)
	defer cancel()
	trust, err := readTrust(f.requireSigned, f.trustedKeys)
	if err != nil {
		return fail(exitUsage, err)
	}
	r, done, err := f.reader(ctx, where, env)
	if err != nil {
		return err
	}
	defer done()
	v, err := publish.Verify(ctx, r, publish.VerifyOptions{Deep: deep, Trust: trust})
	if err != nil {
		return err
	}
	if err := printVerification(env.stdout, where, v, f.json); err != nil {
		return err
	}
	if v.Damaged() {
		return fail(exitVerification, errReported)
	}
	return nil
}

// reader opens what is to be verified: a destination, or a URL.
func (f *flags) reader(ctx context.Context, where string, env environment) (mirror.Reader, func() error, error) {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		w, err := web.Open(where, web.Options{})
		if err != nil {
			return nil, nil, fail(exitUsage, err)
		}
		return w, func() error { w.Close(); return nil }, nil
	}
	log := slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d, err := f.storage.open(ctx, where, log)
	if err != nil {
		return nil, nil, err
	}
	return d.mirror(""), d.close, nil
}

func printVerification(w io.Writer, where string, v *publish.Verification, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(struct {
			Version int    `json:"version"`
			Mirror  string `json:"mirror"`
			Damaged bool   `json:"damaged"`
			*publish.Verification
		}{reportVersion, where, v.Damaged(), v})
	}
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	for _, f := range v.Findings {
		fmt.Fprintf(t, "%s\t%q\t%s\n", f.Severity, f.File, f.Reason)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "no damage"
	if v.Damaged() {
		verdict = "damaged"
	}
	_, err := fmt.Fprintf(w, "%s: layout %s, %d packages, %d objects, %s, %d keys, %d unreferenced blobs: %s\n",
		where, strings.Join(v.Layouts, " and "), v.Packages, v.Objects, size(v.Bytes), v.Keys, v.Orphans, verdict)
	return err
}
