package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/transfer"
)

// sizes are around those at which an object is kept elsewhere.
var sizes = []int{0, 1, 256 << 10, 256<<10 + 1, 3 << 20}

func contentOf(size int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size] }

// stored returns a mirror with one object.
func stored(t *testing.T, name string, content []byte) mirrortest.Store {
	t.Helper()
	m := mirrortest.NewMem(t)
	m.Plant(name, content)
	return m
}

// upload is that of an object of another mirror, which may be there under another name.
func upload(ctx context.Context, from mirror.Reader, there string, content []byte) mirror.Upload {
	return mirror.Upload{
		Name: nameOf(content), Digest: blob.DigestOf(content), Content: transfer.New(ctx, from, there, int64(len(content)), nil),
		Type: "application/gzip", CacheControl: layout.Immutable,
	}
}

func nameOf(content []byte) string { return layout.V3Blob(blob.DigestOf(content)) }

// streaming is a store that content may be sent to as it arrives.
type streaming struct{ mirrortest.Store }

func (streaming) Streams() {}

// Create tells what it has read before it knows whether there is more.
func (s streaming) Create(ctx context.Context, u mirror.Upload) error {
	r, err := u.Content.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	content := make([]byte, u.Content.Size())
	for off := 0; off < len(content); {
		n, err := r.ReadAt(content[off:min(off+50, len(content))], int64(off))
		if n == 0 {
			return err
		}
		off += n
		if u.Sent != nil {
			u.Sent(int64(n))
		}
	}
	u.Content, u.Sent = blob.Bytes(content), nil
	return s.Store.Create(ctx, u)
}

// kinds are a store that wants content whole, and one that takes it as it arrives.
var kinds = map[string]func(mirrortest.Store) mirrortest.Store{
	"kept":   func(s mirrortest.Store) mirrortest.Store { return s },
	"stream": func(s mirrortest.Store) mirrortest.Store { return streaming{s} },
}

func left(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestWhatArrivesIsWhatWasThere(t *testing.T) {
	for kind, of := range kinds {
		for _, size := range sizes {
			content := contentOf(size)
			name := nameOf(content)
			from, to, dir := stored(t, name, content), of(mirrortest.NewMem(t)), t.TempDir()
			into := transfer.NewRelay(dir).Into(to)
			u := upload(t.Context(), from, name, content)
			if err := into.Create(t.Context(), u); err != nil {
				t.Fatal(err)
			}
			got, _, err := mirror.Read(t.Context(), to, name, 1<<30)
			if err != nil || !bytes.Equal(got, content) || left(t, dir) != 0 {
				t.Errorf("%s, %d bytes: %d arrived, %v, %d files left", kind, size, len(got), err, left(t, dir))
			}
		}
	}
}

// What is wrong with the source is found before anything is stored, and is no fault of the destination.
func TestNothingUncheckedIsStored(t *testing.T) {
	for kind, of := range kinds {
		for _, size := range sizes {
			good := contentOf(size)
			for what, there := range map[string][]byte{
				"other bytes": bytes.Repeat([]byte("x"), size), "more bytes": contentOf(size + 1), "nothing": nil,
			} {
				if bytes.Equal(there, good) && what != "nothing" {
					continue
				}
				name := nameOf(good)
				from := stored(t, name, there)
				if what == "nothing" {
					from = mirrortest.NewMem(t)
				}
				to, dir := of(mirrortest.NewMem(t)), t.TempDir()
				u := upload(t.Context(), from, name, good)
				err := transfer.NewRelay(dir).Into(to).Create(t.Context(), u)
				_, mismatch := errors.AsType[*blob.MismatchError](err)
				if what == "nothing" && !errors.Is(err, blob.ErrChanged) || what != "nothing" && !mismatch {
					t.Errorf("%s, %d bytes, %s: %v", kind, size, what, err)
				}
				if _, err := to.Stat(t.Context(), u.Name); !errors.Is(err, mirror.ErrNotExist) || left(t, dir) != 0 {
					t.Errorf("%s, %d bytes, %s: %v, %d files left", kind, size, what, err, left(t, dir))
				}
			}
		}
	}
}

// A body that breaks off is requested again; one that always does is an error about the source.
func TestBodiesThatBreakOff(t *testing.T) { synctest.Test(t, bodiesThatBreakOff) }

func bodiesThatBreakOff(t *testing.T) {
	for kind, of := range kinds {
		for _, size := range []int{1000, 1 << 20} {
			content := contentOf(size)
			name := nameOf(content)
			from := stored(t, name, content)
			for _, c := range []struct {
				fault mirrortest.Fault
				ok    bool
			}{
				{mirrortest.Nth(1, mirrortest.Cut(name, 100)), true},
				{mirrortest.Cut(name, 100), false},
			} {
				to := of(mirrortest.NewMem(t))
				broken := mirrortest.Break(from, c.fault)
				u := upload(t.Context(), broken, name, content)
				var sent int64
				u.Sent = func(n int64) { sent += n }
				err := transfer.NewRelay(t.TempDir()).Into(to).Create(t.Context(), u)
				if c.ok && sent != int64(size) || !c.ok && sent != 0 {
					t.Errorf("%s, %d bytes, once or always: %v, %d are said to be sent", kind, size, c.ok, sent)
				}
				if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "from the source") {
					t.Errorf("%s, %d bytes, once or always: %v, %v", kind, size, c.ok, err)
				}
			}
		}
	}
}

