package mirror

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
)

// A CertificateError reports a server whose certificate is not trusted. Retrying does not help.
type CertificateError struct {
	Host string
	Err  error
}

func (e *CertificateError) Error() string {
	var unknown x509.UnknownAuthorityError
	if !errors.As(e.Err, &unknown) {
		return fmt.Sprintf("the certificate of %s is not valid: %v", e.Host, e.Err)
	}
	return fmt.Sprintf("the certificate of %s is not trusted: %v: name a file with the certificate of its authority in AWS_CA_BUNDLE, "+
		"in ca_bundle of the AWS profile, in SSL_CERT_FILE, or in the action's ca-bundle", e.Host, e.Err)
}

func (e *CertificateError) Unwrap() error { return e.Err }

// RetryableError returns false: repeating the request does not help.
func (*CertificateError) RetryableError() bool { return false }

// Untrusted returns a CertificateError if err says that a certificate was not trusted, and nil otherwise.
func Untrusted(host string, err error) *CertificateError {
	var known *CertificateError
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &unverified):
		return &CertificateError{host, unverified}
	}
	return nil
}

// SpeaksHTTP reports whether the answer to a TLS handshake was plain HTTP. Some servers take the handshake for an
// HTTP/0.9 request and send a page.
func SpeaksHTTP(err error) bool {
	var record tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &record) && record.Conn != nil
}

// A ProxyError reports that the proxy, not the server behind it, cannot be reached.
type ProxyError struct {
	Proxy string // scheme, host and port
	Err   error
}

func (e *ProxyError) Error() string { return "proxy " + e.Proxy + ": " + e.Err.Error() }
func (e *ProxyError) Unwrap() error { return e.Err }
