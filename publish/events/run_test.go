package events_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/events/eventstest"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bucket = "cache"

// documentOf is the name of some package's document in a mirror.
func documentOf(mirror string, n int) string {
	hash := strings.Map(func(r rune) rune { return 'a' + r - '0' }, fmt.Sprintf("%032d", n))
	return strings.TrimPrefix(mirror+"/"+layout.V3Specs+"zlib/zlib-1-"+hash+".spec.manifest.json", "/")
}

func stored(name string) string { return records(s3Record("ObjectCreated:Put", bucket, name)) }

// A healer remembers what it was given.
type healer struct {
	takes time.Duration
	left  func(events.Changes) (map[string]string, error)

	mu   sync.Mutex
	jobs []events.Changes
	busy map[string]int
	most int // mirrors at once

	overlaps int // jobs of a mirror that was being healed
}

func (h *healer) heal(ctx context.Context, j events.Changes) (events.Result, error) {
	h.mu.Lock()
	if h.busy == nil {
		h.busy = map[string]int{}
	}
	h.jobs = append(h.jobs, j)
	h.busy[j.Mirror]++
	h.most = max(h.most, len(h.busy))
	if h.busy[j.Mirror] > 1 {
		h.overlaps++
	}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.busy[j.Mirror]--; h.busy[j.Mirror] == 0 {
			delete(h.busy, j.Mirror)
		}
	}()
	select {
	case <-ctx.Done():
		return events.Result{}, ctx.Err()
	case <-time.After(h.takes):
	}
	if h.left == nil {
		return events.Result{}, nil
	}
	left, err := h.left(j)
	return events.Result{Left: left}, err
}

// serve runs c for a while of virtual time.
func serve(t *testing.T, c events.Config, during time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	if err := events.New(c).Run(ctx); err != nil {
		t.Error(err)
	}
}

// What is told of a mirror within seconds is one job, and mirrors do not wait for each other.
func TestOneJobForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		h := &healer{takes: 2 * time.Second}
		var want []events.Changes
		for _, m := range []string{"", "noble/spack", "slurm/25.11/buildcache"} {
			j := events.Changes{Mirror: m}
			for i := range 100 {
				name := documentOf(m, i)
				q.Send(stored(name))
				j.Names = append(j.Names, strings.TrimPrefix(name, m+"/"))
			}
			want = append(want, j)
		}
		var done []events.Done
		var mu sync.Mutex
		began := time.Now()
		serve(t, events.Config{Queue: q, Bucket: bucket, Update: h.heal, Observe: func(d events.Done) {
			mu.Lock()
			defer mu.Unlock()
			done = append(done, d)
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("%q: after %v", d.Mirror, took)
			}
		}}, time.Minute)
		slices.SortFunc(h.jobs, func(a, b events.Changes) int { return strings.Compare(a.Mirror, b.Mirror) })
		if diff := cmp.Diff(want, h.jobs); diff != "" {
			t.Errorf("jobs (-want +got):\n%s", diff)
		}
		if h.most != 3 || len(done) != 3 || done[0].Messages != 100 || done[0].Took != 2*time.Second {
			t.Errorf("%d mirrors at once; done: %+v", h.most, done)
		}
		if n, _ := left(q); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// Who never stops telling is heard every half minute, or when the job before is done: there are no
// two for one mirror at a time.
func TestEndlessStreamIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		h := &healer{takes: 40 * time.Second}
		go func() {
			for i := range 300 {
				q.Send(stored(documentOf("m", i)))
				time.Sleep(time.Second)
			}
		}()
		serve(t, events.Config{Queue: q, Bucket: bucket, Update: h.heal}, 6*time.Minute)
		if len(h.jobs) < 7 || len(h.jobs) > 9 || h.overlaps > 0 {
			t.Errorf("%d jobs, %d of them while another was at it", len(h.jobs), h.overlaps)
		}
		if n, _ := left(q); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// A message stays hidden while it is worked on, however long that takes, and is deleted only
