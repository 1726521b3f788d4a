package keys

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/kms"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const createHelp = `Make the OpenPGP public key of an asymmetric key in AWS KMS, and print it. Keep the file: publish
needs it as --sign-public-key to sign with the key, and clients import it. The private key
stays in KMS, which signs the public key once.

The fingerprint follows from the key and its creation time in KMS. So the same command with
another --expires makes the same key with a new expiry, to be published before the old one expires.

The spec of the key is RSA_4096, or another RSA or ECC_NIST spec, and its usage is SIGN_VERIFY. The
command needs the permissions kms:DescribeKey, kms:GetPublicKey and kms:Sign; signing needs kms:Sign only.`

// keyCreation holds the settings of a new public key.
type keyCreation struct {
	target               target.Config
	kms                  string
	name, email, expires string
	timeout              time.Duration
}

func createCommand(env cli.Env) *cobra.Command {
	var k keyCreation
	cmd := &cobra.Command{
		Use: "create", Short: "Make the public key of a key in AWS KMS", Long: createHelp, Args: cli.Arguments,
		Example: `  publish keys create --kms awskms:///alias/release --name "Cache releases" --email cache@example.org > release.pub`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := cli.WithTimeout(cmd.Context(), k.timeout)
			defer cancel()
			return cli.Stopped(ctx, k.run(ctx, env))
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&k.kms, "kms", "", "`KEY` in AWS KMS: awskms:///alias/NAME, awskms:///KEY-ID or awskms:///ARN")
	fs.StringVar(&k.name, "name", "", "`NAME` of the owner in the key, such as \"Cache releases\"")
	fs.StringVar(&k.email, "email", "", "`ADDRESS` of the owner; optional")
	fs.StringVar(&k.expires, "expires", "2y", "expiry of the key, `WHEN`: a date such as 2028-12-31, a time from now such as 90d, 18m or 2y, or never")
	help.Group(fs, help.Place, func(fs *pflag.FlagSet) {
		fs.StringVar(&k.target.S3.Region, "region", "", "region of the key, such as eu-central-1; default: the region in its ARN, or AWS_REGION")
	})
	cli.CredentialFlags(fs, &k.target)
	cli.TimeoutFlag(fs, &k.timeout, "stop after this time, such as 30m; 0: never")
	return cmd
}

func (k *keyCreation) run(ctx context.Context, env cli.Env) error {
	now := time.Now()
	var errs []error
	if k.kms == "" {
		errs = append(errs, errors.New("no key: give --kms awskms:///alias/NAME. A key of your own is made by gpg --quick-generate-key"))
	}
	if k.name == "" {
		errs = append(errs, errors.New("no name: give --name, such as \"Cache releases\""))
	}
	expires, err := parseExpiry(k.expires, now)
	errs = append(errs, err, k.target.Validate())
	var name kms.Name
	if k.kms != "" {
		name, err = kms.Parse(k.kms)
		if err != nil {
			err = fmt.Errorf("--kms %w", err)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return cli.Usage(err)
	}
	remote := kms.Open(name, k.target.AWS(env.Target()))
	public, err := remote.Public(ctx)
	if err != nil {
		return err
	}
	c := sign.Certificate{Key: public.Key, Created: public.Created, Name: k.name, Email: k.email, Expires: expires}
	if err := c.Validate(now); err != nil {
		return cli.Usage(err)
	}
	armored, err := c.Issue(ctx, remote, now)
	if err != nil {
		return fmt.Errorf("make the public key of %s: %w", public.ARN, err)
	}
	made, err := key.ReadPublic(armored)
	if err != nil {
		return err
	}
	escape.Fprintf(env.Stderr, "made the public key %s of %s\n", made.Fingerprint(), public.ARN)
	_, err = env.Stdout.Write(armored)
	return err
}

var (
	span = regexp.MustCompile(`^([0-9]{1,5})([dwmy])$`)
	date = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
)

// parseExpiry parses the expiry of a key in the forms of gpg, except those that depend on the time of the day.
// Zero: never.
func parseExpiry(text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	if date.MatchString(text) {
		if at, err := time.Parse(time.DateOnly, text); err == nil {
			return at, nil
		}
	}
	m := span.FindStringSubmatch(text)
	if m == nil {
		return time.Time{}, fmt.Errorf("--expires %q: want a date such as 2028-12-31, a time such as 90d, 18m or 2y, or never", text)
	}
	n, _ := strconv.Atoi(m[1])
	switch m[2] {
	case "d":
		return now.AddDate(0, 0, n), nil
	case "w":
		return now.AddDate(0, 0, 7*n), nil
	case "m":
		return now.AddDate(0, n, 0), nil
	}
	return now.AddDate(n, 0, 0), nil
}
