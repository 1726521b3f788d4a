package lead

import (
	"context"
	"io"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A beat shows other publishers that the leader makes progress.
type beat struct {
	stop    context.CancelFunc
	group   defect.Group
	work    atomic.Int64   // grows with all data received or sent
	version mirror.Version // of the lead; read when the group is done
	first   bool           // no other leader before for this version of the index
}

// Work calls do with a store that reports the progress of its requests to other publishers. If the leader's
// requests get no answer, the beats stop, although its process is alive.
func (t *Turn) Work(ctx context.Context, s Store, do func(Store) error) error {
	ctx, cancel := context.WithCancel(ctx)
	b := &beat{stop: cancel, version: t.version, first: t.claim.Attempt == 0}
	t.beat = b
	b.group.Go(func() error {
		t.beats(ctx, b)
		return nil
	})
	defer t.stop()
	return do(&working{s, b})
}

// stop ends the beats and returns the version of the lead.
func (t *Turn) stop() mirror.Version {
	if b := t.beat; b != nil {
		t.beat = nil
		b.stop()
		b.group.Wait()
		t.version = b.version
	}
	return t.version
}

func (t *Turn) beats(ctx context.Context, b *beat) {
	last := int64(0)
	for n, pause := 1, firstBeat; ; n, pause = n+1, beatEvery {
		if sleep(ctx, pause) != nil {
			return
		}
		now := b.work.Load()
		if now == last {
			continue
		}
		last = now
		c := t.claim
		c.Beat = n
		version, err := t.p.store.Swap(ctx, upload(t.name, encode(c), layout.Revalidate), b.version)
		if err != nil {
			return // another publisher took over, or will do so after its patience
		}
		b.version = version
	}
}

// A working store counts the progress of its requests.
type working struct {
	Store
	beat *beat
}

// Unwrap returns the store: see mirror.ProverOf.
func (w *working) Unwrap() any { return w.Store }

func (w *working) moved() { w.beat.work.Add(1) }

func (w *working) Open(ctx context.Context, name string) (*mirror.Object, error) {
	o, err := w.Store.Open(ctx, name)
	if err == nil {
		w.moved()
		o.Body = &workingBody{o.Body, w}
	}
	return o, err
}

type workingBody struct {
	io.ReadCloser
	w *working
}

func (b *workingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.moved()
	return n, err
}

func (w *working) Stat(ctx context.Context, name string) (mirror.Info, error) {
	info, err := w.Store.Stat(ctx, name)
	w.moved()
	return info, err
}

func (w *working) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		for info, err := range w.Store.List(ctx, r) {
			w.moved()
			if !yield(info, err) {
				return
			}
		}
	}
}

// Create stores an object. For the first leader of a version of the index, no other publisher has begun to
// store it.
func (w *working) Create(ctx context.Context, u mirror.Upload) error {
	u.Fresh = w.beat.first
	err := w.Store.Create(ctx, w.watched(u))
	w.moved()
	return err
}

func (w *working) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	version, err := w.Store.Swap(ctx, w.watched(u), was)
	w.moved()
	return version, err
}

func (w *working) watched(u mirror.Upload) mirror.Upload {
	sent := u.Sent
	var mu sync.Mutex // guards sent, which is called for one part at a time
	u.Sent = func(n int64) {
		w.moved()
		if sent != nil {
			mu.Lock()
			defer mu.Unlock()
			sent(n)
		}
	}
	return u
}
