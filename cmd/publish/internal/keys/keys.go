// Package keys holds the commands on the public keys of mirrors: create, list, add, rotate and retire.
package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/keyring"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signing"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const keysHelp = `Manage the public keys of a mirror, or of each mirror of a tree, and show which packages
they sign. Clients trust every key that a mirror offers.

publish keys DESTINATION is short for publish keys list DESTINATION.`

const rotateHelp = `Replace the signatures of one key by those of another. First the new public key is offered,
beside the old one. Then the signature of each document by the old key is checked, and the document is
signed with the new key and replaced, unless it has changed meanwhile. The content of packages is not read.
Signatures of plain files below DESTINATION (FILE.asc) are replaced, too; the content of these files is read.

Clients that have only the old key fail on packages signed with the new key, until they run
spack buildcache keys --install --trust. So offer the new key some time before, with
publish keys add. Packages signed by other keys, and the old key itself, stay.

To complete an interrupted rotation, run it again.`

// Command returns the command `publish keys`.
func Command(env cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		GroupID: help.Maintaining, Use: "keys", Short: "Create, list, add, rotate and retire the keys of a mirror", Long: keysHelp, Args: cobra.NoArgs,
		Example: "  publish keys list s3://bucket/noble/spack",
	}
	cmd.AddCommand(createCommand(env), listCommand(env), addCommand(env), rotateCommand(env), retireCommand(env))
	return cmd
}

// keyWork holds what the commands on keys share.
type keyWork struct {
	target  target.Config
	output  cli.Output
	timeout time.Duration
}

func (k *keyWork) register(cmd *cobra.Command, place func(*pflag.FlagSet, *target.Config)) {
	fs := cmd.Flags()
	place(fs, &k.target)
	cli.TimeoutFlag(fs, &k.timeout, "stop after this time, such as 30m; 0: never")
}

// A work is done on a mirror: at its path, with its store, and with a function that invalidates changed
// objects.
type work func(path string, s mirror.Store, invalidate func(names []string) error) error

// mirrors calls do for the mirror at a destination or, if there is none, for the mirrors below it. Then it
// calls files, if set, for the destination itself, which holds the plain files.
func (k *keyWork) mirrors(ctx context.Context, env cli.Env, where string, do, files work) error {
	ctx, cancel := cli.WithTimeout(ctx, k.timeout)
	defer cancel()
	if err := k.output.Check(); err != nil {
		return cli.Usage(err)
	}
	env.Output = k.output
	d, cdn, err := cli.OpenServed(ctx, env, where, k.target)
	if err != nil {
		return err
	}
	defer d.Close()
	at := func(path string, do work) error {
		return cli.Below(path, do(path, d.Mirror(path), func(names []string) error {
			if len(names) == 0 {
				return nil
			}
			var changes target.Changes
			changes.AddStale(path, names)
			_, err := cdn.Update(ctx, changes)
			return err
		}))
	}
	err = roots.Each(ctx, d.Mirror(""), func(path string) error { return at(path, do) })
	if err != nil || files == nil {
		return err
	}
	return at("", files)
}

// A listedMirror is one layout of a mirror below DESTINATION.
type listedMirror struct {
	Mirror string `json:"mirror"` // its path; empty for DESTINATION itself
	keyring.Listing
}

func listCommand(env cli.Env) *cobra.Command {
	var k keyWork
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list DESTINATION", Short: "List the keys of a mirror, and how many packages each signs", Args: cli.Arguments,
		Example: "  publish keys list s3://bucket/noble/spack",
		RunE: func(cmd *cobra.Command, args []string) error {
			all := []listedMirror{}
			err := k.mirrors(cmd.Context(), env, args[0], func(path string, s mirror.Store, _ func([]string) error) error {
				listings, err := keyring.List(cmd.Context(), s)
				if err != nil {
					return err
				}
				if !asJSON {
					return printKeys(env.Stdout, path, listings, time.Now())
				}
				for _, l := range listings {
					all = append(all, listedMirror{path, l})
				}
				return nil
			}, nil)
			if err != nil || !asJSON {
				return err
			}
			return cli.WriteJSON(env.Stdout, struct {
				Version int            `json:"version"`
				Mirrors []listedMirror `json:"mirrors"`
			}{cli.ReportVersion, all})
		},
	}
	k.register(cmd, cli.ReadFlags)
	cli.ConcurrencyFlag(cmd.Flags(), &k.target)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document (see docs/json-report.md)")
	return cmd
}

