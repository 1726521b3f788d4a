// Package tune finds the settings with which a bucket takes most bytes a second.
//
// What it costs is bounded before it begins, in bytes, time and requests. Everything that
// it stores is below one prefix of its own, and is removed when it ends, however it ends.
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

// A Setting is what is tried.
type Setting struct {
	Concurrency int   `json:"concurrency"` // requests in flight
	PartSize    int64 `json:"part_size"`   // bytes
}

// A Trial is a setting and what it gave.
type Trial struct {
	Setting
	Bytes int64         `json:"bytes"`   // sent, and counted
	Took  time.Duration `json:"took_ns"` // to send them
	Rate  float64       `json:"rate"`    // bytes a second
}

// Bounds are what a run must not exceed.
type Bounds struct {
	Bytes int64         // sent in all, about: what is on its way when they are reached is sent
	Time  time.Duration // without what cleaning up takes
}

// Settings that are tried: first the concurrencies, with the first part size; then the
// other part sizes, with the best concurrency.
var (
	concurrencies = []int{16, 32, 64, 128}
	partSizes     = []int64{8 << 20, 16 << 20, 32 << 20}
)

// trials is how many there are.
var trials = len(concurrencies) + len(partSizes) - 1

// objects are sent at once in a trial, so that hashing one of them is not what is measured.
const objects = 4

// Requests is how many requests that write, and cost, a run makes at most, without retries.
func (b Bounds) Requests() int {
	parts := int((b.Bytes + partSizes[0] - 1) / partSizes[0])
	return parts + trials*(objects*(overhead+1)+concurrencies[len(concurrencies)-1]) + 2
}

// overhead is what an object takes beside its parts: a listing, begin, complete, and two to find what is left of it; one more is
// for the listing that finds it again.
const overhead = 5

// A Place is where a run measures.
type Place interface {
	mirror.Lister
	mirror.Writer
	mirror.Deleter
	mirror.Sweeper
}

// Run tries the settings and tells each trial as it ends. open returns the place as it is
// written to with a setting; all of them are the same place, which holds nothing else.
func Run(ctx context.Context, open func(Setting) (Place, error), b Bounds, observe func(Trial)) (best Trial, err error) {
	first, err := open(Setting{concurrencies[0], partSizes[0]})
	if err != nil {
		return Trial{}, err
	}
	// What cannot be removed must not be stored: we find out with as little as possible.
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

// cleanTime is how long we try to remove what we have stored, whether we were stopped or not.
const cleanTime = time.Minute

// late is how long a server may still be at a request that we have taken back: the object that
// it completes is there only then.
const late = 2 * time.Second

// cleanUp removes everything until nothing is left, and nothing has come late.
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

// clean removes everything that is in the place now, uploads that were begun among it, and says how
// much it was. broken are names whose uploads may be unfinished: some stores list those of whole names only.
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
	broken []string   // names of objects that were not sent whole
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

// closeTo is how much less a smaller setting may give to be as good: less than that is chance.
const closeTo = 0.95

// best is the first trial that is about as good as any.
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

// errEnough ends a trial that has used up its time.
var errEnough = errors.New("enough was measured")

// try sends objects until a share of the bounds is used up.
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
		m.stop() // before what is on its way is taken back
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

// content is noise of a size, which takes no memory.
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
