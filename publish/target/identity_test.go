package target_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// STS tells who we are, where it is AWS's own or named. The keys of another service are not shown to it, and a service that
// does not answer costs no run more than its context.
func TestIdentityOfADestination(t *testing.T) {
	store := s3test.New(s3test.Options{})
	defer store.Close()
	var asked atomic.Int64
	hang := make(chan struct{})
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if strings.HasPrefix(r.URL.Path, "/silent") {
			<-hang
			return
		}
		fmt.Fprint(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>`+
			`<Arn>arn:aws:iam::111122223333:user/ci</Arn><UserId>AIDA</UserId><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
	}))
	defer sts.Close()
	defer close(hang)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")

	for _, c := range []struct {
		name, key, sts, endpoint string
		want                     target.Identity
		asked                    int64
	}{
		{"another service", "minioadmin", "", store.URL, target.Identity{Endpoint: store.URL, Region: "us-east-1", AccessKey: "minioadmin", Source: "EnvConfigCredentials"}, 0},
		{"STS at the same place", "minioadmin", store.URL, store.URL, target.Identity{Endpoint: store.URL, Region: "us-east-1", AccessKey: "minioadmin", Source: "EnvConfigCredentials"}, 0},
		{"STS is named", "AKIAIOSFODNN7EXAMPLE", sts.URL, store.URL, target.Identity{Endpoint: store.URL, Region: "us-east-1", Account: "111122223333",
			ARN: "arn:aws:iam::111122223333:user/ci", AccessKey: "AKIA...MPLE", Source: "EnvConfigCredentials"}, 1},
		{"STS is silent", "AKIAIOSFODNN7EXAMPLE", sts.URL + "/silent", store.URL, target.Identity{Endpoint: store.URL, Region: "us-east-1", AccessKey: "AKIA...MPLE", Source: "EnvConfigCredentials"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("AWS_ACCESS_KEY_ID", c.key)
			t.Setenv("AWS_ENDPOINT_URL_STS", c.sts)
			asked.Store(0)
			config := target.Config{}
			config.S3.EndpointURL, config.S3.Region = c.endpoint, "us-east-1"
			d, err := target.Open(t.Context(), "s3://bucket/noble", config, target.Environment{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			got := d.Identity(ctx)
			if got == nil {
				t.Fatal("nobody")
			}
			if diff := cmp.Diff(c.want, *got); diff != "" {
				t.Error(diff)
			}
			if ctx.Err() != nil || asked.Load() != c.asked || d.Requests() != 0 {
				t.Errorf("asked STS %d times, want %d; S3 %d times, want none; %v", asked.Load(), c.asked, d.Requests(), ctx.Err())
			}
		})
	}
	d, err := target.Open(t.Context(), t.TempDir(), target.Config{}, target.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Identity(t.Context()); got != nil {
		t.Errorf("a directory is reached as %+v", got)
	}
}
