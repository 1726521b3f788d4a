package main

import (
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// One setting lets S3, the public URL and verify trust a private authority. Without it each of them fails at once and
// names the setting.
func TestOneSettingForAllCertificates(t *testing.T) {
	server := s3test.NewTLS(s3test.Options{})
	defer server.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	site := server.URL + "/bucket/noble"
	publish := []string{"--endpoint-url", server.URL, "--public-url", site, clitest.Spack(t, "v3-unsigned"), "s3://bucket/noble"}

	for _, args := range [][]string{publish, {"verify", site}} {
		began := time.Now()
		code, _, stderr := execute(t, nil, args...)
		if code == cli.ExitDone || !strings.Contains(stderr, "AWS_CA_BUNDLE") || strings.Contains(stderr, "attempts") {
			t.Errorf("%v: exit %d after %v:\n%s", args, code, time.Since(began), stderr)
		}
	}
	if n := len(server.Log()); n > 0 {
		t.Errorf("%d requests", n)
	}

	bundle := filepath.Join(t.TempDir(), "ca.pem")
	certificate := server.Certificate()
	clitest.Write(t, bundle, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})))
	t.Setenv("AWS_CA_BUNDLE", bundle)
	for _, args := range [][]string{publish, {"verify", site}} {
		if code, stdout, stderr := execute(t, nil, args...); code != cli.ExitDone {
			t.Errorf("%v: exit %d:\n%s%s", args, code, stdout, stderr)
		}
	}
	t.Setenv("AWS_CA_BUNDLE", bundle+".gone")
	if code, _, stderr := execute(t, nil, publish...); code != cli.ExitUsage || !strings.Contains(stderr, "AWS_CA_BUNDLE") {
		t.Errorf("a file that is not there: exit %d:\n%s", code, stderr)
	}
}
