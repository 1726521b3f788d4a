package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// storageFlags say how to reach a destination.
type storageFlags struct {
	s3      s3.Options
	profile string

	role, roleSession string // that is assumed, and what CloudTrail calls us then
	tokenFile         string // the token that it is assumed with; empty: the credentials that there are

	aws     *aws.Config      // that somebody has made already
	roots   *x509.CertPool   // authorities that are trusted; nil: those of the system
	observe func(s3.Request) // hears of every request to S3
	caching caching
}

// caching is how long caches may keep what is stored; empty: as layout says.
type caching struct{ immutable, mutable string }

// labelled is a store in which caching is other than usual.
type labelled struct {
	store
	caching caching
}

// Unwrap returns the store without labels: see mirror.ProverOf.
func (l labelled) Unwrap() any { return l.store }

// Create implements mirror.Writer.
func (l labelled) Create(ctx context.Context, u mirror.Upload) error {
	return l.store.Create(ctx, l.caching.label(u))
}

// Swap implements mirror.Swapper.
func (l labelled) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	return l.store.Swap(ctx, l.caching.label(u), was)
}

func (c caching) label(u mirror.Upload) mirror.Upload {
	switch {
	case u.CacheControl == layout.Immutable && c.immutable != "":
		u.CacheControl = c.immutable
	case u.CacheControl == layout.Revalidate && c.mutable != "":
		u.CacheControl = c.mutable
	}
	return u
}

func (f *storageFlags) register(fs *pflag.FlagSet) {
	f.registerWhere(fs)
	fs.IntVar(&f.s3.Concurrency, "concurrency", 0, "requests in flight at once, over all files (default 64, and up to 128 while that is faster)")
	fs.Var(cli.Bytes(&f.s3.PartSize), "part-size", "size of the parts in which large files are sent, such as 16MiB (default 8MiB, grown for huge files)")
	fs.Var(cli.Rate(&f.s3.LimitRate), "limit-rate", "send at most this much a second, such as 50MB/s; default: no limit")
}

// registerWhere is register without the flags that say how fast.
func (f *storageFlags) registerWhere(fs *pflag.FlagSet) {
	fs.StringVar(&f.s3.EndpointURL, "endpoint-url", "", "`URL` of an S3 that is not Amazon's: MinIO, Ceph, R2; implies path style")
	fs.StringVar(&f.s3.Region, "region", "", "region of the bucket; default: AWS is asked")
	fs.StringVar(&f.profile, "profile", "", "profile of the AWS configuration; default: AWS_PROFILE")
	fs.StringVar(&f.role, "role-to-assume", "", "`ARN` of a role that is assumed, with --web-identity-token-file or with the credentials that there are")
	fs.StringVar(&f.roleSession, "role-session-name", "", "what CloudTrail calls the session of that role; default: slurm-factory-publish and the name of the host")
	fs.StringVar(&f.tokenFile, "web-identity-token-file", "", "`FILE` in which somebody keeps a token fresh with which the role may be assumed")
	fs.StringVar(&f.s3.StorageClass, "storage-class", "", "S3 storage class of new objects, such as INTELLIGENT_TIERING; default: the bucket's")
	fs.StringVar(&f.s3.SSE, "sse", "", "encryption of new objects: AES256, aws:kms or aws:kms:dsse; default: the bucket's")
	fs.BoolVar(&f.s3.SingleWriter, "unsafe-single-writer", false, "write to an S3 that does not obey conditions; loses packages if another publisher ever writes at the same time")
	fs.StringVar(&f.s3.KMSKeyID, "kms-key-id", "", "key for --sse aws:kms; default: the account's")
}

// A store is what commands need of one mirror.
type store interface {
	mirror.Store
	mirror.Sweeper
}

// A destination is a place that holds mirrors.
type destination struct {
	mirror func(path string) store
	// prefix is where the destination is below the root of its bucket, with a slash in
	// front; empty for the root.
	prefix string
	close  func() error
	parts  s3.Options // for an estimate: from which size, and in parts of which

	config    func(context.Context) (aws.Config, error)      // for CloudFront
	transport func(context.Context) (*http.Transport, error) // for what clients read
	requests  atomic.Int64
	// expiry is after how many days unfinished uploads are discarded; nil: there are none.
	expiry func(context.Context) (days int, err error)
}

