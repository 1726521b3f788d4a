package s3

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

// readCounted counts how much of its content is read.
type readCounted struct {
	blob.Source
	read *atomic.Int64
}

func (s readCounted) Open() (blob.Reader, error) {
	r, err := s.Source.Open()
	return &countedReader{r, s.read}, err
}

type countedReader struct {
	blob.Reader
	read *atomic.Int64
}

func (r *countedReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(p, off)
	r.read.Add(int64(n))
	return n, err
}

// free is how many shelves are empty, once connections have noticed that they are broken.
func free(b *Bucket) int {
	for began := time.Now(); len(b.shelves.room) < maxHeld && time.Since(began) < 5*time.Second; {
		time.Sleep(time.Millisecond)
	}
	return len(b.shelves.room)
}

func TestContentIsReadOnceWhereThereIsRoom(t *testing.T) {
	for what, size := range map[string]int{"in one request": 3 << 20, "in parts": maxHeld * minPart} {
		b := open(t, serve(t, s3test.Options{}))
		content := noise(4, size)
		var read atomic.Int64
		u := upload1("x", content)
		u.Content = readCounted{u.Content, &read}
		if err := b.Mirror("p").Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		if read.Load() != int64(size) {
			t.Errorf("%s: %d bytes were read, of %d", what, read.Load(), size)
		}
		if free(b) != maxHeld {
			t.Errorf("%s: %d shelves are free", what, free(b))
		}
	}
}

// More than there is room for, and parts that are too large for it, are read again.
func TestContentIsReadTwiceWhereThereIsNoRoom(t *testing.T) {
	content := noise(5, 5*minPart)
	b := open(t, serve(t, s3test.Options{}), func(o *Options) { o.PartSize = defaultPartSize + 1 })
	var read atomic.Int64
	u := upload1("x", content)
	u.Content = readCounted{u.Content, &read}
	if err := b.Mirror("p").Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if read.Load() <= int64(len(content)) {
		t.Errorf("%d bytes were read, of %d", read.Load(), len(content))
	}
}

// However an upload ends, all room is free again.
func TestRoomIsFreeAgain(t *testing.T) {
	content := noise(6, 4*minPart)
	wrong := upload1("x", content)
	wrong.Digest = blob.DigestOf(nil)
	for what, c := range map[string]struct {
		upload mirror.Upload
		hook   func(*http.Request) s3test.Fault
		want   error
	}{
		"wrong content":   {upload: wrong, want: new(blob.MismatchError)},
		"no part arrives": {upload: upload1("x", content), hook: s3test.Always("UploadPart", s3test.Reset)},
		"cannot begin":    {upload: upload1("x", content), hook: s3test.Always("CreateMultipartUpload", s3test.Refuse(403, "AccessDenied")), want: mirror.ErrDenied},
		"no object":       {upload: upload1("x", content[:minPart-1]), hook: s3test.Always("PutObject", s3test.Refuse(403, "AccessDenied")), want: mirror.ErrDenied},
	} {
		server := serve(t, s3test.Options{})
		b := open(t, server)
		server.Hook(c.hook)
		err := b.Mirror("p").Create(t.Context(), c.upload)
		var mismatch *blob.MismatchError
		if err == nil || c.want != nil && !errors.Is(err, c.want) && !errors.As(err, &mismatch) {
			t.Errorf("%s: got %v", what, err)
		}
		if free(b) != maxHeld {
			t.Errorf("%s: %d shelves are free", what, free(b))
		}
	}
	server := serve(t, s3test.Options{})
	b := open(t, server)
	ctx, cancel := context.WithCancel(t.Context())
	server.Hook(func(r *http.Request) s3test.Fault {
		if s3test.Operation(r) == "UploadPart" {
			cancel()
		}
		return s3test.None
	})
	if err := b.Mirror("p").Create(ctx, upload1("x", content)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if free(b) != maxHeld {
		t.Errorf("cancelled: %d shelves are free", free(b))
	}
}

// A connection borrows what is held. It may still be at it when the attempt is over: what it
// has borrowed is not used for anything else until it gives it back.
func TestConnectionsBorrowWhatIsHeld(t *testing.T) {
	server := serve(t, s3test.Options{})
	cfg := config(t)
	real, err := session.Config(t.Context(), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.HTTPClient = real.HTTPClient
	b, err := Open(t.Context(), cfg, Options{Bucket: "bucket", EndpointURL: server.URL, Threshold: minPart, PartSize: minPart})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	server.Hook(func(r *http.Request) s3test.Fault {
		if s3test.Operation(r) != "UploadPart" && s3test.Operation(r) != "PutObject" {
			return s3test.None
		}
		if seen++; seen > 3 { // no request is worth more attempts than these
			return s3test.None
		}
		return []s3test.Fault{s3test.Reset, s3test.Refuse(503, "SlowDown"), s3test.Drop}[seen-1]
	})
	for i, size := range []int{4*minPart + 7, 300 << 10, minPart - 1, 2*minPart + 1} {
		seen = 0
		content := noise(byte(i), size)
		name := string(rune('a' + i))
		if err := b.Mirror("p").Create(t.Context(), upload1(name, content)); err != nil {
			t.Fatal(err)
		}
		if got, _ := server.Object("p/" + name); blob.DigestOf(got) != blob.DigestOf(content) {
			t.Errorf("%d bytes: other content has arrived", size)
		}
	}
	server.Hook(nil)
	if free(b) != maxHeld {
		t.Errorf("%d shelves are free", free(b))
	}
}

func TestSharedRoomIsFreedByTheLast(t *testing.T) {
	s := newShelves(100)
	h := s.take(1000, 50)
	copy(h.content, "0123456789")
	h.use()
	if got := string(h.at(1002, 3)); got != "234" {
		t.Errorf("got %q", got)
	}
	h.free()
	if len(s.room) != maxHeld-1 {
		t.Error("it was freed although somebody still uses it")
	}
	h.free()
	if len(s.room) != maxHeld {
		t.Error("it was not freed")
	}
	if s.take(0, 101) != nil {
		t.Error("there is no such room")
	}
}