// afterwards.
func TestHiddenWhileWorkedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		var ended atomic.Bool
		q.Deleting = func(string) {
			if !ended.Load() {
				t.Error("deleted before it was done")
			}
		}
		for i := range 50 {
			q.Send(stored(documentOf("m", i)))
		}
		var all sync.WaitGroup
		for range 3 { // others look for something to do
			h := &healer{takes: time.Hour, left: func(events.Changes) (map[string]string, error) { ended.Store(true); return nil, nil }}
			all.Go(func() { serve(t, events.Config{Queue: q, Bucket: bucket, Update: h.heal}, 2*time.Hour) })
		}
		time.Sleep(30 * time.Minute)
		if n, most := left(q); n != 50 || most != 1 {
			t.Errorf("after half an hour there are %d messages, delivered up to %d times", n, most)
		}
		all.Wait()
		if n, _ := left(q); n != 0 || len(q.Dead()) != 0 {
			t.Errorf("%d left, %d dead", n, len(q.Dead()))
		}
	})
}

// left are how many messages there are, and how often one of them was delivered.
func left(q *eventstest.Queue) (n, most int) {
	for _, deliveries := range q.Left() {
		n, most = n+1, max(most, deliveries)
	}
	return n, most
}

// Who is stopped gives back what it had, and others have it at once. Who dies leaves it to
// them, too.
func TestWhoStopsLeavesItToOthers(t *testing.T) {
	for name, row := range map[string]struct {
		dies   bool
		within time.Duration
	}{"stopped": {false, 5 * time.Second}, "killed": {true, 2*time.Minute + 5*time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			q := eventstest.New(1)
			for i := range 20 {
				q.Send(stored(documentOf("m", i)))
			}
			var dead atomic.Bool
			q.Fault = func(string) error {
				if dead.Load() {
					return errors.New("dead")
				}
				return nil
			}
			first := &healer{takes: time.Hour}
			time.AfterFunc(9*time.Second, func() { dead.Store(row.dies) })
			serve(t, events.Config{Queue: q, Bucket: bucket, Update: first.heal}, 10*time.Second)
			dead.Store(false)
			second := &healer{}
			began := time.Now()
			serve(t, events.Config{Queue: q, Bucket: bucket, Update: second.heal, Observe: func(d events.Done) {
				if took := time.Since(began); took > row.within {
					t.Errorf("%s: taken up after %v", name, took)
				}
			}}, 10*time.Minute)
			var names, again int
			for _, j := range second.jobs {
				names += len(j.Names)
				again += len(j.Again)
			}
			if n, _ := left(q); names != 20 || again != 20 || n != 0 {
				t.Errorf("%s: %d names, %d of them again; %d left", name, names, again, n)
			}
		})
	}
}

// What is left comes again, ever later, until it is in order; what is not, ends where
// somebody sees it. Neither holds anything up.
func TestWhatIsLeftComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		q.MaxDeliveries = 10
		late, never := documentOf("", 1), documentOf("", 2)
		tries := map[string][]time.Duration{}
		began := time.Now()
		h := &healer{left: func(j events.Changes) (map[string]string, error) {
			left := map[string]string{}
			for _, name := range j.Names {
				tries[name] = append(tries[name], time.Since(began).Round(10*time.Second))
				if name == never || name == late && len(tries[name]) < 4 {
					left[name] = "its content is not there yet"
				}
			}
			return left, nil
		}}
		q.Send(stored(late))
		q.Send(stored(never))
		good := stored(documentOf("", 3))
		q.Send(good)
		q.Deleting = func(body string) {
			if body == good && time.Since(began) > 10*time.Second {
				t.Errorf("the good one was done after %v", time.Since(began))
			}
		}
		serve(t, events.Config{Queue: q, Bucket: bucket, Update: h.heal}, 3*time.Hour)
		if diff := cmp.Diff([]string{stored(never)}, q.Dead()); diff != "" || len(q.Left()) != 0 {
			t.Errorf("dead (-want +got):\n%s\n%d left", diff, len(q.Left()))
		}
		if len(tries[late]) != 4 || len(tries[never]) != 10 {
			t.Fatalf("tries: %v", tries)
		}
		if last := tries[never][9]; last < 70*time.Minute || last > 90*time.Minute {
			t.Errorf("the last try was after %v", last)
		}
	})
}

