package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// A store whose answers cannot be relied upon says nothing about the packages in it: the mirror cannot
// be checked, and none of it is called damaged.
func TestVerifyOfAFaultyStoreFindsNoDamage(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := s3test.New(s3test.Options{})
	defer server.Close()
	if code, _, said := execute(t, nil, "--endpoint-url", server.URL, clitest.Spack(t, "v3-signed"), "s3://bucket/noble"); code != cli.ExitDone {
		t.Fatal(said)
	}
	for name, row := range map[string]struct {
		fault s3test.Fault
		at    string // in the path of the request
	}{
		"no length of any object":  {s3test.NoLength, "/noble/"},
		"no length of one package": {s3test.NoLength, "/spec/zlib/"},
		"no length of blobs":       {s3test.NoLength, "/blobs/"},
		"a redirect":               {s3test.Refuse(307, "TemporaryRedirect").With("Location", "http://127.0.0.1:9/x"), "/spec/zlib/"},
	} {
		t.Run(name, func(t *testing.T) {
			server.Hook(func(r *http.Request) s3test.Fault {
				if strings.Contains(r.URL.Path, row.at) {
					return row.fault
				}
				return s3test.None
			})
			code, stdout, stderr := execute(t, nil, "verify", "--deep", "--endpoint-url", server.URL, "s3://bucket/noble")
			if code != cli.ExitUpload || strings.Contains(stdout, "damaged") || !strings.Contains(stderr, "fault of the storage") {
				t.Errorf("exit %d:\n%s%s", code, stdout, stderr)
			}
		})
	}
}
