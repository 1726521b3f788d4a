package cli

import (
	"errors"
	"time"

	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/quantity"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signing"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// ReadFlags adds the flags that say how a place is reached, for commands that only read.
func ReadFlags(fs *pflag.FlagSet, c *target.Config) {
	help.Group(fs, help.Place, func(fs *pflag.FlagSet) {
		fs.StringVar(&c.S3.EndpointURL, "endpoint-url", "", "`URL` of an S3 that is not Amazon's: MinIO, Ceph, R2; implies path style")
		fs.StringVar(&c.S3.Region, "region", "", "region of the bucket, such as eu-central-1; default: ask AWS")
	})
	CredentialFlags(fs, c)
	f := fs.Lookup("endpoint-url")
	f.Value = checked{f.Value, func() error { return c.Validate() }}
}

// checked is the value of a flag that belongs to a group of flags: check finds mistakes in their combination.
type checked struct {
	pflag.Value
	check func() error // returns errors of package field
}

// CredentialFlags adds the flags that choose AWS credentials.
func CredentialFlags(fs *pflag.FlagSet, c *target.Config) {
	help.Group(fs, help.Place, func(fs *pflag.FlagSet) {
		fs.StringVar(&c.Profile, "profile", "", "profile of the AWS configuration; default: AWS_PROFILE")
		fs.StringVar(&c.Role, "role-to-assume", "", "`ARN` of a role to assume, with --web-identity-token-file or with the existing credentials")
		fs.StringVar(&c.RoleSession, "role-session-name", "", "name of the session of that role in CloudTrail; default: slurm-factory-publish and the name of the host")
		fs.StringVar(&c.TokenFile, "web-identity-token-file", "", "`FILE` with the token for assuming the role; another program renews it")
	})
}

// ConcurrencyFlag adds the flag that bounds concurrent requests.
func ConcurrencyFlag(fs *pflag.FlagSet, c *target.Config) {
	help.Group(fs, help.Speed, func(fs *pflag.FlagSet) {
		fs.Var(quantity.Count(&c.S3.Concurrency), "concurrency", "requests in flight at once, over all files (default 64, and up to 128 while that is faster)")
	})
}

// PlaceFlags adds those of ReadFlags, and the flags for properties of new objects.
func PlaceFlags(fs *pflag.FlagSet, c *target.Config) {
	ReadFlags(fs, c)
	help.Group(fs, help.NewObjects, func(fs *pflag.FlagSet) {
		help.Choice(fs, &c.S3.StorageClass, "storage-class", "", "S3 storage `CLASS` of new objects, such as INTELLIGENT_TIERING; default: the bucket's",
			"STANDARD", "INTELLIGENT_TIERING", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR") // classes that can be read at once
		help.Choice(fs, &c.S3.SSE, "sse", "", "encryption of new objects; default: the bucket's", "AES256", "aws:kms", "aws:kms:dsse")
		fs.StringVar(&c.S3.KMSKeyID, "kms-key-id", "", "key for --sse aws:kms; default: the account's")
		fs.BoolVar(&c.S3.SingleWriter, "unsafe-single-writer", false, "write to an S3 that does not obey conditions; loses packages if another publisher ever writes at the same time")
	})
}

// StorageFlags adds the flags of PlaceFlags, and those for the speed of uploads.
func StorageFlags(fs *pflag.FlagSet, c *target.Config) {
	PlaceFlags(fs, c)
	ConcurrencyFlag(fs, c)
	help.Group(fs, help.Speed, func(fs *pflag.FlagSet) {
		fs.Var(quantity.Bytes(&c.S3.PartSize), "part-size", "size of the parts in which large files are sent, such as 16MiB (default 8MiB, larger for huge files)")
		fs.Var(quantity.Rate(&c.S3.LimitRate), "limit-rate", "upload at most at this rate, such as 50MB/s; default: no limit")
	})
}

// TimeoutFlag adds the flag that bounds how long a command may take; 0: no limit.
func TimeoutFlag(fs *pflag.FlagSet, d *time.Duration, usage string) {
	fs.Var(quantity.Timeout(d), "timeout", usage)
}

// CatalogFlag adds the flag that keeps the web page of a mirror up to date.
func CatalogFlag(fs *pflag.FlagSet, catalog *bool) {
	fs.BoolVar(catalog, "catalog", false, "keep the web page of each mirror (see publish catalog) up to date, after its index")
}

// CDNFlags adds the flags for the CDN between a destination and its readers.
func CDNFlags(fs *pflag.FlagSet, c *target.CDNConfig) {
	help.Group(fs, help.Readers, func(fs *pflag.FlagSet) {
		fs.StringVar(&c.Distribution, "distribution-id", "", "CloudFront distribution in which to invalidate changed objects, such as E2QWRUHAPOMQZL")
		fs.StringVar(&c.PathPrefix, "cloudfront-path-prefix", "", "path of DESTINATION below the distribution's root, such as /noble/spack; default: the path of --public-url, or the prefix of DESTINATION")
		c.MaxPaths = 100
		fs.Var(quantity.Count(&c.MaxPaths), "max-invalidation-paths", "with more changed paths than this, one wildcard is invalidated")
		fs.BoolVar(&c.Wait, "wait-for-invalidation", false, "wait until the invalidation is complete")
		fs.StringVar(&c.PublicURL, "public-url", "", "`URL` at which clients find DESTINATION: the new index is read back through it")
	})
}

// IfExistsFlag adds the flag for packages that the destination has with another document.
func IfExistsFlag(fs *pflag.FlagSet, r *Rules) {
	help.Choice(fs, &r.IfExists, "if-exists", r.IfExists, "what to do with a package that the destination has with another document",
		string(publish.Skip), string(publish.Overwrite), OverwriteSigned, string(publish.Refuse))
}

// OutputFlags adds the flags that say how much is shown.
func OutputFlags(fs *pflag.FlagSet, o *Output) {
	fs.BoolVarP(&o.Verbose, "verbose", "v", false, "show steps without a terminal, too, and lists in full")
	fs.BoolVarP(&o.Quiet, "quiet", "q", false, "show only errors and warnings")
}

// Check returns an error if both flags are given, of package field.
func (o Output) Check() error {
	if o.Verbose && o.Quiet {
		return field.Wrap("quiet", errors.New("--verbose is given, too: want one"))
	}
	return nil
}

// ViewFlag adds the flag that names views.
func ViewFlag(fs *pflag.FlagSet, r *Rules) {
	fs.StringSliceVar(&r.Views, "view", nil, "add the published packages and their dependencies to the view `NAME`, which clients choose in mirrors.yaml; repeatable")
}

// UpstreamFlag adds the flag for further mirrors that clients use.
func UpstreamFlag(fs *pflag.FlagSet, upstream *[]string, usage string) {
	fs.StringSliceVar(upstream, "upstream", nil, usage)
}

// RuleFlags adds the flags that say which packages may be published.
func RuleFlags(fs *pflag.FlagSet, r *Rules) {
	IfExistsFlag(fs, r)
	TrustFlags(fs, r)
	signing.Flags(fs, &r.Signing)
	SelectionFlags(fs, &r.Selection)
}

// TrustFlags adds the flags of RuleFlags about existing signatures.
func TrustFlags(fs *pflag.FlagSet, r *Rules) {
	help.Group(fs, "Signatures", func(fs *pflag.FlagSet) {
		fs.BoolVar(&r.RequireSigned, "require-signed", false, "refuse packages that are not signed")
		TrustedKeysFlag(fs, &r.TrustedKeys, "`FILE` of armored public keys: refuse signatures by any other key, and publish no other key")
		fs.BoolVar(&r.PublishKeys, "publish-keys", r.PublishKeys, "publish the public keys of the signers, so that clients can trust them")
	})
}

// SelectionFlags adds the flags that select packages.
func SelectionFlags(fs *pflag.FlagSet, s *source.Selection) {
	help.Group(fs, "Selection", func(fs *pflag.FlagSet) {
		fs.StringSliceVar(&s.Include, "include", nil, "publish only `PATTERN`: name, name@version, /hash or @spack.lock; names and versions may hold * and ?; repeatable")
		fs.StringSliceVar(&s.Exclude, "exclude", nil, "leave out `PATTERN`, as for --include; repeatable")
		BuildFlags(fs, s)
	})
}

// BuildFlags adds the flags that restrict the systems for which packages were built.
func BuildFlags(fs *pflag.FlagSet, s *source.Selection) {
	help.Group(fs, "Selection", func(fs *pflag.FlagSet) {
		help.Choice(fs, &s.Layout, "layout", "", "take only mirrors of this layout; default: both", buildcache.LayoutNames()...)
		fs.StringSliceVar(&s.OS, "expect-os", nil, "refuse packages whose operating system does not match `PATTERN`, such as ubuntu22.04; repeatable")
		fs.StringSliceVar(&s.Target, "expect-target", nil, "refuse packages whose target does not match `PATTERN`, such as x86_64*; repeatable")
	})
}

// Flag returns how a command line shows a setting.
func Flag(name string) string {
	if isPlace(name) {
		return name // an argument
	}
	return "--" + name
}