// A message that nobody understands, or that is about another place, is left, and
// soon dead. It is not deleted, and nothing is asked about it.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		q.MaxDeliveries = 10
		poison := []string{"", "hello", `{"a":1}`, records(s3Record("ObjectCreated:Put", "another", layout.V3Index)), stored("other/" + layout.V3Index)}
		// A message of which a part is poison is not deleted, and the rest of it is done.
		half := records(s3Record("ObjectCreated:Put", bucket, "here/"+layout.V3Index), s3Record("ObjectCreated:Put", "another", layout.V3Index))
		for _, body := range append(poison, half, stored("here/noble/"+layout.V2Index)) {
			q.Send(body)
		}
		h := &healer{}
		serve(t, events.Config{Queue: q, Bucket: bucket, Prefix: "here", Update: h.heal}, 10*time.Minute)
		dead := q.Dead()
		slices.Sort(dead)
		want := slices.Sorted(slices.Values(append(poison, half)))
		if diff := cmp.Diff(want, dead); diff != "" || len(q.Left()) != 0 {
			t.Errorf("dead (-want +got):\n%s\n%d left", diff, len(q.Left()))
		}
		seen := map[string]bool{}
		for _, j := range h.jobs {
			seen[j.Mirror+":"+strings.Join(j.Names, " ")] = true
		}
		if diff := cmp.Diff(map[string]bool{"noble:" + layout.V2Index: true, ":" + layout.V3Index: true}, seen); diff != "" {
			t.Errorf("jobs (-want +got):\n%s", diff)
		}
	})
}

// What changes no index is taken from the queue, and nobody is bothered with it: the content of
// packages, plain files, and all that was deleted.
func TestWhatSaysNothingIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		q.Send(stored("m/blobs/sha256/84/8438163f63106cecc80947fe527ca3e80b4614f00f14ecda8443be9ee9c51c7f"))
		q.Send(stored("slurm.tar.gz"))
		q.Send(records(s3Record("ObjectRemoved:Delete", bucket, documentOf("m", 1))))
		q.Send(`{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"cache"}`)
		h := &healer{}
		serve(t, events.Config{Queue: q, Bucket: bucket, Update: h.heal}, time.Minute)
		if len(h.jobs) != 0 || len(q.Left()) != 0 || len(q.Dead()) != 0 {
			t.Errorf("jobs: %v, %d left", h.jobs, len(q.Left()))
		}
	})
}

// An idle host makes three requests a minute, each of which is a long poll but the first one.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &patient{Queue: eventstest.New(1)}
		serve(t, events.Config{Queue: q, Bucket: bucket, Update: (&healer{}).heal}, time.Hour)
		if n := len(q.waits); n < 178 || n > 182 {
			t.Errorf("%d requests in an hour", n)
		}
		if q.waits[0] != 0 || slices.ContainsFunc(q.waits[1:], func(w time.Duration) bool { return w != 20*time.Second }) {
			t.Errorf("waits: %v", q.waits)
		}
	})
}

// patient remembers how long was waited for messages.
type patient struct {
	*eventstest.Queue
	waits []time.Duration
}

func (p *patient) Receive(ctx context.Context, wait, hidden time.Duration) ([]events.Message, error) {
	p.waits = append(p.waits, wait)
	return p.Queue.Receive(ctx, wait, hidden)
}

// A backlog is taken up quickly, and not more of it than one host can keep hidden.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		const many = 12_000
		for i := range many {
			q.Send(stored(documentOf("m", i)))
		}
		h := &healer{takes: 10 * time.Second}
		q.Fault = func(call string) error { time.Sleep(20 * time.Millisecond); return nil }
		held := 0
		var watch sync.WaitGroup
		watch.Go(func() {
			for range 300 {
				held = max(held, len(q.Left())-q.Visible())
				time.Sleep(2 * time.Second)
			}
		})
		serve(t, events.Config{Queue: q, Bucket: bucket, Update: h.heal}, 11*time.Minute)
		watch.Wait()
		if len(q.Left()) != 0 {
			t.Errorf("%d left", len(q.Left()))
		}
		if held > 5100 {
			t.Errorf("%d messages were held", held)
		}
		if len(h.jobs) > 12 {
			t.Errorf("%d jobs", len(h.jobs))
		}
	})
}

