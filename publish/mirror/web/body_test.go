package web_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
)

// A dripping body has so many bytes a second, in pieces, for ever.
type dripping struct{ rate int }

func (d dripping) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return copy(p, strings.Repeat("x", d.rate)), nil
}

func TestABodyThatDripsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, row := range []struct {
			rate int
			slow bool
		}{{1, true}, {1000, true}, {2000, false}} {
			for _, size := range []int64{1 << 20, -1} {
				s := &scripted{script: func(_ int, r *http.Request) (*http.Response, error) {
					a := answer(r, 200, nil, "")
					a.ContentLength, a.Body = size, io.NopCloser(io.LimitReader(dripping{row.rate}, 1<<20))
					return a, nil
				}}
				began := time.Now()
				content, _, err := mirror.Read(t.Context(), open(t, "http://mirror", web.Options{Transport: s}), "x", 1<<20)
				if row.slow != errors.Is(err, io.ErrUnexpectedEOF) || row.slow && time.Since(began) > 2*time.Minute || !row.slow && len(content) != 1<<20 {
					t.Errorf("%d bytes a second of %d: %d bytes, %v after %v", row.rate, size, len(content), err, time.Since(began))
				}
			}
		}
	})
}

// Bodies whose size the server does not tell are read to know it: however many are asked for at once, only two
// of them fill memory.
func TestMemoryIsBoundedWhateverAServerSends(t *testing.T) {
	var large, most atomic.Int64
	s := &scripted{script: func(_ int, r *http.Request) (*http.Response, error) {
		a := answer(r, 200, nil, "")
		a.ContentLength, a.Body = -1, &endless{large: &large, most: &most}
		return a, nil
	}}
	m := open(t, "http://mirror", web.Options{Transport: s})
	var g sync.WaitGroup
	for range 12 {
		g.Go(func() {
			if _, err := m.Open(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "does not send its size") {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if most.Load() != 2 {
		t.Errorf("%d bodies were large at once, want 2", most.Load())
	}
}

// An endless body counts itself while it is large.
type endless struct {
	sent        int
	counted     bool
	large, most *atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.sent += len(p); e.sent > 2<<20 && !e.counted {
		e.counted = true
		n := e.large.Add(1)
		for was := e.most.Load(); n > was && !e.most.CompareAndSwap(was, n); was = e.most.Load() {
		}
	}
	return len(p), nil
}

func (e *endless) Close() error {
	if e.counted {
		e.large.Add(-1)
	}
	return nil
}

// What was read of a body without a size is all of it, and memory is given back.
func TestBodiesWithoutASize(t *testing.T) {
	for _, size := range []int{0, 1, 64 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3 << 20, 64 << 20} {
		s := &scripted{script: func(_ int, r *http.Request) (*http.Response, error) {
			a := answer(r, 200, nil, "")
			a.ContentLength, a.Body = -1, io.NopCloser(strings.NewReader(strings.Repeat("x", size)))
			return a, nil
		}}
		m := open(t, "http://mirror", web.Options{Transport: s})
		for range 3 { // more than there is room for at once
			if content, _, err := mirror.Read(t.Context(), m, "x", 64<<20); err != nil || len(content) != size {
				t.Errorf("%d bytes of %d, %v", len(content), size, err)
			}
		}
	}
}
