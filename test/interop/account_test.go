//go:build interop

package interop

import (
	"maps"
	"net/http/httptest"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/sessions"
)

// An account is GitHub's issuer, an STS and an S3 on loopback: act's containers are in the
// network of the machine.
type account struct {
	sts    *sessiontest.Server
	s3     *s3server.Server
	bucket string
	env    map[string]string
}

func newAccount(t *testing.T) *account {
	t.Helper()
	a := &account{s3: s3server.Start(t)}
	var err error
	if a.sts, err = sessiontest.New("127.0.0.1:0", sessiontest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.sts.Close)
	a.bucket = a.s3.Bucket(t)
	before, err := sessions.Before(a.s3, a.sts)
	if err != nil {
		t.Fatal(err)
	}
	guarded := httptest.NewServer(before)
	t.Cleanup(guarded.Close)
	a.env = maps.Clone(a.sts.Environment())
	a.env["AWS_ENDPOINT_URL_S3"] = guarded.URL
	a.env["AWS_REGION"] = a.s3.Region
	return a
}
