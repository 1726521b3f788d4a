package daemon

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// Two hundred times the daemon is killed a moment after it was started, while builds push: what was
// acknowledged is always in the queue, ended or not, and nothing of it belongs to the dead. A reader sees a
// mirror that works after each of them, and in the end all of it.
func TestKilledAgainAndAgain(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	mirror := t.TempDir()
	h := newHost(t, "file://"+mirror, nil)
	h.mirror = "    settle: 20ms\n    max_delay: 50ms\n"
	const each = 4
	u := spackmirror.New(spackmirror.V3, rounds*each)
	whole := mirrorOf(t, u, u.All())
	acknowledged := make(map[int64]string) // digests, by job
	drop(t, filepath.Join(whole, "blobs"), filepath.Join(h.source, "blobs"))
	for round := range rounds {
		h.start()
		var mu sync.Mutex
		var builds sync.WaitGroup
		for i := range each {
			name := document(u, round*each+i)
			move(t, filepath.Join(whole, name), filepath.Join(h.source, name))
			builds.Go(func() {
				c := api.Dial(h.socket)
				defer c.Close()
				jobs, err := c.Push(t.Context(), filepath.Join(h.source, name))
				if err != nil {
					return // nothing is promised
				}
				mu.Lock()
				defer mu.Unlock()
				for _, j := range jobs.Jobs {
					acknowledged[j.ID] = j.Digest
				}
			})
		}
		time.Sleep(rand.N([]time.Duration{10 * time.Millisecond, 200 * time.Millisecond}[round%2])) // while they push, or while it publishes
		h.kill()
		builds.Wait()
		ended := known(t, h, acknowledged)
		if m := reader.V3(reader.Dir(mirror)); !m.Works() || len(m.Specs) < ended {
			t.Fatalf("round %d: %d jobs are published, and of the mirror %d packages can be read, broken: %v", round, ended, len(m.Specs), m.Broken)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d of %d pushes were acknowledged", len(acknowledged), rounds*each)
	if len(acknowledged) < rounds {
		t.Errorf("%d pushes were acknowledged: this tested little", len(acknowledged))
	}
	h.start()
	h.must("drain", "--wait")
	wantWhole(t, mirror, rounds*each)
	if n := h.jobs("published"); n != rounds*each {
		t.Errorf("%d jobs are published", n)
	}
	if strings.Contains(h.log.String(), "panic") {
		t.Error("the daemon has panicked")
	}
}

// known makes sure that a queue knows all jobs that were acknowledged, and returns how many of all are
// published.
func known(t *testing.T, h *host, acknowledged map[int64]string) (published int) {
	t.Helper()
	q, err := queue.Open(t.Context(), h.state)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	jobs, err := q.Jobs(t.Context(), queue.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[int64]string)
	for _, j := range jobs {
		there[j.ID] = j.Digest
		switch j.State {
		case queue.Published:
			published++
		case queue.Accepted, queue.Ready:
		default:
			t.Errorf("job %d is %s: %s", j.ID, j.State, j.Reason)
		}
	}
	for id, digest := range acknowledged {
		if there[id] != digest {
			t.Errorf("job %d was acknowledged and is lost", id)
		}
	}
	return published
}
