package keys

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/keyring"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

const retireHelp = `Stop offering a key to clients. It is removed from the index of keys, and marked, so that no
publish offers it again. Its file stays, since publishing never deletes. Clients that trust
the key continue to trust it, until they run spack gpg untrust.

A key with signatures of packages, or of plain files below DESTINATION, is not retired: rotate
it first (publish keys rotate). With --force it is retired anyway, and clients that lack the key
cannot check these packages and files.

publish keys add offers the key again.`

func retireCommand(env cli.Env) *cobra.Command {
	var k keyWork
	var how keyring.Retiring
	cmd := &cobra.Command{
		Use: "retire DESTINATION FINGERPRINT", Short: "Stop offering a key to the clients of a mirror", Long: retireHelp, Args: cli.Arguments,
		Example: "  publish keys retire s3://bucket/noble/spack FINGERPRINT",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := parseFingerprint(args[1])
			if err != nil {
				return cli.Fail(cli.ExitUsage, fmt.Errorf("FINGERPRINT: %w", err))
			}
			return k.retire(cmd.Context(), env, args[0], f, how)
		},
	}
	k.register(cmd, cli.StorageFlags)
	cli.CDNFlags(cmd.Flags(), &k.target.CDN)
	cli.OutputFlags(cmd.Flags(), &k.output)
	cmd.Flags().BoolVar(&how.Force, "force", false, "retire the key even if packages or files are signed with it")
	cmd.Flags().BoolVar(&how.DryRun, "dry-run", false, "print what would be done and do nothing")
	return cmd
}

func parseFingerprint(text string) (key.Fingerprint, error) {
	return key.ParseFingerprint(strings.ToUpper(strings.ReplaceAll(text, " ", "")))
}

// retire retires a key in all mirrors at a destination. It checks all before it changes the first.
func (k *keyWork) retire(ctx context.Context, env cli.Env, where string, f key.Fingerprint, how keyring.Retiring) error {
	if err := k.target.Validate(); err != nil {
		return cli.Usage(err)
	}
	held := new(key.Ring)
	found := false
	all := &keyring.DependentError{Key: f}
	err := k.mirrors(ctx, env, where, func(path string, s mirror.Store, _ func([]string) error) error {
		done, err := keyring.Retire(ctx, s, f, keyring.Retiring{Force: how.Force, DryRun: true})
		refused := (*keyring.DependentError)(nil)
		switch {
		case errors.Is(err, keyring.ErrUnknownKey):
			return nil
		case errors.As(err, &refused):
			for _, p := range refused.Packages {
				if path != "" { // documents of layout v2 name only the hash
					p = buildcache.Join(path, strings.TrimPrefix(p, "/"))
				}
				all.Packages = append(all.Packages, p)
			}
		case err != nil:
			return err
		case how.DryRun:
			printRetired(env, path, done, "would be retired")
		}
		found = true
		for _, r := range done {
			if r.Public != nil {
				held = held.With(r.Public)
			}
		}
		return nil
	}, func(_ string, s mirror.Store, _ func([]string) error) (err error) {
		if found {
			public, _ := held.Primary(f)
			all.Files, err = keyring.FilesBy(ctx, s, f, public)
		}
		return err
	})
	if err != nil {
		return err
	}
	if !found {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("FINGERPRINT: %w: %s: `publish keys list` shows the keys of the mirror", keyring.ErrUnknownKey, f))
	}
	if len(all.Files) > 0 && how.Force {
		escape.Fprintf(env.Stdout, "%s signed with it, which clients can check only if they have the key\n", english.PluralWord(len(all.Files), "1 file is", fmt.Sprint(len(all.Files))+" files are"))
	}
	if len(all.Packages) > 0 || len(all.Files) > 0 && !how.Force {
		return cli.Fail(cli.ExitSource, cli.WithHint(all, "sign them with another key (publish keys rotate --from "+string(f)+"), or give --force"))
	}
	if how.DryRun {
		return nil
	}
	return k.mirrors(ctx, env, where, func(path string, s mirror.Store, invalidate func([]string) error) error {
		done, err := keyring.Retire(ctx, s, f, keyring.Retiring{Force: how.Force})
		if errors.Is(err, keyring.ErrUnknownKey) {
			return nil
		}
		if refused := (*keyring.DependentError)(nil); errors.As(err, &refused) { // a package was signed since the count
			return cli.Fail(cli.ExitSource, err)
		}
		if !k.output.Quiet {
			printRetired(env, path, done, "was retired")
		}
		var stale []string
		for _, r := range done {
			stale = append(stale, r.Stale...)
		}
		return errors.Join(err, invalidate(stale))
	}, nil)
}

func printRetired(env cli.Env, path string, done []keyring.Retired, did string) {
	for _, r := range done {
		text := "the key " + did
		if r.Already {
			text = "the key is retired already"
		}
		if n := len(r.Dependent); n > 0 {
			text += fmt.Sprintf("; %s signed with it, which clients can check only if they have the key", english.PluralWord(n, "1 package is", fmt.Sprint(n)+" packages are"))
		}
		escape.Fprintf(env.Stdout, "%s%s: %s\n", cli.Prefixed(path), r.Layout, text)
	}
}