// open understands DESTINATION. It makes no request, except for asking AWS for a
// bucket's region.
func (f *storageFlags) open(ctx context.Context, where string, log *slog.Logger) (*destination, error) {
	if _, ok := cutScheme(where, "s3"); ok {
		return f.openS3(ctx, where, log)
	}
	u, err := directoryOf(where)
	if err != nil {
		return nil, cli.Fail(cli.ExitUsage, err)
	}
	return f.openDir(u, log)
}

// checkDestination refuses what open would refuse without a request.
func checkDestination(where string) error {
	if _, ok := cutScheme(where, "s3"); ok {
		_, _, err := bucketAndPrefix(where)
		return err
	}
	_, err := directoryOf(where)
	return err
}

// directoryOf understands a destination that is a directory. As in Spack, %20 is a space there.
func directoryOf(where string) (string, error) {
	if err := s3.CheckARN(where); err != nil {
		return "", fmt.Errorf("destination %q: %w", where, err)
	}
	u, err := redact.Parse(where)
	switch {
	case err != nil:
		return "", fmt.Errorf("destination: %w", err)
	case u.Scheme != "file":
		return "", fmt.Errorf("destination %q: want s3://bucket[/prefix] or file:///directory", redact.URL(where))
	case u.User != nil:
		return "", fmt.Errorf("destination %q: a directory has no user and no password: want file:///directory", redact.URL(where))
	case strings.ContainsAny(where, "?#"):
		return "", fmt.Errorf("destination %q: write %%3F for ? and %%23 for # in the name of a directory", redact.URL(where))
	case !spec.Readable(u.Path):
		return "", fmt.Errorf("destination %q: the name of a directory must be UTF-8, without control characters", where)
	case u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path):
		return "", fmt.Errorf("destination %s: want an absolute path, file:///directory", redact.URL(where))
	}
	return u.Path, nil
}

func (f *storageFlags) openDir(name string, log *slog.Logger) (*destination, error) {
	d, err := dir.Open(name, dir.Options{Log: log})
	if err != nil {
		return nil, err
	}
	return &destination{
		mirror: func(p string) store { return d.Mirror(p) },
		close:  d.Close,
		config: func(ctx context.Context) (aws.Config, error) { return f.config(ctx, log) },

		transport: f.transport,
	}, nil
}

func (f *storageFlags) config(ctx context.Context, log *slog.Logger) (aws.Config, error) {
	if f.aws != nil {
		return *f.aws, nil
	}
	role, err := f.assumed(log)
	if err != nil {
		return aws.Config{}, cli.Fail(cli.ExitUsage, err)
	}
	cfg, err := session.Config(ctx, session.Options{Region: f.s3.Region, Profile: f.profile, Role: role, Concurrency: f.s3.Concurrency})
	var bundle *session.BundleError
	switch {
	case errors.As(err, &bundle):
		err = cli.Fail(cli.ExitUsage, err)
	case err != nil && ctx.Err() == nil:
		err = cli.Fail(cli.ExitCredentials, err) // a profile that is not there, for example
	}
	return cfg, err
}

// transport is for requests made as Spack's clients make them. It trusts the same authorities as config.
func (f *storageFlags) transport(ctx context.Context) (*http.Transport, error) {
	t, err := session.Transport(ctx, session.Options{Profile: f.profile, Roots: f.roots})
	return t, cli.Fail(cli.ExitUsage, err)
}

