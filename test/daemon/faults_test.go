package daemon

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// Whatever becomes of any single request: everything is published in the end, nothing fails, and
// what a reader sees meanwhile works.
func TestFaultAtEveryRequest(t *testing.T) {
	faults := []faultproxy.Fault{
		faultproxy.Reset, faultproxy.Lost, faultproxy.Truncated, faultproxy.Internal, faultproxy.SlowDown, faultproxy.Conflict, faultproxy.Denied, faultproxy.Expired,
	}
	server := s3server.Start(t)
	bucket := server.Bucket(t)
	u := spackmirror.New(spackmirror.V3, 3)
	whole := mirrorOf(t, u, u.All())
	run := func(t *testing.T, prefix string, k int, f faultproxy.Fault) int {
		p := faultproxy.Start(t, server.Endpoint)
		if k > 0 {
			p.At(k, f)
		}
		h := newHost(t, "s3://"+bucket+"/"+prefix, append(server.Environ(), "AWS_ENDPOINT_URL="+p.URL))
		drop(t, whole, h.source)
		h.start()
		dir := filepath.Join(server.Path(bucket), prefix)
		for deadline := time.Now().Add(patience); h.jobs("published") < 3; {
			if m := reader.V3(reader.Dir(dir)); !m.Works() {
				t.Fatalf("what is there meanwhile does not work: %v", m.Broken)
			}
			if time.Now().After(deadline) {
				t.Fatalf("not published after %v: %+v", patience, h.status())
			}
			h.run("drain", "--wait", "--timeout", "20s") // which says why, if the mirror waits
		}
		if n := h.jobs("failed"); n > 0 {
			t.Errorf("%d failed", n)
		}
		wantWhole(t, dir, 3)
		h.stop()
		return len(p.Log())
	}
	requests := run(t, "undisturbed", 0, faultproxy.Fault{})
	if requests < 8 {
		t.Fatalf("%d requests", requests)
	}
	step := 1
	if testing.Short() {
		step = 5
	}
	slots := make(chan struct{}, 4)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := 0; i < requests*len(faults); i += step {
		k, f := 1+i/len(faults), faults[i%len(faults)]
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			t.Run(fmt.Sprintf("%s at request %d", f.Name, k), func(t *testing.T) { run(t, fmt.Sprintf("%d-%d", k, i), k, f) })
		})
	}
}
