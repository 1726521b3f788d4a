package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// Transport returns what reaches everything that is not AWS, as Config reaches AWS: through the same
// proxies, and with the same authorities trusted. The caller closes its idle connections.
func Transport(ctx context.Context, o Options) (*http.Transport, error) {
	roots, err := o.trusted(ctx)
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots}
	t.DisableCompression = true
	return t, nil
}

// A BundleError says that a file with authorities to be trusted is of no use.
type BundleError struct {
	Setting string // that names it
	File    string
	Err     error
}

func (e *BundleError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Setting, e.File, e.Err) }
func (e *BundleError) Unwrap() error { return e.Err }

// SystemRoots returns the authorities that are trusted on this system: those of SSL_CERT_FILE if it is set.
func SystemRoots() (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("certificates of the system: %w", err)
	}
	return roots, nil
}

// CheckSystemBundle refuses a file that SSL_CERT_FILE names and that is not a regular file: crypto/x509 would wait for it, or
// read it without end. A missing file is no error: crypto/x509 continues without it.
func CheckSystemBundle(file string) error {
	if err := userfile.Check(file); errors.Is(err, userfile.ErrNotRegular) || errors.Is(err, userfile.ErrTooLarge) {
		return &BundleError{"SSL_CERT_FILE", file, err}
	}
	return nil
}

// trusted are the authorities that are trusted: o.Roots or those of the system, and those of the file that
// AWS_CA_BUNDLE or else ca_bundle of the profile names. Nil: those of the system.
func (o Options) trusted(ctx context.Context) (*x509.CertPool, error) {
	env, err := config.NewEnvConfig()
	if err != nil {
		return o.Roots, nil // Config says what is wrong; who reads a URL needs nothing of it
	}
	setting, file := "AWS_CA_BUNDLE", env.CustomCABundle
	if file == "" {
		shared, _ := o.shared(ctx, env)
		setting, file = "ca_bundle", shared.CustomCABundle
	}
	if file == "" {
		return o.Roots, nil
	}
	bundle, err := userfile.Read(file)
	if err != nil {
		return nil, &BundleError{setting, file, err}
	}
	roots := o.Roots
	if roots == nil {
		if roots, err = SystemRoots(); err != nil {
			return nil, err
		}
	} else {
		roots = roots.Clone()
	}
	if !roots.AppendCertsFromPEM(bundle) {
		return nil, &BundleError{setting, file, errors.New("it holds no certificate in PEM")}
	}
	return roots, nil
}

// shared returns what the shared files say of the profile, and its name. It is empty if they cannot be read: Config says why.
func (o Options) shared(ctx context.Context, env config.EnvConfig) (config.SharedConfig, string) {
	profile := or(or(o.Profile, env.SharedConfigProfile), "default")
	shared, err := config.LoadSharedConfigProfile(ctx, profile, func(s *config.LoadSharedConfigOptions) {
		if env.SharedConfigFile != "" {
			s.ConfigFiles = []string{env.SharedConfigFile}
		}
		if env.SharedCredentialsFile != "" {
			s.CredentialsFiles = []string{env.SharedCredentialsFile}
		}
	})
	if err != nil {
		return config.SharedConfig{}, profile
	}
	return shared, profile
}

// verified is a transport that says what is wrong with a certificate, and what to set, that a server speaks http, and that a proxy is away.
type verified struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (v verified) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := v.Transport.RoundTrip(r)
	if untrusted := mirror.Untrusted(r.URL.Host, err); untrusted != nil {
		return nil, untrusted
	}
	if mirror.SpeaksHTTP(err) {
		return nil, &mirror.SchemeError{Host: r.URL.Host}
	}
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && (dial.Op == "dial" || dial.Op == "proxyconnect") && v.Proxy != nil {
		if proxy, proxyErr := v.Proxy(r); proxyErr == nil && proxy != nil {
			return nil, &mirror.ProxyError{Proxy: proxy.Scheme + "://" + proxy.Host, Err: dial}
		}
	}
	return answer, err
}