// assumed is the role that is assumed; nil: none.
func (f *storageFlags) assumed(log *slog.Logger) (*session.Role, error) {
	if f.role == "" {
		for flag, value := range map[string]string{"--web-identity-token-file": f.tokenFile, "--role-session-name": f.roleSession} {
			if value != "" {
				return nil, fmt.Errorf("%s: it takes a --role-to-assume", flag)
			}
		}
		return nil, nil
	}
	r := &session.Role{ARN: f.role, SessionName: f.roleSession, Log: log}
	if f.tokenFile != "" {
		r.Token = session.TokenFile(f.tokenFile)
	}
	if r.SessionName == "" {
		host, _ := os.Hostname()
		r.SessionName = nameOfSession("slurm-factory-publish", host)
	}
	var wrong []error
	for _, one := range split(r.Validate()) {
		wrong = append(wrong, fmt.Errorf("--%s: %w", roleInput(one), one))
	}
	return r, errors.Join(wrong...)
}

// bucketAndPrefix takes a destination in S3 apart. It is taken as it is, as Spack and the AWS CLI take
// it: %20 is three characters.
func bucketAndPrefix(where string) (bucket, prefix string, err error) {
	wrong := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("destination %s: %s", redact.URL(where), why)
	}
	rest, ok := cutScheme(where, "s3")
	if redact.Has(where) || !ok {
		return wrong("want s3://bucket or s3://bucket/prefix")
	}
	if err := s3.CheckARN(rest); err != nil {
		return wrong(err.Error())
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	prefix = strings.Trim(prefix, "/")
	switch {
	case bucket == "":
		return wrong("want s3://bucket or s3://bucket/prefix")
	case strings.ContainsAny(bucket, "@%\\ "):
		return wrong(fmt.Sprintf("%q is no name of a bucket", bucket))
	case strings.ContainsAny(rest, "?#"):
		return wrong("a prefix cannot have ? or #: Spack takes what follows for something else")
	case !spec.Readable(rest):
		return wrong("it must be UTF-8, without control characters")
	case prefix != "" && path.Clean("/"+prefix) != "/"+prefix:
		return wrong("the prefix must not have //, . or .. in it: want " + redact.URL("s3://"+bucket+path.Clean("/"+prefix)))
	}
	if err := s3.CheckBucket(bucket); err != nil {
		return wrong(err.Error())
	}
	return bucket, prefix, nil
}

// cutScheme returns what follows the scheme of a URL. Schemes may be written in capitals.
func cutScheme(where, scheme string) (rest string, ok bool) {
	before, rest, ok := strings.Cut(where, "://")
	return rest, ok && strings.EqualFold(before, scheme)
}

func (f *storageFlags) openS3(ctx context.Context, where string, log *slog.Logger) (*destination, error) {
	bucket, prefix, err := bucketAndPrefix(where)
	if err != nil {
		return nil, cli.Fail(cli.ExitUsage, err)
	}
	cfg, err := f.config(ctx, log)
	if err != nil {
		return nil, err
	}
	d := &destination{close: func() error { return nil }, transport: f.transport, config: func(context.Context) (aws.Config, error) { return cfg, nil }}
	o := f.s3
	o.Bucket, o.Log = bucket, log
	o.Observe = func(r s3.Request) {
		d.requests.Add(1)
		if f.observe != nil {
			f.observe(r)
		}
	}
	b, err := s3.Open(ctx, cfg, o)
	if err != nil {
		return nil, usageOf(err)
	}
	if prefix != "" {
		d.prefix = "/" + prefix
	}
	d.parts = b.Options()
	d.expiry = func(ctx context.Context) (int, error) { return b.Expiry(ctx, prefix) }
	d.mirror = func(p string) store { return b.Mirror(path.Join(prefix, p)) }
	if usual := d.mirror; f.caching != (caching{}) {
		d.mirror = func(p string) store { return labelled{usual(p), f.caching} }
	}
	return d, nil
}

// usageOf: what s3.Open refuses without a request is how it was called.
func usageOf(err error) error {
	for _, other := range []error{mirror.ErrCredentials, mirror.ErrDenied, mirror.ErrNoBucket, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, other) {
			return err
		}
	}
	var region *mirror.RegionError
	var unreached *url.Error
	if errors.As(err, &region) || errors.As(err, &unreached) && unreached.Op != "parse" {
		return err
	}
	return cli.Fail(cli.ExitUsage, err)
}