func printKeys(out io.Writer, path string, listings []keyring.Listing, now time.Time) error {
	for _, l := range listings {
		w := tabwriter.NewWriter(out, 2, 8, 2, ' ', 0)
		escape.Fprintf(w, "%s%s\tPACKAGES\tEXPIRES\tOFFERED\tOWNER\n", cli.Prefixed(path), l.Layout)
		for _, k := range l.Keys {
			expires := "never"
			switch {
			case k.Problem != "":
				expires = ""
			case !k.Revoked.IsZero():
				expires = "revoked " + k.Revoked.UTC().Format(time.DateOnly)
			case !k.Expires.IsZero() && k.Expires.Before(now):
				expires = "expired " + k.Expires.UTC().Format(time.DateOnly)
			case !k.Expires.IsZero():
				expires = k.Expires.UTC().Format(time.DateOnly)
			}
			offered := "no"
			switch {
			case k.Offered:
				offered = "yes"
			case k.Retired:
				offered = "retired"
			}
			owner := strings.Join(k.Owners, ", ")
			if k.Problem != "" {
				owner = "! " + k.Problem
			}
			escape.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", k.Fingerprint, k.Packages, expires, offered, owner)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if l.Unsigned > 0 {
			escape.Fprintf(out, "%s not signed\n", english.PluralWord(l.Unsigned, "1 package is", fmt.Sprint(l.Unsigned)+" packages are"))
		}
		if l.Broken > 0 {
			escape.Fprintf(out, "%s a signature without the fingerprint of its key\n", english.PluralWord(l.Broken, "1 package has", fmt.Sprint(l.Broken)+" packages have"))
		}
	}
	return nil
}

func addCommand(env cli.Env) *cobra.Command {
	var k keyWork
	var file string
	cmd := &cobra.Command{
		Use: "add DESTINATION", Short: "Offer a public key to the clients of a mirror", Args: cli.Arguments,
		Example: "  publish keys add --public-key release.pub s3://bucket/noble/spack",
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return cli.Fail(cli.ExitUsage, errors.New("no key: give --public-key"))
			}
			armored, err := userfile.Read(file)
			if err != nil {
				return cli.Fail(cli.ExitUsage, fmt.Errorf("--public-key: %w", err))
			}
			public, err := key.ReadPublic(armored)
			if err != nil {
				return cli.Fail(cli.ExitUsage, fmt.Errorf("--public-key %s: %w", file, err))
			}
			switch err := public.Signs(time.Now()); {
			case errors.Is(err, key.ErrExpired), errors.Is(err, key.ErrRevoked): // this tells clients
				escape.Fprintf(env.Stderr, "publish: warning: --public-key %s: the key %s can no longer sign: %s\n", file, public.Fingerprint(), err)
			case err != nil:
				return cli.Fail(cli.ExitUsage, fmt.Errorf("--public-key %s: the key %s is of no use to clients: %w", file, public.Fingerprint(), err))
			}
			return k.change(cmd.Context(), env, args[0], func(ctx context.Context, s mirror.Store) ([]keyring.Change, error) {
				return keyring.Add(ctx, s, public)
			}, nil)
		},
	}
	k.register(cmd, cli.StorageFlags)
	cli.CDNFlags(cmd.Flags(), &k.target.CDN)
	cli.OutputFlags(cmd.Flags(), &k.output)
	cmd.Flags().StringVar(&file, "public-key", "", "`FILE` with one armored public key")
	return cmd
}

