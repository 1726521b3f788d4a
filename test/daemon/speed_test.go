package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// From a complete package to its being visible, with the default settings and a bucket that is
// 40 ms away.
func TestVisibleWithinTenSeconds(t *testing.T) {
	h, p, bucket := bucketHost(t)
	p.Inject(func(faultproxy.Request) faultproxy.Fault {
		return faultproxy.Hold(func() { time.Sleep(40 * time.Millisecond) })
	})
	h.start()
	u := spackmirror.New(spackmirror.V3, 12)
	for i := range 3 {
		began := time.Now()
		drop(t, mirrorOf(t, u, u.Range(0, 4*(i+1))), h.source)
		h.until("they are published", func() bool { return h.jobs("published") == 4*(i+1) })
		took := time.Since(began)
		wantWhole(t, bucket, 4*(i+1))
		if took > 10*time.Second {
			t.Errorf("visible after %v", took)
		}
		t.Logf("visible after %v", took)
	}
}

// What a hook waits for: durable acknowledgements over the socket. The best of some rounds counts,
// because others use the machine.
func TestPushingTakesMilliseconds(t *testing.T) {
	h, p, _ := bucketHost(t)
	p.Inject(func(faultproxy.Request) faultproxy.Fault { return faultproxy.Denied }) // nothing but the queue is busy
	h.mirror = "    watch: false\n    scan_interval: 1h\n"
	h.start()
	const rounds, pushes = 5, 100
	u := spackmirror.New(spackmirror.V3, rounds*pushes)
	whole := mirrorOf(t, u, u.All())
	drop(t, filepath.Join(whole, "v3"), filepath.Join(h.source, "v3"))
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", h.socket) }}}
	defer client.CloseIdleConnections()
	best := time.Hour
	for round := range rounds {
		var took []time.Duration
		for i := range pushes {
			n := round*pushes + i
			name, version := u.Name(n)
			path := filepath.Join(h.source, fmt.Sprintf("v3/manifests/spec/%s/%s-%s-%s.spec.manifest.json", name, name, version, u.Hash(n)))
			question, err := json.Marshal(map[string][]string{"paths": {path}})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			resp, err := client.Post("http://daemon/v1/jobs", "application/json", bytes.NewReader(question))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			took = append(took, time.Since(began))
			if resp.StatusCode != http.StatusAccepted {
				t.Fatal(resp.Status)
			}
		}
		slices.Sort(took)
		best = min(best, took[len(took)/2])
	}
	t.Logf("median %v", best)
	if best > 5*time.Millisecond {
		t.Errorf("a push takes %v at the median", best)
	}
}

// However many packages wait, what the daemon holds is bounded.
func TestMemoryIsBounded(t *testing.T) {
	n := 10000
	if testing.Short() {
		n = 1000
	}
	h := newHost(t, "", []string{"PATH=" + os.Getenv("PATH")})
	inTheWay := filepath.Join(h.dir, "mirror") // so that the destination cannot be used at first
	h.destination = "file://" + inTheWay + "/noble"
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.mirror = "    watch: false\n    scan_interval: 5s\n"
	h.start()
	began := time.Now()
	u := spackmirror.New(spackmirror.V3, n)
	if err := u.Write(h.source, u.All()); err != nil {
		t.Fatal(err)
	}
	peak := 0.0
	look := func() {
		peak = max(peak, h.metric("go_memstats_heap_inuse_bytes"))
	}
	t.Logf("written after %v", time.Since(began))
	for h.jobs("ready") < n {
		look()
		if time.Since(began) > 5*time.Minute {
			t.Fatalf("%d ready after %v", h.jobs("ready"), time.Since(began))
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("ready after %v", time.Since(began))
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	h.must("drain") // ends the pause
	for h.jobs("published") < n {
		look()
		if time.Since(began) > 5*time.Minute {
			t.Fatalf("%d published after %v", h.jobs("published"), time.Since(began))
		}
		time.Sleep(100 * time.Millisecond)
	}
	if offered := h.metric("publish_index_packages"); int(offered) != n {
		t.Errorf("the index offers %.0f", offered)
	}
	t.Logf("%d packages published within %v, at most %.0f MiB of heap", n, time.Since(began).Round(time.Second), peak/(1<<20))
	if peak > 256<<20 {
		t.Errorf("%.0f MiB of heap", peak/(1<<20))
	}
}
