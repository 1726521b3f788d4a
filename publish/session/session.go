// Package session makes the configuration with which the clients of AWS are built: region, credentials and the role to assume,
// trusted authorities, time limits and retries.
//
// It is the only package that lets the SDK look at its environment: variables, shared files, the metadata of the machine. The
// configuration that it returns is complete.
package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
)

// Options are what the user may say about a session.
type Options struct {
	// Region of the service, such as eu-central-1. Empty: the one in the environment
	// or the profile, if there is one.
	Region string
	// Profile of the shared configuration files. Empty: the one in the environment, or
	// "default".
	Profile string
	// Role is assumed. With tokens of an identity provider it is so whatever credentials the
	// environment has. Nil: the credentials are those that the SDK finds.
	Role *Role
	// Roots are the certificate authorities that are trusted, beside those of AWS_CA_BUNDLE or
	// ca_bundle of the profile. Nil: those of the system.
	Roots *x509.CertPool
	// Concurrency is how many requests may be in flight at once. As many idle
	// connections are kept, so that none is dialled twice. 0: 128.
	Concurrency int
	// Retrying is called before a request is sent again: for the attempt-th time of at most so many, because of err. Nil:
	// it is not called. It must be quick and safe for concurrent use.
	Retrying func(attempt, most int, err error)
}

const (
	defaultConcurrency = 128 // more than package s3 ever makes unless it is told to

	// maxAttempts is enough for a service that is unavailable for a quarter of a minute, or longer if it says that it is
	// overloaded.
	maxAttempts = 10

	dialTimeout   = 10 * time.Second
	keepAlive     = 30 * time.Second
	idleTimeout   = 90 * time.Second // S3 closes idle connections much earlier, which costs nothing
	answerTimeout = 60 * time.Second // from the last byte of a request to the first of its answer

	// writeBuffer is what goes into one TLS write, and what a small object and its
	// headers fit into together. The default of 4 KiB makes records of 4 KiB.
	writeBuffer = 64 << 10
)

// Config returns what the SDK's clients are made from.
func Config(ctx context.Context, o Options) (aws.Config, error) {
	if o.Concurrency <= 0 {
		o.Concurrency = defaultConcurrency
	}
	if err := o.CheckConfigured(ctx); err != nil {
		return aws.Config{}, err
	}
	roots, err := o.trusted(ctx)
	if err != nil {
		return aws.Config{}, err
	}
	o.Roots = roots
	return load(ctx, o, client(o))
}

func load(ctx context.Context, o Options, client config.HTTPClient) (aws.Config, error) {
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithRetryer(o.retryer),
		// It would write to standard error, past everybody's log; what matters comes back as an error.
		config.WithLogger(logging.Nop{}),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(o.Profile))
	}
	if o.Role != nil {
		if err := o.Role.Validate(); err != nil {
			return aws.Config{}, err
		}
		if o.Role.Token != nil { // so that none are looked for
			load = append(load, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
		}
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("read the AWS configuration: %w", explainProfile(o.Profile, err))
	}
	if o.Profile == "" && (o.Role == nil || o.Role.Token == nil) {
		if err := checkKey(cfg); err != nil {
			return aws.Config{}, err
		}
	}
	if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		cfg.HTTPClient = unredirected(c.WithTransportOptions(writeLarge))
	}
	cfg.Credentials = tidy(explain(cfg.Credentials, o.Profile))
	if o.Role != nil {
		o.Role.assumeIn(&cfg, o.Retrying)
	}
	return cfg, nil
}

// assumeIn makes a role the one that clients made from cfg act as.
func (r *Role) assumeIn(cfg *aws.Config, retrying func(attempt, most int, err error)) {
	for _, source := range cfg.ConfigSources {
		if env, ok := source.(config.EnvConfig); ok && r.Token != nil && env.Credentials.HasKeys() {
			r.log().Info("the credentials in the environment are not used, the role is assumed", "role", r.ARN)
		}
	}
	a := newAssumer(*cfg, r, retrying)
	k := newKeeper(a.assume, r.attempts(), r.log())
	cfg.Credentials = k
	usual := cfg.Retryer
	cfg.Retryer = func() aws.Retryer { return &renewing{usual().(*pacer), k} }
}

// renewing also repeats requests whose credentials a service took for expired, with others.
type renewing struct {
	*pacer
	keeper *keeper
}

func (r *renewing) IsErrorRetryable(err error) bool {
	switch codeOf(err) {
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		r.keeper.refused()
		return true
	}
	return r.pacer.IsErrorRetryable(err)
}

// unredirected is one client for all services. It returns redirects instead of following them, because a
// request carries credentials for the host that it is for and no other.
func unredirected(c *awshttp.BuildableClient) *http.Client {
	return &http.Client{
		Transport:     verified{c.GetTransport()},
		Timeout:       c.GetTimeout(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// client is the SDK's, so that a custom CA bundle and the like still apply to it.
func client(o Options) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) {
			d.Timeout = dialTimeout
			d.KeepAlive = keepAlive
		}).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = 0 // bounded per host
			t.MaxIdleConnsPerHost = o.Concurrency
			t.IdleConnTimeout = idleTimeout
			t.ResponseHeaderTimeout = answerTimeout
			t.WriteBufferSize = writeBuffer
			// S3 speaks HTTP/1.1, and one connection for all parts would be as slow
			// as one connection.
			t.ForceAttemptHTTP2 = false
			if o.Roots != nil {
				if t.TLSClientConfig == nil {
					t.TLSClientConfig = &tls.Config{}
				}
				t.TLSClientConfig.RootCAs = o.Roots
			}
		})
}

// retryer is what every request of one client is retried by: at most maxAttempts times, ever more slowly, and with fewer
// requests in all while S3 asks to slow down.
//
// There is no budget of retries: the SDK's default one lasts for 35, which 64 uploads at
// once have used up a tenth of a second into an outage of three.
func (o Options) retryer() aws.Retryer {
	return &pacer{retrying: o.Retrying, RetryerV2: retry.NewStandard(func(s *retry.StandardOptions) {
		s.MaxAttempts = maxAttempts
		s.RateLimiter = ratelimit.None
		s.Backoff = retry.BackoffDelayerFunc(delay)
		s.Retryables = append(s.Retryables,
			retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusRequestTimeout: {}}})
	})}
}