func rotateCommand(env cli.Env) *cobra.Command {
	var k keyWork
	var signer signing.Config
	var from, to string
	cmd := &cobra.Command{
		Use: "rotate DESTINATION", Short: "Replace the signatures of one key by those of another", Long: rotateHelp, Args: cli.Arguments,
		Example: "  publish keys rotate --from FINGERPRINT --sign-key new.asc s3://bucket/noble/spack",
		RunE: func(cmd *cobra.Command, args []string) error {
			if from == "" {
				return cli.Fail(cli.ExitUsage, errors.New("the key to replace is missing: give --from FINGERPRINT, as `publish keys list` shows it"))
			}
			f, err := parseFingerprint(from)
			if err != nil {
				return cli.Fail(cli.ExitUsage, fmt.Errorf("--from: %w", err))
			}
			want := key.Fingerprint("")
			if to != "" {
				if want, err = parseFingerprint(to); err != nil {
					return cli.Fail(cli.ExitUsage, fmt.Errorf("--to: %w; give its private key by --sign-key", err))
				}
			}
			signer.ReadSecrets(env.Lookup)
			signer.AWS = k.target.AWS(env.Target())
			signs, err := signer.Open(buildcache.Trust{})
			if err != nil {
				return cli.Usage(err)
			}
			if signs.Key == nil {
				return cli.Fail(cli.ExitUsage, fmt.Errorf("no key: give --sign-key, or the key itself in %s", signing.KeyVariable))
			}
			next := signs.Key.Fingerprint()
			switch {
			case f == next:
				return cli.Fail(cli.ExitUsage, errors.New("--from is the key of --sign-key: want another one"))
			case want != "" && want != next:
				return cli.Fail(cli.ExitUsage, fmt.Errorf("--to is %s, and the key of --sign-key is %s", want, next))
			}
			var old *key.Public // as the mirrors have it
			held := new(key.Ring)
			err = k.change(cmd.Context(), env, args[0], func(ctx context.Context, s mirror.Store) ([]keyring.Change, error) {
				changes, err := keyring.Rotate(ctx, s, f, signs.Key)
				switch {
				case errors.Is(err, keyring.ErrUnknownKey):
					return nil, nil
				case errors.Is(err, keyring.ErrRetired):
					return nil, cli.Fail(cli.ExitUsage, cli.WithHint(fmt.Errorf("--sign-key: %w: %s", err, next), "sign with another key; or, if it may be used again, offer it first: publish keys add"))
				}
				for _, c := range changes {
					if c.From != nil {
						held = held.With(c.From)
						old, _ = held.Primary(f)
						signs.Key = c.To
					}
				}
				return changes, err
			}, func(ctx context.Context, s mirror.Store) ([]keyring.Change, error) {
				if old == nil {
					return nil, nil
				}
				c, err := keyring.RotateFiles(ctx, s, old, signs.Key)
				return []keyring.Change{c}, err
			})
			if err == nil && old == nil {
				err = cli.Fail(cli.ExitUsage, fmt.Errorf("--from: %w: %s: `publish keys list` shows the keys of the mirror", keyring.ErrUnknownKey, f))
			}
			return err
		},
	}
	k.register(cmd, cli.StorageFlags)
	cli.CDNFlags(cmd.Flags(), &k.target.CDN)
	cli.OutputFlags(cmd.Flags(), &k.output)
	cmd.Flags().StringVar(&from, "from", "", "`FINGERPRINT` of the key whose signatures are replaced, a key of the mirror")
	cmd.Flags().StringVar(&to, "to", "", "`FINGERPRINT` that the key of --sign-key must have; optional")
	signing.KeyFlags(cmd.Flags(), &signer)
	return cmd
}

// change changes mirrors, and then plain files if files is set, and updates the CDN in front of them.
func (k *keyWork) change(ctx context.Context, env cli.Env, where string, do, files func(context.Context, mirror.Store) ([]keyring.Change, error)) error {
	if err := k.target.Validate(); err != nil {
		return cli.Usage(err)
	}
	if files == nil {
		return k.mirrors(ctx, env, where, k.changing(ctx, env, do), nil)
	}
	return k.mirrors(ctx, env, where, k.changing(ctx, env, do), k.changing(ctx, env, files))
}

// changing returns a work that prints its changes.
func (k *keyWork) changing(ctx context.Context, env cli.Env, do func(context.Context, mirror.Store) ([]keyring.Change, error)) work {
	return func(path string, s mirror.Store, invalidate func([]string) error) error {
		changes, err := do(ctx, s)
		var stale []string
		refused := 0
		for _, c := range changes {
			stale = append(stale, c.Stale...)
			for _, severity := range []buildcache.Severity{buildcache.Error, buildcache.Warning} {
				some := slices.DeleteFunc(slices.Clone(c.Findings), func(f buildcache.Finding) bool { return f.Severity != severity })
				for _, l := range alike.Lines(some, k.output.Verbose) {
					escape.Fprintf(env.Stdout, "%s%s: %s\n", cli.Prefixed(path), severity, l)
				}
				if severity == buildcache.Error {
					refused += len(some)
				}
			}
			if text := changeText(c); !k.output.Quiet && text != "" {
				escape.Fprintf(env.Stdout, "%s%s: %s\n", cli.Prefixed(path), c.Layout, text)
			}
		}
		err = errors.Join(err, invalidate(stale))
		if err == nil && refused > 0 {
			err = fmt.Errorf("%s not good, and nothing was signed again there", english.PluralWord(refused, "1 signature is", fmt.Sprint(refused)+" signatures are"))
			err = cli.Fail(cli.ExitSource, cli.WithHint(err, "all others were signed again: publish the named packages again from a good source, signed and with --if-exists overwrite, or remove them; then run this command again"))
		}
		return err
	}
}

// changeText describes the change, and what clients must do; empty: nothing was done, because of an error.
func changeText(c keyring.Change) string {
	text := ""
	switch {
	case c.Added:
		text = "clients are offered the key from now on: they trust it after spack buildcache keys --install --trust"
	case c.Updated:
		text = "the changed key was published again: clients get it by spack buildcache keys --install --trust --force"
	case c.Offered:
		text = "clients are offered the key already"
	}
	if c.Resigned+c.Already+c.Others == 0 {
		return text
	}
	what := "file"
	if text != "" {
		text, what = text+"; ", "package"
	}
	return fmt.Sprintf("%s%s signed again, %d by the new key already, %d by others", text, english.PluralWord(c.Resigned, "1 "+what+" was", fmt.Sprintf("%d %ss were", c.Resigned, what)), c.Already, c.Others)
}
