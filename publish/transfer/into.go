package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

const (
	// fetches is the number of concurrent transfers: enough to hide the latency of requests.
	fetches = 64
	// inMemory is the size in bytes up to which an object is kept in memory. Most specs and many packages are
	// smaller.
	inMemory = 256 << 10
	// onDisk limits the total bytes of temporary files. An object larger than that is transferred alone.
	onDisk = 8 << 30

	// attempts is the maximum number of requests for an object if transfers are cut off.
	attempts   = 5
	firstPause = 250 * time.Millisecond
)

// A Relay moves objects. All stores that it returns share its limits.
type Relay struct {
	dir   string
	count *semaphore.Weighted
	disk  *semaphore.Weighted
}

// NewRelay returns a Relay that keeps large objects in files below dir; empty: the system's directory for
// temporary files. The files take as many bytes as the large objects in transfer.
func NewRelay(dir string) *Relay {
	return &Relay{dir, semaphore.NewWeighted(fetches), semaphore.NewWeighted(onDisk)}
}

// Into returns a store that stores in s, and that also accepts Contents.
func (r *Relay) Into(s mirror.Store) mirror.Store { return target{s, r} }

// A target is a store that accepts Contents.
type target struct {
	mirror.Store
	relay *Relay
}

// Unwrap returns the store behind it: see mirror.ProverOf.
func (t target) Unwrap() any { return t.Store }

// Create implements mirror.Writer.
func (t target) Create(ctx context.Context, u mirror.Upload) error {
	if c, ok := u.Content.(*Content); ok {
		done, err := t.relay.copy(ctx, mirror.CopierOf(t.Store), c, u)
		if done || err != nil {
			return err
		}
	}
	return t.with(ctx, u, func(u mirror.Upload) error { return t.Store.Create(ctx, u) })
}

// copy lets the storage of the destination copy an object itself, if it can.
func (r *Relay) copy(ctx context.Context, to mirror.Copier, c *Content, u mirror.Upload) (done bool, err error) {
	if to == nil {
		return false, nil
	}
	if err := r.count.Acquire(ctx, 1); err != nil {
		return false, err
	}
	defer r.count.Release(1)
	err = to.CopyFrom(ctx, c.from, c.name, u)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return false, nil
	case errors.Is(err, mirror.ErrNotExist):
		return false, &GoneError{c.name}
	}
	return err == nil, err
}

// Swap implements mirror.Swapper.
func (t target) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (now mirror.Version, err error) {
	err = t.with(ctx, u, func(u mirror.Upload) error {
		now, err = t.Store.Swap(ctx, u, was)
		return err
	})
	return now, err
}

// with calls store with an upload whose content has been fetched, or arrives while it is stored.
func (t target) with(ctx context.Context, u mirror.Upload, store func(mirror.Upload) error) error {
	c, ok := u.Content.(*Content)
	switch {
	case !ok:
		return store(u)
	case mirror.StreamerOf(t.Store) != nil:
		return again(ctx, func() error { return t.relay.stream(ctx, c, u, store) })
	}
	return t.relay.keep(ctx, c, u, store)
}

// keep fetches an object completely before it is stored.
func (r *Relay) keep(ctx context.Context, c *Content, u mirror.Upload, store func(mirror.Upload) error) error {
	if err := r.count.Acquire(ctx, 1); err != nil {
		return err
	}
	defer r.count.Release(1)
	weight := min(c.size, onDisk)
	if c.size <= inMemory {
		weight = 0
	}
	if err := r.disk.Acquire(ctx, weight); err != nil {
		return err
	}
	defer r.disk.Release(weight)
	here, err := r.fetch(ctx, c, u.Digest)
	if err != nil {
		return err
	}
	defer here.close()
	u.Content = here
	return store(u)
}