func TestStoppedWhileFetching(t *testing.T) {
	for kind, of := range kinds {
		content := contentOf(1 << 20)
		name := nameOf(content)
		ctx, cancel := context.WithCancel(t.Context())
		broken := mirrortest.Break(stored(t, name, content), mirrortest.Stall(name))
		to, dir := of(mirrortest.NewMem(t)), t.TempDir()
		cancel()
		err := transfer.NewRelay(dir).Into(to).Create(ctx, upload(ctx, broken, name, content))
		if err == nil || left(t, dir) != 0 {
			t.Errorf("%s: %v, %d files left", kind, err, left(t, dir))
		}
	}
}

// Whatever is not a Content is stored as it is, and a Content can be hashed like a file.
func TestContentIsASource(t *testing.T) {
	content := contentOf(700_001)
	from := stored(t, nameOf(content), content)
	c := transfer.New(t.Context(), from, nameOf(content), int64(len(content)), nil)
	if sum, err := blob.Sum(t.Context(), c); err != nil || sum != blob.DigestOf(content) {
		t.Error(sum, err)
	}
	if all, err := blob.ReadAll(c); err != nil || !bytes.Equal(all, content) {
		t.Error(len(all), err)
	}
	r, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := make([]byte, 10)
	for _, off := range []int64{500, 510, 3, 699_991} {
		if n, err := r.ReadAt(p, off); n != 10 || err != nil || !bytes.Equal(p, content[off:off+10]) {
			t.Errorf("at %d: %d, %v", off, n, err)
		}
	}
	if _, err := blob.Sum(t.Context(), transfer.New(t.Context(), from, nameOf(content), 5, nil)); err == nil {
		t.Error("another size is not noticed")
	}
	to := mirrortest.NewMem(t)
	into := transfer.NewRelay("").Into(to)
	if _, err := into.Swap(t.Context(), mirror.Upload{Name: "v3/layout.json", Content: blob.Bytes([]byte("{}")), Type: "application/json", CacheControl: layout.Revalidate}, mirror.Absent); err != nil {
		t.Error(err)
	}
}

// A copier is a store that can copy by itself, as far as it says.
type copier struct {
	mirror.Store
	err   error
	asked *int
}

func (c copier) CopyFrom(ctx context.Context, from mirror.Reader, name string, u mirror.Upload) error {
	*c.asked++
	if c.err != nil {
		return c.err
	}
	content, _, err := mirror.Read(ctx, from, name, 1<<30)
	if err != nil {
		return err
	}
	u.Content = blob.Bytes(content)
	return c.Create(ctx, u)
}

// A store that copies by itself is asked first. What it does not vouch for is read and sent, and what it fails with is not hidden.
func TestAStoreThatCopiesIsAskedFirst(t *testing.T) {
	content := contentOf(1000)
	name := nameOf(content)
	down := errors.New("down")
	for _, c := range []struct {
		err   error
		reads bool
		ok    func(error) bool
	}{
		{nil, false, func(err error) bool { return err == nil }},
		{errors.ErrUnsupported, true, func(err error) bool { return err == nil }},
		{mirror.ErrNotExist, false, func(err error) bool { return errors.Is(err, blob.ErrChanged) }},
		{down, false, func(err error) bool { return errors.Is(err, down) }},
	} {
		asked := 0
		from, to := mirrortest.Break(stored(t, name, content)), mirrortest.NewMem(t)
		u := upload(t.Context(), from, name, content)
		err := transfer.NewRelay(t.TempDir()).Into(copier{to, c.err, &asked}).Create(t.Context(), u)
		reads := len(from.Calls()) > 0
		if !c.ok(err) || asked != 1 || c.err != nil && reads != c.reads {
			t.Errorf("%v: %v, asked %d times, read: %v", c.err, err, asked, reads)
		}
	}
}

// slow is a store that has read what it stores long before that is durable.
type slow struct {
	streaming
	read    func()
	durable chan struct{}
}

func (s slow) Create(ctx context.Context, u mirror.Upload) error {
	content, err := blob.ReadAll(u.Content)
	if err != nil {
		return err
	}
	s.read()
	<-s.durable
	u.Content = blob.Bytes(content)
	return s.streaming.Create(ctx, u)
}

// The line does not wait for the disk: however many objects are not durable yet, others are requested.
func TestTheLineDoesNotWaitForTheDisk(t *testing.T) {
	const many = 200 // more than are requested at once
	synctest.Test(t, func(t *testing.T) {
		var read atomic.Int32
		to := slow{streaming{mirrortest.NewMem(t)}, func() { read.Add(1) }, make(chan struct{})}
		into := transfer.NewRelay(t.TempDir()).Into(to)
		var g sync.WaitGroup
		for i := range many {
			content := contentOf(1000 + i)
			from := stored(t, nameOf(content), content)
			g.Go(func() {
				if err := into.Create(t.Context(), upload(t.Context(), from, nameOf(content), content)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := read.Load(); n != many {
			t.Errorf("%d of %d objects arrive before the first is durable", n, many)
		}
		close(to.durable)
		g.Wait()
	})
}
