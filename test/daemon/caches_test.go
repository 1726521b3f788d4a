package daemon

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
	"github.com/vantagecompute/slurm-factory-publish/test/cdn"
	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

const distribution = "E2QWRUHAPOMQZL"

// cachedHost publishes to a bucket behind a cache, of which clients see only what the cache gives them.
func cachedHost(t *testing.T) (h *host, p *faultproxy.Proxy, control *cloudfronttest.Server, clients reader.Source) {
	t.Helper()
	server := s3server.Start(t)
	p = faultproxy.Start(t, server.Endpoint)
	bucket := server.Bucket(t)
	edge := &cdn.Edge{Origin: server.Endpoint + "/" + bucket, Transport: server.Signed()}
	control = cdn.Control(distribution, edge)
	front, api := httptest.NewServer(edge), httptest.NewServer(control)
	t.Cleanup(front.Close)
	t.Cleanup(api.Close)
	h = newHost(t, "s3://"+bucket+"/noble", append(server.Environ(), "AWS_ENDPOINT_URL="+p.URL, "AWS_ENDPOINT_URL_CLOUDFRONT="+api.URL))
	h.mirror = "    distribution_id: " + distribution + "\n    public_url: " + front.URL + "/noble\n"
	return h, p, control, reader.HTTP(front.Client(), front.URL+"/noble")
}

func seen(t *testing.T, clients reader.Source) int {
	t.Helper()
	m := reader.V3(clients)
	if !m.Works() {
		t.Errorf("what clients see does not work: %v", m.Broken)
	}
	return len(m.Specs)
}

// Exit code 0 of push --wait=cdn means that clients see what was pushed.
func TestClientsSeeWhatWasPushed(t *testing.T) {
	h, _, control, clients := cachedHost(t)
	h.start()
	u := spackmirror.New(spackmirror.V3, 30)
	for i := range 3 {
		seen(t, clients) // so that the cache holds the old index
		drop(t, mirrorOf(t, u, u.Range(0, (i+1)*10)), h.source)
		if out := h.must("push", "--wait=cdn", h.source); !strings.Contains(out, fmt.Sprintf("%d packages: ", (i+1)*10)) || !strings.Contains(out, "published, and clients see it: ") {
			t.Errorf("push says:\n%s", out)
		}
		if n := seen(t, clients); n != (i+1)*10 {
			t.Errorf("clients see %d packages, %d were published", n, (i+1)*10)
		}
	}
	if n := len(control.Invalidations(distribution)); n > 4 {
		t.Errorf("%d invalidations for three pushes", n)
	}
}

// While CloudFront does not listen, what it is owed stays owed, also for the next process; pushing waits.
func TestCachesAreToldInTheEnd(t *testing.T) {
	t.Parallel()
	h, _, control, clients := cachedHost(t)
	h.start()
	u := spackmirror.New(spackmirror.V3, 10)
	drop(t, mirrorOf(t, u, u.Range(0, 5)), h.source)
	h.must("push", "--wait=cdn", h.source)
	seen(t, clients)
	control.Deny("cloudfront:CreateInvalidation")
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.must("push", "--wait", h.source)
	h.until("caches could not be told", func() bool { return len(h.status().Owed) == 1 })
	if r := h.run("push", "--wait=cdn", "--timeout", "3s", h.source); r.Code != 124 {
		t.Errorf("%v", r)
	}
	if r := h.run("drain", "--wait"); r.Code != 7 || !strings.Contains(r.Stderr, "cloudfront:CreateInvalidation") {
		t.Errorf("%v", r)
	}
	h.kill()
	control.Permit("cloudfront:CreateInvalidation")
	h.start()
	h.must("drain", "--wait")
	if n := seen(t, clients); n != 10 || len(h.status().Owed) != 0 {
		t.Errorf("clients see %d packages; owed: %v", n, h.status().Owed)
	}
}

// Killed between the index and the invalidation, at any request from there on: the next process
// tells the caches.
func TestKilledBeforeCachesAreTold(t *testing.T) {
	t.Parallel()
	const rounds = 5
	h, p, _, clients := cachedHost(t)
	u := spackmirror.New(spackmirror.V3, rounds*5)
	for round := range rounds {
		h.start()
		seen(t, clients)
		killed := make(chan struct{})
		cmd := h.cmd
		p.Inject(func(r faultproxy.Request) faultproxy.Fault {
			if r.Operation == "PutObject" && strings.HasSuffix(r.Key, "index.manifest.json") {
				return faultproxy.After(func() { cmd.Process.Kill(); close(killed) })
			}
			return faultproxy.Fault{}
		})
		drop(t, mirrorOf(t, u, u.Range(0, (round+1)*5)), h.source)
		select {
		case <-killed:
		case <-time.After(patience):
			t.Fatal("the index was never written")
		}
		h.kill()
		p.Inject(nil)
		h.start()
		h.must("drain", "--wait")
		if n := seen(t, clients); n != (round+1)*5 {
			t.Errorf("clients see %d packages after round %d", n, round)
		}
		h.kill()
	}
}
