package verify

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A sized mirror has an object of a size under every name.
type sized struct {
	size int64
	body func() io.Reader
}

func (s sized) Open(_ context.Context, name string) (*mirror.Object, error) {
	return &mirror.Object{Info: mirror.Info{Name: name, Size: s.size}, Body: io.NopCloser(s.body())}, nil
}

func (s sized) Stat(_ context.Context, name string) (mirror.Info, error) {
	return mirror.Info{Name: name, Size: s.size}, nil
}

func zeroes(size int64) func() io.Reader {
	content := make([]byte, size)
	return func() io.Reader { return bytes.NewReader(content) }
}

// Whatever sizes documents have, those that are checked at once have so many bytes together.
func TestVerifyHoldsABoundedNumberOfDocuments(t *testing.T) {
	const size = 4 << 20
	p := newProbe(sized{size, zeroes(size)}, func(error) {})
	var held, most atomic.Int64
	var g sync.WaitGroup
	for range 30 {
		g.Go(func() {
			content, release, err := p.document(t.Context(), "x")
			if err != nil {
				t.Error(err)
				return
			}
			n := held.Add(int64(len(content)))
			for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
			}
			held.Add(-int64(len(content)))
			release()
		})
	}
	g.Wait()
	if most.Load() > documentsAtOnce || held.Load() != 0 {
		t.Errorf("%d bytes at once, want at most %d", most.Load(), documentsAtOnce)
	}
	if !p.documents.TryAcquire(documentsAtOnce) {
		t.Error("not all was released")
	}
	for _, one := range []sized{{buildcache.MaxDocument + 1, zeroes(1)}, {size, zeroes(1)}} { // too large, and cut short
		p := newProbe(one, func(error) {})
		if _, _, err := p.document(t.Context(), "x"); err == nil || !p.documents.TryAcquire(documentsAtOnce) {
			t.Errorf("%d bytes: %v", one.size, err)
		}
	}
}

// An index that a server sends may not fill the memory of whoever looks at it.
func TestVerifyRefusesAnIndexThatIsTooLargeByURL(t *testing.T) {
	p := newProbe(sized{maxIndexByURL + 1, zeroes(1)}, func(error) {})
	c := &check{verifier: &verifier{reader: p}, Layout: buildcache.V3, refs: make(map[string]*ref)}
	for _, byURL := range []bool{true, false} {
		if p.seen = nil; byURL {
			p.seen = make(map[string]int64)
		}
		_, v2 := p.Open(t.Context(), layout.V2Index)
		_, v3 := c.indexBlob(t.Context(), layout.V3Index, buildcache.Object{Name: "blobs/x", Size: maxIndexByURL + 1}, index.V8)
		for _, err := range []error{v2, v3} {
			if refused := err != nil && strings.Contains(err.Error(), "by a URL"); refused != byURL {
				t.Errorf("by a URL %v: %v", byURL, err)
			}
		}
	}
}

// A server that ends, or slows down, one body after the other is what is broken, and not the mirror.
func TestVerifyStopsWhenBodiesFail(t *testing.T) {
	var why error
	p := newProbe(sized{10, func() io.Reader { return io.MultiReader(strings.NewReader("x"), failing{}) }}, func(err error) { why = err })
	for range maxUnreadable {
		if why != nil {
			t.Fatal("stopped too early")
		}
		if _, _, err := mirror.Read(t.Context(), p, "x", 100); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	if why == nil {
		t.Error("not stopped")
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