// stream stores an object as it arrives. The next object is requested when this one has arrived, not when it
// is durable.
func (r *Relay) stream(ctx context.Context, c *Content, u mirror.Upload, store func(mirror.Upload) error) error {
	if err := r.count.Acquire(ctx, 1); err != nil {
		return err
	}
	here := &arriving{Content: *c, arrived: sync.OnceFunc(func() { r.count.Release(1) })}
	defer here.arrived()
	here.ctx = ctx
	u.Content = here
	var sent int64
	tell := u.Sent
	if tell != nil {
		u.Sent = func(n int64) { sent += n; tell(n) }
	}
	err := store(u)
	if err != nil && tell != nil {
		tell(-sent)
	}
	if mismatch, ok := errors.AsType[*blob.MismatchError](err); ok {
		return mismatch // an error of the source, although the destination detected it
	}
	if err != nil && here.err != nil {
		return here.err
	}
	return err
}

// fetch requests an object until it has arrived completely, and compares its digest with want.
func (r *Relay) fetch(ctx context.Context, c *Content, want blob.Digest) (*fetched, error) {
	here, err := r.room(c.size)
	if err != nil {
		return nil, err
	}
	if err := again(ctx, func() error { return here.receive(ctx, c, want) }); err != nil {
		here.close()
		return nil, err
	}
	return here, nil
}

// again repeats try if it fails because a body was cut off.
func again(ctx context.Context, try func() error) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		err := try()
		var cut *cutError
		if ctx.Err() != nil || attempt == attempts || !errors.As(err, &cut) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause *= 2
	}
}

// fetched is an object that was fetched. It is a blob.Source.
type fetched struct {
	size    int64
	content []byte   // of a small object
	file    *os.File // of a large object; its name is already removed
}

func (r *Relay) room(size int64) (*fetched, error) {
	if size <= inMemory {
		return &fetched{size: size, content: make([]byte, size)}, nil
	}
	f, err := os.CreateTemp(r.dir, "publish-transfer-")
	if err != nil {
		return nil, fmt.Errorf("keep an object on its way: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("keep an object on its way: %w", err)
	}
	return &fetched{size: size, file: f}, nil
}

func (f *fetched) receive(ctx context.Context, c *Content, want blob.Digest) error {
	o, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer o.Body.Close()
	if o.Size != c.size {
		return &blob.MismatchError{Name: c.name, WantSize: c.size, GotSize: o.Size, Want: want}
	}
	h := sha256.New()
	body := &watched{Reader: o.Body}
	if err := f.fill(io.TeeReader(body, h)); err != nil {
		return fmt.Errorf("read %s from the source: %w", c.name, body.blamed(err))
	}
	if got := blob.Digest(h.Sum(nil)); want.Known() && got != want {
		return &blob.MismatchError{Name: c.name, WantSize: c.size, GotSize: c.size, Want: want, Got: got}
	}
	return nil
}

// A cutError means that a body was cut off, so that another request may succeed.
type cutError struct{ error }

func (e *cutError) Unwrap() error { return e.error }

// watched is a body that distinguishes errors of reading it from errors of writing it elsewhere.
type watched struct {
	io.Reader
	failed bool
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.failed = w.failed || err != nil // EOF counts, too: if it comes too early, the body was cut off
	return n, err
}

func (w *watched) blamed(err error) error {
	if w.failed {
		return &cutError{err}
	}
	return err
}

// fill reads the content from a body. If the body is too short, the error is io.ErrUnexpectedEOF.
func (f *fetched) fill(body io.Reader) error {
	if f.file == nil {
		_, err := io.ReadFull(body, f.content)
		if err == io.EOF && f.size > 0 {
			err = io.ErrUnexpectedEOF
		} else if err == io.EOF {
			err = nil
		}
		return err
	}
	n, err := io.Copy(io.NewOffsetWriter(f.file, 0), io.LimitReader(body, f.size))
	if err == nil && n < f.size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Size implements blob.Source.
func (f *fetched) Size() int64 { return f.size }

// Open implements blob.Source.
func (f *fetched) Open() (blob.Reader, error) {
	if f.file == nil {
		return blob.Bytes(f.content).Open()
	}
	return shared{f.file}, nil
}

func (f *fetched) close() {
	if f.file != nil {
		f.file.Close()
	}
}

// shared is a file that stays open for further readers.
type shared struct{ io.ReaderAt }

func (shared) Close() error { return nil }
