// Package tune finds the settings with the highest upload rate to a bucket.
//
// The cost of a run is bounded in advance, in bytes, time and requests. All objects that a run stores are below one
// prefix of its own. They are removed at the end of the run, also after an error.
package tune

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	smithytime "github.com/aws/smithy-go/time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Setting is one combination of settings to measure.
type Setting struct {
	Concurrency int   `json:"concurrency"` // requests in flight
	PartSize    int64 `json:"part_size"`   // bytes
}

// A Trial is a setting and its measured rate.
type Trial struct {
	Setting
	Bytes int64         `json:"bytes"`   // sent while it was measured
	Took  time.Duration `json:"took_ns"` // time in which Bytes were sent
	Rate  float64       `json:"rate"`    // bytes per second
}

// Bounds are the limits of a run.
type Bounds struct {
	Bytes int64         // sent in total, about: bytes in flight at the limit are still sent
	Time  time.Duration // without the time for cleaning up
}

// The settings to measure: first all concurrencies with the first part size, and then the other part sizes with the
// best concurrency.
var (
	concurrencies = []int{16, 32, 64, 128}
	partSizes     = []int64{8 << 20, 16 << 20, 32 << 20}
)

// trials is the number of trials of a run.
var trials = len(concurrencies) + len(partSizes) - 1

// objects is the number of objects that a trial sends in parallel. With one object, a trial would measure the time
// for hashing it.
const objects = 4

// Requests returns the maximum number of billed write requests of a run, without retries.
func (b Bounds) Requests() int {
	parts := int((b.Bytes + partSizes[0] - 1) / partSizes[0])
	return parts + trials*(objects*(overhead+1)+concurrencies[len(concurrencies)-1]) + 2
}

// overhead is the number of requests for an object besides its parts: a listing, begin, complete, and two that find
// its leftovers. A further request is for the listing that finds the object again.
const overhead = 5

// A Place is the part of a bucket in which a run stores objects.
type Place interface {
	mirror.Lister
	mirror.Writer
	mirror.Deleter
	mirror.Sweeper
}

// Run measures the settings, passes each trial to observe when it ends, and returns the best trial. open returns
// the place with a setting applied. All places must be the same part of the bucket and hold nothing else, because
// Run removes everything in it.
func Run(ctx context.Context, open func(Setting) (Place, error), b Bounds, observe func(Trial)) (best Trial, err error) {
	first, err := open(Setting{concurrencies[0], partSizes[0]})
	if err != nil {
		return Trial{}, err
	}
	// Objects that cannot be removed must not be stored. A first small object shows whether removing works.
	if err := first.Create(ctx, upload("probe", content{1})); err != nil {
		return Trial{}, err
	}
	r := run{open: open, bounds: b, observe: observe}
	defer func() { err = errors.Join(err, cleanUp(ctx, first, r.broken)) }()
	if _, err := clean(ctx, first, nil); err != nil {
		return Trial{}, fmt.Errorf("clean up: %w", err)
	}
	return r.all(ctx)
}

// cleanTime is the time limit for removing the stored objects, also after a cancelled run.
const cleanTime = time.Minute

// late is how long a server may still process a request after we have cancelled it. The object that this request
// completes appears only then.
const late = 2 * time.Second

// cleanUp removes all objects, repeatedly, until it finds none that has appeared late.
func cleanUp(ctx context.Context, p Place, broken []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	_, err := clean(ctx, p, broken)
	for removed := 1; err == nil && removed > 0; {
		if err = smithytime.SleepWithContext(ctx, late); err == nil {
			removed, err = clean(ctx, p, broken)
		}
	}
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// clean removes all objects and unfinished uploads that are in the place now, and returns their number. broken are
// names of objects whose uploads may be unfinished: some stores list unfinished uploads only by whole names.
func clean(ctx context.Context, p Place, broken []string) (removed int, err error) {
	for _, prefix := range append([]string{""}, broken...) {
		for left, err := range p.Leftovers(ctx, prefix) {
			if err != nil {
				return removed, err
			}
			if err := p.Discard(ctx, left); err != nil {
				return removed, err
			}
			removed++
		}
	}
	for info, err := range p.List(ctx, mirror.Range{}) {
		if err != nil {
			return removed, err
		}
		if err := p.Delete(ctx, info.Name, info.Version); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

type run struct {
	open    func(Setting) (Place, error)
	bounds  Bounds
	observe func(Trial)
	done    []Trial

	mu     sync.Mutex // guards broken
	broken []string   // names of objects that were not sent completely
}

func (r *run) all(ctx context.Context) (Trial, error) {
	for _, c := range concurrencies {
		if err := r.try(ctx, Setting{c, partSizes[0]}); err != nil {
			return Trial{}, err
		}
	}
	c := best(r.done).Concurrency
	for _, size := range partSizes[1:] {
		if err := r.try(ctx, Setting{c, size}); err != nil {
			return Trial{}, err
		}
	}
	return best(r.done), nil
}

// closeTo is the fraction of the highest rate that counts as equally good. Smaller differences are chance.
const closeTo = 0.95

// best returns the first trial whose rate is about as good as the highest.
func best(done []Trial) Trial {
	most := 0.0
	for _, t := range done {
		most = max(most, t.Rate)
	}
	for _, t := range done {
		if t.Rate >= closeTo*most {
			return t
		}
	}
	return Trial{}
}

// errEnough ends a trial whose share of the time is over.
var errEnough = errors.New("enough was measured")

// try measures a setting: it sends objects until its share of the bytes or of the time is used up.
func (r *run) try(ctx context.Context, s Setting) error {
	p, err := r.open(s)
	if err != nil {
		return err
	}
	share := r.bounds.Time / time.Duration(trials)
	size := r.bounds.Bytes / int64(trials*objects)
	trial, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	m := meter{began: time.Now(), warmUp: share / 3, warmBytes: size * objects / 3}
	enough := time.AfterFunc(share, func() {
		m.stop() // before requests in flight are cancelled, and their bytes taken back
		stop(errEnough)
	})
	defer enough.Stop()
	g, gctx := defect.WithContext(trial)
	for i := range objects {
		u := upload(fmt.Sprintf("%d-%d-%d", s.Concurrency, s.PartSize, i), content{size})
		u.Sent = m.sent
		g.Go(func() error {
			err := p.Create(gctx, u)
			if err != nil {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.broken = append(r.broken, u.Name)
			}
			return err
		})
	}
	err = g.Wait()
	m.stop()
	if err != nil && (ctx.Err() != nil || context.Cause(trial) != errEnough) {
		return err
	}
	t := m.trial(s)
	r.done = append(r.done, t)
	r.observe(t)
	return nil
}

func upload(name string, c content) mirror.Upload {
	return mirror.Upload{Name: name, Content: c, Type: "application/octet-stream", CacheControl: "no-store"}
}

// content is random data of a size. It takes no memory of that size.
type content struct{ size int64 }

var noise = sync.OnceValue(func() []byte {
	block := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(block)
	return block
})

func (c content) Size() int64                { return c.size }
func (c content) Open() (blob.Reader, error) { return c, nil }
func (content) Close() error                 { return nil }

func (c content) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off+int64(n) < c.size {
		block := noise()
		at := (off + int64(n)) % int64(len(block))
		n += copy(p[n:min(int64(len(p)), c.size-off)], block[at:])
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}
