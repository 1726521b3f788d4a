package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/elsewhere"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/lockfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/promotion"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/transfer"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signing"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

const copyHelp = `Copy packages from one mirror to another, with everything that installing them needs: their dependencies,
their documents byte for byte, and the public keys of their signers. The copied packages are added to the
index of TO. Other packages of TO stay.

FROM is s3://bucket[/prefix], a directory or https://host[/path], and is read by its index; TO is
s3://bucket[/prefix] or a directory. Packages are selected in Spack's syntax for specs (slurm@25: ^openmpi),
by /hash, or by the name of a lock file (spack.lock), which stands for its environment. Without any,
everything is copied.

Packages that TO offers already are not read. All content is checked before it is stored. Between buckets of
one service, S3 copies the content whose checksum it knows; the rest passes through this machine.

With rules (--require-signed, --trusted-keys, --sign-key, --licenses, --expect-os, --expect-target, --view) a copy is a promotion.
It stores a record of the packages, their origin, the author and the rules. publish show shows it.`

// A copying holds the settings of a copy.
type copying struct {
	target, from target.Config
	selecting
	rules        cli.Rules
	needed       map[spec.Hash]bool // packages that their dependents cannot do without; known once FROM is open
	output       cli.Output
	catalog      bool
	dryRun, json bool
	timeout      time.Duration
}

func copyCommand(env cli.Env) *cobra.Command {
	c := copying{rules: cli.DefaultRules()}
	cmd := &cobra.Command{
		GroupID: help.Publishing, Use: "copy FROM TO [PACKAGE...]", Short: "Copy packages from one mirror to another", Long: copyHelp, Args: cli.AtLeast(2),
		Example: "  publish copy https://cache.example.org/noble/spack file:///srv/mirror\n  publish copy s3://staging s3://production spack.lock\n  publish copy --dry-run s3://cache file:///srv/mirror slurm@25: /hyibvwk",
		RunE:    func(cmd *cobra.Command, args []string) error { return c.run(cmd, args, env) },
	}
	fs := cmd.Flags()
	fs.BoolVar(&c.dryRun, "dry-run", false, "print what would be done and do nothing")
	fs.BoolVar(&c.json, "json", false, "print one JSON document (see docs/json-report.md)")
	c.selecting.register(fs, "copy")
	fs.StringVar(&c.from.S3.EndpointURL, "from-endpoint-url", "", "`URL` of the S3 that FROM is in; default: the value of --endpoint-url")
	fs.StringVar(&c.from.S3.Region, "from-region", "", "region of the bucket of FROM; default: ask AWS")
	fs.StringVar(&c.from.Profile, "from-profile", "", "profile of the AWS configuration for reading FROM; default: the credentials for TO")
	c.registerTo(fs)
	cmd.SetFlagErrorFunc(cli.FlagErrors(env, c.mistakes(env)))
	return cmd
}

// registerTo adds the flags about TO, and the rules.
func (c *copying) registerTo(fs *pflag.FlagSet) {
	cli.OutputFlags(fs, &c.output)
	cli.StorageFlags(fs, &c.target)
	c.rules.ViewsAre = "to-view"
	fs.StringSliceVar(&c.rules.Views, "to-view", nil, "add the copied packages and their dependencies to the view `NAME` of TO; repeatable")
	cli.IfExistsFlag(fs, &c.rules)
	cli.TrustFlags(fs, &c.rules)
	cli.LicenceFlag(fs, &c.rules)
	signing.Flags(fs, &c.rules.Signing)
	cli.BuildFlags(fs, &c.rules.Selection)
	fs.BoolVar(&c.rules.KeepGoing, "keep-going", false, "copy the good packages even if others are bad; the exit code is still 4")
	cli.CatalogFlag(fs, &c.catalog)
	cli.CDNFlags(fs, &c.target.CDN)
	cli.TimeoutFlag(fs, &c.timeout, "stop after this time, such as 30m; 0: never")
}

func (c *copying) run(cmd *cobra.Command, args []string, env cli.Env) error {
	for _, from := range append([]string{args[0]}, c.others...) {
		if err := c.different(from, args[1]); err != nil {
			return err
		}
	}
	return c.carryOut(cmd, args[0], args[1], args[2:], env, func(ctx context.Context) (*origins, error) {
		return c.open(ctx, env, args[0], c.source(), field.Place{Settings: c.flags(), Own: c.from.Profile != ""})
	})
}

// mistakes returns a check of the settings for a command line whose flags do not parse.
func (c *copying) mistakes(env cli.Env) cli.Check {
	return func(_ *cobra.Command, args []string) error {
		to := ""
		if len(args) > 1 {
			to = args[1]
		}
		_, _, err := c.read(to, nil, env)
		return err
	}
}

// read parses a command line. Its error holds all mistakes; no request is made.
func (c *copying) read(to string, packages []string, env cli.Env) (o publish.Options, want elsewhere.Closure, err error) {
	c.rules.Signing.ReadSecrets(env.Lookup)
	c.rules.Signing.AWS = c.target.AWS(env.Target())
	o, err = c.rules.Options()
	var placeErr, wantErr error
	if to != "" {
		placeErr = cli.CheckPlace(to)
	}
	want.Want, wantErr = wantedOf(packages)
	return o, want, cli.Named(errors.Join(err, c.output.Check(), placeErr, c.target.ValidateAt(to), c.check(), wantErr), nil)
}

