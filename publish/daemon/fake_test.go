package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeWork is a source and its destination, in memory. It is stricter than real ones: it fails
// the test when a package is published that is not whole, or published twice.
type fakeWork struct {
	t *testing.T

	// mu guards what follows while one call is answered.
	mu        sync.Mutex
	files     map[string]parcel
	published map[string]time.Time // by digest
	runs      []int                // how many packages each had
	requests  int                  // to the destination
	down      error                // what the destination says
	poison    string               // the digest of what lets every run fail
	takes     time.Duration        // a run
	refuses   map[string]string    // by digest
	caches    bool
	owing     []string // what was told to caches
	deaf      error    // what caches say
	checks    map[string]int
}

type parcel struct {
	digest string
	bytes  int64
	state  error         // what Check says
	broken error         // what Read says
	takes  time.Duration // to check
}

var errHalf = errors.New("blobs/sha256/ab/abc has 3 bytes, its manifest says 4")

func newFakeWork(t *testing.T) *fakeWork {
	return &fakeWork{t: t, files: make(map[string]parcel), published: make(map[string]time.Time), refuses: make(map[string]string), checks: make(map[string]int)}
}

func (y *fakeWork) put(name string, p parcel) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if p.digest == "" {
		p.digest = "sha256 of " + name
	}
	y.files[name] = p
}

// fill puts whole packages there and returns their digests.
func (y *fakeWork) fill(n int) []string {
	var all []string
	for i := range n {
		name := fmt.Sprintf("spec/p%05d", i)
		y.put(name, parcel{bytes: 1000})
		all = append(all, "sha256 of "+name)
	}
	return all
}

func (y *fakeWork) remove(name string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	delete(y.files, name)
}

func (y *fakeWork) set(change func()) {
	y.mu.Lock()
	defer y.mu.Unlock()
	change()
}

func (y *fakeWork) Arrivals(_ context.Context, dir string) iter.Seq2[daemon.File, error] {
	y.mu.Lock()
	files := maps.Clone(y.files)
	y.mu.Unlock()
	return func(yield func(daemon.File, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if strings.HasPrefix(name, dir) && !yield(daemon.File{Name: name, Mark: files[name].digest}, nil) {
				return
			}
		}
	}
}

func (y *fakeWork) Close() error { return nil }

func (y *fakeWork) MayHold(string) bool { return true }

func (y *fakeWork) Read(_ context.Context, file string) (daemon.Package, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	p, ok := y.files[file]
	switch {
	case !ok && strings.HasPrefix(file, "spec/"):
		return daemon.Package{}, arrival.ErrGone
	case !ok:
		return daemon.Package{}, arrival.ErrNoDocument
	case p.broken != nil:
		return daemon.Package{}, p.broken
	}
	return daemon.Package{File: file, Digest: p.digest, ID: file, Bytes: p.bytes}, nil
}

func (y *fakeWork) Check(ctx context.Context, p daemon.Package, read func(int64)) error {
	y.mu.Lock()
	y.checks[p.Digest]++
	f, ok := y.files[p.File]
	y.mu.Unlock()
	select {
	case <-time.After(f.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case !ok:
		return arrival.ErrGone
	case f.digest != p.Digest:
		return arrival.ErrAnother
	case f.state == nil:
		read(f.bytes)
	}
	return f.state
}

func (y *fakeWork) Publish(ctx context.Context, r *daemon.Run) (daemon.Result, error) {
	y.mu.Lock()
	y.requests++
	y.runs = append(y.runs, len(r.Packages))
	down, takes, caches := y.down, y.takes, y.caches
	y.mu.Unlock()
	if down != nil {
		return daemon.Result{}, down
	}
	if caches {
		if err := r.Intend([]byte("intended")); err != nil {
			return daemon.Result{}, err
		}
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return daemon.Result{}, ctx.Err()
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	out := daemon.Result{Refused: map[string]string{}, Indices: []daemon.IndexStatus{{Layout: "v3", Packages: len(y.published), Written: true}}}
	for _, p := range r.Packages {
		if p.Digest == y.poison {
			return daemon.Result{}, &daemon.RunError{Suspect: true, Err: errors.New("another object is already there")}
		}
	}
	for _, p := range r.Packages {
		f := y.files[p.File]
		reason := y.refuses[p.Digest]
		switch {
		case f.digest != p.Digest || f.state != nil:
			out.Refused[p.File] = "its content is not what its document says"
		case reason != "":
			out.Refused[p.File] = reason
		default:
			if _, twice := y.published[p.Digest]; twice {
				y.t.Errorf("%s is published twice", p.Digest)
			}
			y.published[p.Digest] = time.Now()
			out.Objects++
		}
		r.Progress.Sent(p.ID, p.Bytes, p.Bytes)
	}
	if caches {
		out.Obligation = fmt.Appendf(nil, "run %d", len(y.runs))
	}
	return out, nil
}

func (y *fakeWork) Invalidate(_ context.Context, owed [][]byte) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.requests++
	if y.deaf != nil {
		return y.deaf
	}
	for _, o := range owed {
		y.owing = append(y.owing, string(o))
	}
	return nil
}

func (y *fakeWork) has(digests ...string) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	n := 0
	for _, d := range digests {
		if _, ok := y.published[d]; ok {
			n++
		}
	}
	return n
}

func (y *fakeWork) total() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.published)
}

func (y *fakeWork) when(digest string) time.Time {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.published[digest]
}

func (y *fakeWork) ran() []int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return slices.Clone(y.runs)
}

func (y *fakeWork) told() []string {
	y.mu.Lock()
	defer y.mu.Unlock()
	return slices.Clone(y.owing)
}

func (y *fakeWork) looked(digest string) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.checks[digest]
}

func (y *fakeWork) asked() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.requests
}

func (y *fakeWork) mirror(name string) daemon.Mirror {
	return daemon.Mirror{
		Name: name, Source: "/srv/" + name, Destination: "s3://" + name, Fingerprint: "1",
		Settle: time.Second, MaxDelay: 5 * time.Second, Scan: time.Minute, Stuck: 10 * time.Minute, Work: y,
	}
}

// A running daemon, and its queue.
type running struct {
	*daemon.Daemon
	q    *queue.Queue
	stop func()
	log  *lockedBuilder
}

// begin runs a daemon with its queue in dir until the test ends, or stop is called.
func begin(t *testing.T, dir string, mirrors ...daemon.Mirror) *running {
	t.Helper()
	q, err := queue.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var log lockedBuilder
	d := daemon.New(daemon.Options{
		Queue: q, Log: slog.New(slog.NewTextHandler(&log, nil)), Keep: 30 * 24 * time.Hour, Grace: 20 * time.Second, Stalled: 5 * time.Minute,
		Class: func(error) string { return "upload" },
	}, mirrors)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	t.Cleanup(stop)
	return &running{d, q, stop, &log}
}

type lockedBuilder struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (r *running) count(t *testing.T, mirror daemon.Mirror, s queue.State) int {
	t.Helper()
	counts, err := r.q.Count(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return counts[mirror.Key()][s].Jobs
}

func (r *running) status(t *testing.T) daemon.Status {
	t.Helper()
	s, err := r.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