// A queue that is away for a while is asked again; one that is not there, or not ours, ends it. One that
// was ours is asked again, too: credentials expire, and others come.
func TestQueueFails(t *testing.T) {
	denied, expired := &mirror.DeniedError{Action: "sqs:ReceiveMessage", Name: "q"}, fmt.Errorf("receive: %w", mirror.ErrCredentials)
	for _, row := range []struct {
		err   error
		after time.Duration
		ends  bool
	}{
		{errors.New("connection reset"), 0, false},
		{events.ErrNoQueue, 0, true},
		{denied, 0, true},
		{expired, 0, true},
		{events.ErrNoQueue, time.Minute, true},
		{denied, time.Minute, false},
		{expired, time.Minute, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := eventstest.New(1)
			from := time.Now().Add(row.after)
			until := from.Add(10 * time.Minute)
			var asked atomic.Int64
			q.Fault = func(string) error {
				if asked.Add(1); !time.Now().Before(from) && time.Now().Before(until) {
					return row.err
				}
				return nil
			}
			// When nobody who has asked before is still waiting for an answer.
			time.AfterFunc(row.after+time.Minute, func() { q.Send(stored(documentOf("m", 1))) })
			h := &healer{}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			err := events.New(events.Config{Queue: q, Bucket: bucket, Update: h.heal}).Run(ctx)
			if row.ends != (err != nil) || row.ends && !errors.Is(err, row.err) {
				t.Errorf("%v after %v: error is %v", row.err, row.after, err)
			}
			if !row.ends && (len(h.jobs) != 1 || len(q.Left()) != 0) {
				t.Errorf("jobs: %v, %d left, asked %d times", h.jobs, len(q.Left()), asked.Load())
			}
		})
	}
}

// Whatever the queue does, and whoever dies: every name that was told is healed after it was
// told, each message is deleted only then, and none is lost.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		hosts := rapid.IntRange(1, 4).Draw(rt, "hosts")
		twice := rapid.Float64Range(0, 0.5).Draw(rt, "twice")
		var problem string
		synctest.Test(t, func(t *testing.T) { problem = anyQueue(t, seed, hosts, twice) })
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

func anyQueue(t *testing.T, seed uint64, hosts int, twice float64) (problem string) {
	random := rand.New(rand.NewPCG(seed, 1))
	q := eventstest.New(seed)
	q.Twice = twice
	var mu sync.Mutex                // guards what follows
	healed := map[string]time.Time{} // mirror and name: when a job that was right began
	sent := map[string]time.Time{}   // body
	tells := map[string][]string{}   // body: mirrors and names
	chance := func(p float64) bool { mu.Lock(); defer mu.Unlock(); return random.Float64() < p }
	q.Fault = func(string) error {
		if chance(0.05) {
			return errors.New("connection reset")
		}
		return nil
	}
	q.Deleting = func(body string) {
		mu.Lock()
		defer mu.Unlock()
		for _, at := range tells[body] {
			if when, ok := healed[at]; !ok || when.Before(sent[body]) {
				problem = "deleted, and not healed since it was sent: " + at
			}
		}
	}
	heal := func(ctx context.Context, j events.Changes) (events.Result, error) {
		began := time.Now()
		mu.Lock()
		takes := time.Duration(random.Int64N(int64(5 * time.Minute)))
		mu.Unlock()
		select {
		case <-ctx.Done():
			return events.Result{}, ctx.Err()
		case <-time.After(takes):
		}
		if chance(0.1) {
			return events.Result{}, errors.New("S3 is away")
		}
		left := map[string]string{}
		for _, name := range j.Names {
			if chance(0.1) {
				left[name] = "not there yet"
				continue
			}
			mu.Lock()
			if at := j.Mirror + ":" + name; healed[at].Before(began) {
				healed[at] = began
			}
			mu.Unlock()
		}
		return events.Result{Left: left}, nil
	}
	var all sync.WaitGroup
	end := time.Now().Add(2 * time.Hour)
	for range hosts {
		all.Go(func() {
			for time.Now().Before(end) { // each dies now and then
				mu.Lock()
				life := time.Duration(random.Int64N(int64(30 * time.Minute)))
				mu.Unlock()
				serve(t, events.Config{Queue: q, Bucket: bucket, Update: heal}, life)
			}
			serve(t, events.Config{Queue: q, Bucket: bucket, Update: heal}, 6*time.Hour)
		})
	}
	for i := range 60 {
		var all, told []string
		mu.Lock()
		for range 1 + random.IntN(3) {
			mirror := []string{"", "a", "b/c"}[random.IntN(3)]
			name := documentOf(mirror, random.IntN(20))
			all = append(all, s3Record("ObjectCreated:Put", bucket, name))
			told = append(told, mirror+":"+strings.TrimPrefix(name, mirror+"/"))
		}
		body := records(all...) + strings.Repeat(" ", i) // no two are the same
		sent[body], tells[body] = time.Now(), told
		wait := time.Duration(random.Int64N(int64(2 * time.Minute)))
		mu.Unlock()
		q.Send(body)
		time.Sleep(wait)
	}
	all.Wait()
	if n, most := left(q); n > 0 && problem == "" {
		problem = fmt.Sprintf("%d left, delivered up to %d times", n, most)
	}
	return problem
}
