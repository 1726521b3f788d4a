// Package target opens destinations in S3 or in a directory, with their credentials, and the CDN in front of them.
//
// A Config is plain data, filled in alike from a command line, a configuration file or a workflow. Validate reports
// the mistakes in it, setting by setting, without a request.
package target

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

// A Config is the configuration of a destination and its CDN.
type Config struct {
	S3 s3.Options // Bucket, Log and Observe are set by Open

	Profile     string // of the AWS configuration; empty for AWS_PROFILE
	Role        string // ARN of a role to assume; may be empty
	RoleSession string // name of its session in CloudTrail; by default the program and the host
	TokenFile   string // web identity token for assuming the role; by default the current credentials are used

	Caching Caching
	CDN     CDNConfig
}

// A Caching is the Cache-Control of new objects. If it is empty, package layout decides.
type Caching struct{ Immutable, Mutable string }

// A CDNConfig is the configuration of the CDN between a destination and its readers.
type CDNConfig struct {
	Distribution string // of CloudFront; if empty, nothing is invalidated
	PathPrefix   string // of the destination below the distribution's root; by default that of PublicURL, or of the destination
	MaxPaths     int    // the maximum; one wildcard is invalidated instead of more
	Wait         bool   // wait until an invalidation is complete
	PublicURL    string // where clients read; if empty, nothing is read back

	NoReadBack bool          // the new index is not read back through PublicURL
	ExtraPaths []string      // invalidated whenever anything is
	Patience   time.Duration // with CloudFront; 0 for the default of package cloudfront
}

// Caches reports whether there is a CDN between the destination and its readers.
func (c CDNConfig) Caches() bool { return c.Distribution != "" || c.PublicURL != "" }

// An Environment holds what opening a target needs besides its configuration. Each field may be zero.
type Environment struct {
	Log      *slog.Logger
	Observe  func(s3.Request) // receives every request to S3
	Answered func()           // called when CloudFront has answered

	// Retrying is called before a request to AWS is repeated: see session.Options.Retrying.
	Retrying func(attempt, most int, err error)

	AWS   *aws.Config    // an existing AWS configuration
	Roots *x509.CertPool // trusted certificate authorities; nil for those of the system
}

// A ConfigError reports an invalid configuration. No request was made.
type ConfigError struct{ Err error }

// Error implements error.
func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ConfigError) Unwrap() error { return e.Err }

// refused returns err as a ConfigError; nil for nil.
func refused(err error) error {
	if err == nil {
		return nil
	}
	return &ConfigError{field.Named(err, func(name string) string { return name })}
}

// A CredentialsError reports why there are no credentials, such as a missing profile. It matches
// mirror.ErrCredentials.
type CredentialsError struct{ Err error }

// Error implements error.
func (e *CredentialsError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *CredentialsError) Unwrap() error { return e.Err }

// Is reports whether target is mirror.ErrCredentials.
func (e *CredentialsError) Is(target error) bool { return target == mirror.ErrCredentials }

// Validate returns all mistakes of a configuration, as errors of package field or of session. It makes no request.
func (c Config) Validate() error {
	return c.ValidateAt("")
}

// ValidateAt is Validate for a configuration with a destination. It does not report mistakes in the destination
// itself.
func (c Config) ValidateAt(destination string) error {
	o := c.S3
	_, roleErr := c.assumed(nil)
	var configuredErr error
	if bucket, _, err := BucketAndPrefix(destination); err == nil {
		o.Bucket = bucket
		configuredErr = session.Options{Region: o.Region, Profile: c.Profile}.CheckConfigured(context.Background()) // reads files only
	}
	return errors.Join(roleErr, c.CDN.validate(), o.Validate(), configuredErr)
}

// mostPaths is the maximum number of paths that CloudFront invalidates at once.
const mostPaths = 3000

