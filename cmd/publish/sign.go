package main

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signing"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

const signHelp = `Sign the packages of a directory in place, and store the public key beside them. SOURCE is a
Spack mirror, or a tree of mirrors, as for publish. To sign while publishing, give
publish the same flags instead.

A package that publish would refuse is not signed: the contents of all packages are checked
first, and existing signatures against --trusted-keys, if given. Every new signature is
verified with the public key before it is stored. Release files that match --files get a
detached signature (.asc) and a checksum (.sha256).

In layout v2 a signed document has another name; the unsigned document is removed.`

func signCommand(env cli.Env) *cobra.Command {
	var p publishing
	cmd := &cobra.Command{
		GroupID: help.Publishing, Use: "sign SOURCE", Short: "Sign the packages of a directory", Long: signHelp, Args: cli.Arguments,
		Example: "  publish sign --sign-key release.asc --sign-passphrase-file passphrase ./buildcache",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSign(cmd, args[0], &p, env)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&p.dryRun, "dry-run", false, "check everything and sign nothing")
	fs.BoolVar(&p.json, "json", false, "print one JSON document, that of a publish into SOURCE (see docs/json-report.md)")
	cli.OutputFlags(fs, &p.output)
	signing.Flags(fs, &p.rules.Signing)
	cli.TrustedKeysFlag(fs, &p.rules.TrustedKeys, "`FILE` of armored public keys: refuse signatures by any other key")
	cli.SelectionFlags(fs, &p.rules.Selection)
	fs.StringSliceVar(&p.rules.Selection.Files, "files", nil, "also sign plain files below SOURCE that match `GLOB`; repeatable")
	fs.BoolVar(&p.rules.KeepGoing, "keep-going", false, "sign the good packages even if others are bad; the exit code is still 4")
	cli.TimeoutFlag(fs, &p.timeout, "stop after this time, such as 30m; 0: never")
	return cmd
}

// runSign publishes SOURCE onto itself: it makes the same checks in the same order, and replaces only objects
// that it has read.
func runSign(cmd *cobra.Command, source string, p *publishing, env cli.Env) error {
	keepGoing := p.rules.KeepGoing
	rules := cli.DefaultRules()
	rules.Selection, rules.TrustedKeys, rules.Signing = p.rules.Selection, p.rules.TrustedKeys, p.rules.Signing
	rules.Index, rules.VerifySource, rules.KeepGoing = string(publish.IndexNone), true, keepGoing
	p.rules = rules
	abs, err := filepath.Abs(source)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	j, err := p.job(env, abs, (&url.URL{Scheme: "file", Path: abs}).String(), nil)
	if err != nil {
		return cli.Usage(err)
	}
	if j.Options.Sign.Key == nil {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("no key: give --sign-key, or the key itself in %s", signing.KeyVariable))
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), p.timeout)
	defer cancel()
	env.Output = p.output
	err = p.output.Tell(j.RunInPlace(ctx))
	j.Report.Finish(err)
	if p.json {
		return errors.Join(err, j.Report.Print(env, true))
	}
	if printErr := printSigned(env, j.Report); err == nil {
		err = printErr
	}
	return err
}

func printSigned(env cli.Env, r *task.Report) error {
	signed, already := 0, 0
	for _, m := range r.Mirrors {
		signed += m.Counts[string(publish.New)] + m.Counts[string(publish.Replaced)]
		already += m.Counts[string(publish.Unchanged)] + m.Counts[string(publish.Repaired)] + m.Counts[string(publish.Skipped)]
	}
	warnings := slices.DeleteFunc(slices.Clone(r.Findings), func(f buildcache.Finding) bool { return f.Severity != buildcache.Warning })
	cli.PrintWarnings(env.Stdout, "", warnings, env.Output.Verbose)
	verb := "signed"
	switch {
	case !r.Planned() || r.Result == "failed" && !r.Indexed():
		return nil // the error says so
	case r.DryRun():
		verb = "would sign"
	}
	_, err := escape.Fprintf(env.Told(), "%s %s with the key %s; %s signed already\n", verb, english.Plural(signed, "package", ""), r.SigningKey,
		english.PluralWord(already, "1 was", fmt.Sprint(already)+" were"))
	return err
}
