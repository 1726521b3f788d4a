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

// Transport returns a transport for services other than AWS. It uses the same proxies and trusts the same
// authorities as Config. The caller closes its idle connections.
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

// A BundleError reports an unusable file of trusted certificate authorities.
type BundleError struct {
	Setting string // that names it
	File    string
	Err     error
}

func (e *BundleError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Setting, e.File, e.Err) }
func (e *BundleError) Unwrap() error { return e.Err }

// SystemRoots returns the certificate authorities that the system trusts: those of SSL_CERT_FILE if it is set.
func SystemRoots() (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("certificates of the system: %w", err)
	}
	return roots, nil
}

// CheckSystemBundle refuses an SSL_CERT_FILE that is not a regular file, because crypto/x509 would wait for it or
// read it without end. A missing file is no error: crypto/x509 ignores it.
func CheckSystemBundle(file string) error {
	if err := userfile.Check(file); errors.Is(err, userfile.ErrNotRegular) || errors.Is(err, userfile.ErrTooLarge) {
		return &BundleError{"SSL_CERT_FILE", file, err}
	}
	return nil
}

// trusted returns the trusted certificate authorities: o.Roots or those of the system, and those in the file that
// AWS_CA_BUNDLE, or else ca_bundle of the profile, names. Nil means those of the system.
func (o Options) trusted(ctx context.Context) (*x509.CertPool, error) {
	env, err := config.NewEnvConfig()
	if err != nil {
		return o.Roots, nil // Config returns the error; reading a URL does not need the profile
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

// shared returns the profile's settings in the shared files, and its name. They are empty if the files cannot be
// read; Config returns that error.
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

// verified is a transport whose errors explain untrusted certificates and the setting that helps, servers that
// speak http, and unreachable proxies.
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
