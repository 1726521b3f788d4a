package session_test

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// strange is a server whose authority no system trusts, and a file with its certificate.
func strange(t *testing.T, h http.HandlerFunc) (url, bundle string) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	bundle = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.URL, bundle
}

// asked sends one request as AWS is asked, and one as everything else is.
func asked(t *testing.T, o session.Options, url string) (aws, others error) {
	t.Helper()
	cfg, err := session.Config(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := session.Transport(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	defer session.TransportOf(cfg).CloseIdleConnections()
	for i, client := range []interface {
		Do(*http.Request) (*http.Response, error)
	}{cfg.HTTPClient, &http.Client{Transport: transport}} {
		r, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err == nil {
			answer.Body.Close()
		}
		if i == 0 {
			aws = err
		} else {
			others = err
		}
	}
	return aws, others
}

// Whatever names authorities names them for everything that is asked.
func TestOneSetOfAuthorities(t *testing.T) {
	url, bundle := strange(t, func(http.ResponseWriter, *http.Request) {})
	profile := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(profile, []byte("[default]\nca_bundle = "+bundle+"\n[profile private]\nca_bundle = "+bundle+"\n[profile plain]\nregion = eu-west-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, row := range map[string]struct {
		env     map[string]string
		o       session.Options
		trusted bool
	}{
		"nothing":                      {nil, session.Options{}, false},
		"AWS_CA_BUNDLE":                {map[string]string{"AWS_CA_BUNDLE": bundle}, session.Options{}, true},
		"the default profile":          {map[string]string{"AWS_CONFIG_FILE": profile}, session.Options{}, true},
		"a profile in the environment": {map[string]string{"AWS_CONFIG_FILE": profile, "AWS_PROFILE": "private"}, session.Options{}, true},
		"a profile that is given":      {map[string]string{"AWS_CONFIG_FILE": profile, "AWS_PROFILE": "plain"}, session.Options{Profile: "private"}, true},
		"another profile":              {map[string]string{"AWS_CONFIG_FILE": profile}, session.Options{Profile: "plain"}, false},
	} {
		t.Run(what, func(t *testing.T) {
			bare(t)
			for name, value := range row.env {
				t.Setenv(name, value)
			}
			aws, others := asked(t, row.o, url)
			if (aws == nil) != row.trusted || (others == nil) != row.trusted {
				t.Errorf("asked as AWS: %v, as others: %v", aws, others)
			}
		})
	}
}

// A certificate that is not trusted is no reason to try again, and the error says what to set.
func TestACertificateErrorNamesTheSettings(t *testing.T) {
	bare(t)
	url, _ := strange(t, func(http.ResponseWriter, *http.Request) {})
	err, _ := asked(t, session.Options{}, url)
	var untrusted *mirror.CertificateError
	if !errors.As(err, &untrusted) || untrusted.Host != strings.TrimPrefix(url, "https://") {
		t.Fatalf("got error %v", err)
	}
	for _, setting := range []string{"AWS_CA_BUNDLE", "ca_bundle", "SSL_CERT_FILE", "ca-bundle"} {
		if !strings.Contains(err.Error(), setting) {
			t.Errorf("%s is not named: %v", setting, err)
		}
	}
	cfg, err2 := session.Config(context.Background(), session.Options{})
	if err2 != nil {
		t.Fatal(err2)
	}
	if cfg.Retryer().IsErrorRetryable(err) {
		t.Error("it is tried again")
	}
}

func TestABundleThatIsOfNoUse(t *testing.T) {
	bare(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, empty + ".gone"} {
		t.Setenv("AWS_CA_BUNDLE", file)
		_, transport := session.Transport(context.Background(), session.Options{})
		_, config := session.Config(context.Background(), session.Options{})
		for _, err := range []error{transport, config} {
			var bundle *session.BundleError
			if !errors.As(err, &bundle) || bundle.Setting != "AWS_CA_BUNDLE" || bundle.File != file {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// Nothing that is sent to AWS follows a redirect: it carries credentials for one host.
func TestAWSIsNotFollowedElsewhere(t *testing.T) {
	bare(t)
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	here := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer here.Close()
	if err, _ := asked(t, session.Options{}, here.URL); err != nil {
		t.Error(err)
	}
	reached = false
	cfg, err := session.Config(context.Background(), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer session.TransportOf(cfg).CloseIdleConnections()
	r, _ := http.NewRequest(http.MethodGet, here.URL, nil)
	answer, err := cfg.HTTPClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if reached || answer.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("status %d, and the other host was reached: %v", answer.StatusCode, reached)
	}
}

// A pipe or a device that names authorities or holds a token is refused without waiting for it.
func TestNothingWaitsForWhatIsNotAFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{pipe, os.DevNull} {
		bare(t)
		var bundle *session.BundleError
		if err := session.CheckSystemBundle(name); !errors.As(err, &bundle) || bundle.Setting != "SSL_CERT_FILE" || bundle.File != name {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := session.TokenFile(name).Token(context.Background(), ""); !errors.Is(err, userfile.ErrNotRegular) {
			t.Errorf("a token in %s: %v", name, err)
		}
	}
}

// A server that speaks http takes a TLS handshake for a request: it answers with a status line, or as HTTP/0.9 with a page alone.
func TestAServerThatSpeaksHTTP(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 400 Bad Request\r\n\r\n", "<!DOCTYPE HTML>\n<html></html>\n"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				c.Write([]byte(answer))
				c.Close()
			}
		}()
		cfg, err := session.Config(t.Context(), session.Options{Region: "us-east-1"})
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequest("GET", "https://"+l.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var other *mirror.SchemeError
		if _, err = cfg.HTTPClient.Do(request); !errors.As(err, &other) {
			t.Errorf("%q: %v", answer, err)
		}
	}
}
