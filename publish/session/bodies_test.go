package session_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

// echo answers with what it gets.
func echo(w http.ResponseWriter, r *http.Request) {
	got, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Write(got)
}

// What is sent arrives, however large it is.
func TestBodiesArrive(t *testing.T) {
	for _, secure := range []bool{false, true} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(echo))
		start := map[bool]func(){false: server.Start, true: server.StartTLS}[secure]
		start()
		defer server.Close()
		roots := x509.NewCertPool()
		if secure {
			roots.AddCert(server.Certificate())
		}
		cfg, err := session.Config(t.Context(), session.Options{Roots: roots})
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 4096, 70_000, 256 << 10, 3_000_001} {
			content := make([]byte, size)
			rand.NewChaCha8([32]byte{1}).Read(content)
			r, err := http.NewRequest("PUT", server.URL, struct{ io.Reader }{bytes.NewReader(content)})
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = int64(size)
			answer, err := cfg.HTTPClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("secure %v, %d bytes: got %d, %v", secure, size, len(got), err)
			}
		}
	}
}

// A certificate is looked at as the transport would, with the CA bundle of the environment.
func TestCertificatesAreLookedAt(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer server.Close()
	get := func() error {
		cfg, err := session.Config(t.Context(), session.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequest("GET", server.URL, nil)
		answer, err := cfg.HTTPClient.Do(r)
		if err == nil {
			answer.Body.Close()
		}
		return err
	}
	var unknown *tls.CertificateVerificationError
	if err := get(); !errors.As(err, &unknown) {
		t.Errorf("a stranger's certificate: %v", err)
	}
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	if err := get(); err != nil {
		t.Errorf("with its certificate in AWS_CA_BUNDLE: %v", err)
	}
}
