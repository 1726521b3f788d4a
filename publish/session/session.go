// Package session makes the AWS configuration of clients: region, credentials and the role to assume, trusted
// authorities, time limits and retries.
//
// It is the only package that lets the SDK read its environment: variables, shared files, the metadata service. The
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

	"github.com/vantagecompute/slurm-factory-publish/publish/session/internal/wire"
)

// Options are the user's settings for a session.
type Options struct {
	// Region of the service, such as eu-central-1. If it is empty, the environment or the profile decides.
	Region string
	// Profile of the shared configuration files. If it is empty, it is the one in the environment, or "default".
	Profile string
	// Role is the role to assume. With tokens of an identity provider, credentials in the environment are ignored.
	// If it is nil, the credentials are those that the SDK finds.
	Role *Role
	// Roots are the trusted certificate authorities, in addition to those of AWS_CA_BUNDLE or of ca_bundle of the
	// profile. Nil means those of the system.
	Roots *x509.CertPool
	// Concurrency is the maximum number of requests in flight. As many idle connections are kept, so that none is
	// dialled twice. 0 means 128.
	Concurrency int
	// Retrying is called before a request is repeated: this is attempt number attempt of at most most, and err is
	// the error of the previous one. It may be nil. It must be quick and safe for concurrent use.
	Retrying func(attempt, most int, err error)
}

const (
	defaultConcurrency = 128 // more than package s3 makes by default

	// maxAttempts suffices for a service that is unavailable for 15 s, or longer if it says that it is overloaded.
	maxAttempts = 10

	dialTimeout   = 10 * time.Second
	keepAlive     = 30 * time.Second
	idleTimeout   = 90 * time.Second // S3 closes idle connections much earlier; that does no harm
	answerTimeout = 60 * time.Second // from the last byte of a request to the first of its answer

	// writeBuffer is the size of a TLS write in bytes. A small object and its headers fit into one. The default of
	// 4 KiB makes records of 4 KiB.
	writeBuffer = 64 << 10
)

// Config returns the configuration for the SDK's clients.
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
		// The SDK would log to standard error, bypassing the log of the caller. Everything that matters is returned
		// as an error.
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
		if o.Role.Token != nil { // so that the SDK does not look for credentials
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
		cfg.HTTPClient = unredirected(c.WithTransportOptions(wire.WriteLarge))
	}
	cfg.Credentials = tidy(explain(cfg.Credentials, o.Profile))
	if o.Role != nil {
		o.Role.assumeIn(&cfg, o.Retrying)
	}
	return cfg, nil
}

// assumeIn makes clients made from cfg use the credentials of a role.
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

// renewing also repeats, with new credentials, requests whose credentials a service has refused as expired.
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

// unredirected is one client for all services. It returns redirects instead of following them, because a request
// has credentials for its own host only.
func unredirected(c *awshttp.BuildableClient) *http.Client {
	return &http.Client{
		Transport:     verified{c.GetTransport()},
		Timeout:       c.GetTimeout(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// client is the SDK's client, so that settings such as a custom CA bundle still apply.
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
			// S3 speaks HTTP/1.1. With HTTP/2, all parts would share one connection and its rate.
			t.ForceAttemptHTTP2 = false
			if o.Roots != nil {
				if t.TLSClientConfig == nil {
					t.TLSClientConfig = &tls.Config{}
				}
				t.TLSClientConfig.RootCAs = o.Roots
			}
		})
}

// retryer retries the requests of a client at most maxAttempts times, with growing delays, and with fewer requests
// in all while S3 asks to slow down.
//
// There is no budget of retries. The SDK's default budget lasts for 35 retries, which 64 concurrent uploads use up
// within a tenth of a second of an outage.
func (o Options) retryer() aws.Retryer {
	return &pacer{retrying: o.Retrying, RetryerV2: retry.NewStandard(func(s *retry.StandardOptions) {
		s.MaxAttempts = maxAttempts
		s.RateLimiter = ratelimit.None
		s.Backoff = retry.BackoffDelayerFunc(delay)
		s.Retryables = append(s.Retryables,
			retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusRequestTimeout: {}}})
	})}
}