// carryOut copies packages of the mirrors that open returns.
func (c *copying) carryOut(cmd *cobra.Command, from, to string, packages []string, env cli.Env, open func(context.Context) (*origins, error)) error {
	o, want, err := c.read(to, packages, env)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	want.Layout, want.NoKeys, want.Builds, want.View = o.Selection.Layout, o.Selection.NoKeys, c.builds, c.view
	want.Anew = o.IfExists != publish.Skip || o.Sign.Resign
	o.Promotion = c.promotion(o, append([]string{from}, c.others...), to, packages)
	ctx, cancel := cli.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	at, err := open(ctx)
	if err != nil {
		return err
	}
	defer at.close()
	if o.Promotion != nil {
		o.Promotion.Endpoint = redact.URL(at.endpoint)
	}
	want.Needed = c.needed
	env.Output = c.output
	screen := task.NewScreen(env)
	screen.Introduce(from, to, at.endpoint)
	report := task.NewReport(env, from, to, c.dryRun, nil)
	report.SourceEndpoint = redact.URL(at.endpoint)
	j := &task.Publish{
		Destination: to, Target: c.target, Options: o, DryRun: c.dryRun, Catalog: c.catalog,
		From: func(ctx context.Context, to mirror.Store) (*source.Source, error) {
			return at.source(ctx, to, want)
		},
		Into:        transfer.NewRelay("").Into,
		Environment: env.Target(), Report: report, Observer: screen, Identified: screen.Identified,
	}
	err = c.output.Tell(at.blamed(j.Run(ctx)))
	report.Finish(err)
	if printErr := report.Print(env, c.json); err == nil {
		err = printErr
	}
	return err
}

// promotion returns the record of the rules under which packages are copied; nil if there are no rules.
func (c *copying) promotion(o publish.Options, from []string, to string, packages []string) *promotion.Terms {
	s := o.Selection
	r := promotion.Rules{RequireSigned: o.Trust.RequireSigned, Resign: o.Sign.Resign, OS: s.OS, Target: s.Target, Licences: c.rules.Licences, View: c.view}
	if o.Trust.Keys != nil {
		for _, f := range o.Trust.Keys.Fingerprints() {
			r.TrustedKeys = append(r.TrustedKeys, string(f))
		}
	}
	if o.Sign.Key != nil {
		r.SigningKey = string(o.Sign.Key.Fingerprint())
	}
	if !r.Any() {
		return nil
	}
	r.Packages, r.IfExists = packages, string(o.IfExists)
	t := &promotion.Terms{To: redact.URL(target.Canonical(to)), Rules: r}
	for _, where := range from {
		t.From = append(t.From, redact.URL(target.Canonical(where)))
	}
	return t
}

// source returns how FROM is reached. Settings that are not given for FROM are taken from TO.
func (c *copying) source() target.Config {
	from := c.from
	if from.S3.EndpointURL == "" {
		from.S3.EndpointURL = c.target.S3.EndpointURL
	}
	if from.Profile == "" {
		from.Profile, from.Role, from.RoleSession, from.TokenFile = c.target.Profile, c.target.Role, c.target.RoleSession, c.target.TokenFile
	}
	from.S3.Concurrency = c.target.S3.Concurrency
	return from
}

// flags returns the flags for FROM by the names of those for TO, without the flags that are given for TO only.
func (c *copying) flags() map[string]string {
	flags := map[string]string{"region": "--from-region", "endpoint-url": "--from-endpoint-url", "profile": "--from-profile"}
	if c.from.S3.EndpointURL == "" && c.target.S3.EndpointURL != "" {
		delete(flags, "endpoint-url")
	}
	if c.from.Profile == "" && c.target.Profile != "" {
		delete(flags, "profile")
	}
	return flags
}

// wantedOf parses the arguments that select packages.
func wantedOf(args []string) (want closure.Want, err error) {
	var problems []error
	isLock := func(arg string) bool { return strings.HasSuffix(arg, ".lock") }
	for _, arg := range query.Arguments(args, isLock) {
		if !isLock(arg) {
			q, err := query.Parse(arg)
			if err == nil && q.All() {
				err = errors.New("it selects everything: leave it out")
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("package %q: %w", arg, err))
				continue
			}
			want.Packages = append(want.Packages, q)
			continue
		}
		text, err := userfile.Read(strings.TrimPrefix(arg, "@"))
		var lock *lockfile.Lock
		if err == nil {
			lock, err = lockfile.Parse(text)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("lock file %s: %w", arg, err))
			continue
		}
		want.Locks = append(want.Locks, lock)
	}
	return want, errors.Join(problems...)
}

// different returns an error if a mirror would be copied onto itself. Another S3 may have a bucket of the same
// name.
func (c *copying) different(from, to string) error {
	u, err := url.Parse(target.Canonical(from))
	switch {
	case err == nil && u.Scheme == "file":
		return target.Apart(u.Path, to)
	case strings.TrimRight(from, "/") == strings.TrimRight(to, "/") && c.source().S3.EndpointURL == c.target.S3.EndpointURL:
		return cli.Fail(cli.ExitUsage, fmt.Errorf("FROM and TO are both %s", redact.URL(to)))
	}
	return nil
}