func (c CDNConfig) validate() error {
	var wrong []error
	if c.Distribution != "" {
		wrong = append(wrong, field.Wrap("distribution-id", cloudfront.CheckDistribution(c.Distribution)))
	}
	if c.PathPrefix != "" {
		if u, err := url.Parse(c.PathPrefix); err != nil || !strings.HasPrefix(c.PathPrefix, "/") || u.RawQuery != "" || u.Host != "" {
			wrong = append(wrong, field.Refuse("cloudfront-path-prefix", c.PathPrefix, "want a path such as /noble/spack"))
		}
	}
	if c.MaxPaths < 0 || c.MaxPaths > mostPaths {
		wrong = append(wrong, field.Refuse("max-invalidation-paths", strconv.Itoa(c.MaxPaths), "want 1 to %d", mostPaths))
	}
	if c.PublicURL != "" {
		wrong = append(wrong, field.Wrap("public-url", CheckPublicURL(c.PublicURL)))
	}
	return errors.Join(wrong...)
}

// CheckPublicURL refuses a text that is not a URL at which clients could read.
func CheckPublicURL(s string) error {
	w, err := web.Open(s, web.Options{})
	if err != nil {
		return err
	}
	w.Close()
	return nil
}

// AWSConfig returns the AWS configuration for a target, with its credentials.
func (c Config) AWSConfig(ctx context.Context, env Environment) (aws.Config, error) {
	if env.AWS != nil {
		return *env.AWS, nil
	}
	role, err := c.assumed(env.Log)
	if err != nil {
		return aws.Config{}, refused(err)
	}
	cfg, err := session.Config(ctx, session.Options{Region: c.S3.Region, Profile: c.Profile, Role: role, Concurrency: c.S3.Concurrency, Retrying: env.Retrying})
	var bundle *session.BundleError
	var setting *session.SettingError
	switch {
	case errors.As(err, &bundle), errors.As(err, &setting):
		err = refused(err)
	case err != nil && ctx.Err() == nil:
		err = &CredentialsError{err} // such as a missing profile
	}
	return cfg, err
}

// AWS returns a function that returns AWSConfig, for callers that need AWS only later.
func (c Config) AWS(env Environment) func(context.Context) (aws.Config, error) {
	return func(ctx context.Context) (aws.Config, error) { return c.AWSConfig(ctx, env) }
}

// Transport returns a transport for requests as Spack's clients make them. It trusts the same certificate
// authorities as AWSConfig.
func (c Config) Transport(ctx context.Context, env Environment) (*http.Transport, error) {
	t, err := session.Transport(ctx, session.Options{Profile: c.Profile, Roots: env.Roots})
	return t, refused(err)
}

// assumed returns the role to assume, or nil.
func (c Config) assumed(log *slog.Logger) (*session.Role, error) {
	if c.Role == "" {
		for _, s := range []struct{ name, value string }{{"web-identity-token-file", c.TokenFile}, {"role-session-name", c.RoleSession}} {
			if s.value != "" {
				return nil, field.Wrap(s.name, errors.New("it needs a role to assume"))
			}
		}
		return nil, nil
	}
	r := &session.Role{ARN: c.Role, SessionName: c.RoleSession, Log: log}
	if c.TokenFile != "" {
		r.Token = session.TokenFile(c.TokenFile)
	}
	if r.SessionName == "" {
		host, _ := os.Hostname()
		r.SessionName = SessionName("slurm-factory-publish", host)
	}
	return r, r.Validate()
}

var notInSessionName = regexp.MustCompile(`[^\w+=,.@-]`)

// SessionName makes the name of a role session from the parts that are not empty.
func SessionName(parts ...string) string {
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	name := notInSessionName.ReplaceAllString(strings.Join(parts, "-"), "-")
	return name[:min(len(name), 64)]
}

// openError returns an error of s3.Open as a ConfigError if s3.Open made no request.
func openError(err error) error {
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
	return refused(err)
}

// OpenBucket opens the bucket that holds a destination, with these settings.
func OpenBucket(ctx context.Context, bucket string, c Config, env Environment) (*s3.Bucket, aws.Config, error) {
	cfg, err := c.AWSConfig(ctx, env)
	if err != nil {
		return nil, cfg, err
	}
	o := c.S3
	o.Bucket, o.Log, o.Observe = bucket, env.Log, env.Observe
	b, err := s3.Open(ctx, cfg, o)
	if err != nil {
		return nil, cfg, openError(err)
	}
	return b, cfg, nil
}
