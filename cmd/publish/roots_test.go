package main

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Certificate authorities are looked for once in a process, so each case is one of its own.
func TestRoots(t *testing.T) {
	if os.Getenv("COUNT_ROOTS") != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("roots: %d.", len(pool.Subjects())) //lint:ignore SA1019 nothing else counts them
		return
	}
	server := httptest.NewTLSServer(nil)
	server.Close()
	ours := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ours, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, file string
		ok         func(int) bool
	}{
		{"none on the system", "/nonexistent/file", func(n int) bool { return n > 50 }},
		{"one that SSL_CERT_FILE names", ours, func(n int) bool { return n == 1 }},
	} {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestRoots$", "-test.v")
		cmd.Env = append(os.Environ(), "COUNT_ROOTS=1", "SSL_CERT_DIR=/nonexistent/dir", "SSL_CERT_FILE="+c.file)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, count, _ := strings.Cut(string(out), "roots: ")
		count, _, _ = strings.Cut(count, ".")
		if n, err := strconv.Atoi(count); err != nil || !c.ok(n) {
			t.Errorf("%s: %q roots", c.what, count)
		}
	}
}
