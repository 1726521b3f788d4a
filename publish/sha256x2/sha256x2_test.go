package sha256x2

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/cpuid/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noise(seed byte, size int) []byte {
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(content)
	return content
}

// write writes content in pieces of a size, and compares the sum with that of crypto/sha256.
func write(t testing.TB, h *Hash, content []byte, piece int) {
	for rest := content; len(rest) > 0; {
		n := min(piece, len(rest))
		if got, err := h.Write(rest[:n]); got != n || err != nil {
			t.Errorf("%d bytes of %d, %v", got, n, err)
		}
		rest = rest[n:]
	}
	if h.Sum() != sha256.Sum256(content) {
		t.Errorf("%d bytes, %d at a time: not their SHA-256", len(content), piece)
	}
}

// Where the processor can, it does.
func TestInterleaves(t *testing.T) {
	want := 1
	if cpuid.CPU.Supports(cpuid.SHA) {
		want = 2
	}
	if n := PerProcessor(); n != want || interleaves != (n == 2) {
		t.Errorf("%d are hashed at once, want %d; together: %v", n, want, interleaves)
	}
}

// However long contents are, and in whatever pieces they come, each has its own sum.
func TestSums(t *testing.T) {
	for _, others := range []int{0, 1, 2, 4} {
		for _, piece := range []int{1, 63, 64, 65, 1000, 4096, 1 << 20} {
			t.Run(fmt.Sprintf("%d others, %d bytes at a time", others, piece), func(t *testing.T) {
				var pairs Pairs
				var g sync.WaitGroup
				for i := range 1 + others {
					h := pairs.New()
					g.Go(func() {
						defer h.Close()
						write(t, h, noise(byte(i), min(piece*50, 100_000)+i*777), piece)
					})
				}
				g.Wait()
			})
		}
	}
}

// Nobody is idle: who comes first waits no longer than until the other comes.
func TestWhoComesSecondHashesForBoth(t *testing.T) {
	if !interleaves {
		t.Log("not on this processor")
		return
	}
	synctest.Test(t, func(t *testing.T) {
		var pairs Pairs
		first, second := pairs.New(), pairs.New()
		defer first.Close()
		defer second.Close()
		began := time.Now()
		var g sync.WaitGroup
		g.Go(func() { write(t, first, noise(1, 640), 640) })
		synctest.Wait() // it waits
		if pairs.waiting == nil {
			t.Fatal("the first did not wait for the second")
		}
		write(t, second, noise(2, 640), 640)
		g.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("somebody waited for %v", took)
		}
	})
}

// Nobody waits long, and for nobody who is gone.
func TestNobodyWaitsInVain(t *testing.T) {
	if !interleaves {
		t.Log("not on this processor")
		return
	}
	for what, test := range map[string]struct {
		meanwhile func(other *Hash)
		patience  time.Duration
	}{
		"another that reads for long":     {func(*Hash) {}, patience},
		"another that has ended":          {(*Hash).Close, 0},
		"another that has less":           {func(other *Hash) { other.Write(noise(2, 128)); other.Close() }, 0},
		"another that has no block":       {func(other *Hash) { other.Write(noise(2, 63)); other.Close() }, 0},
		"another in the middle of blocks": {func(other *Hash) { other.Write(noise(2, 63)); other.Write(noise(3, 640)); other.Close() }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var pairs Pairs
			h, other := pairs.New(), pairs.New()
			began := time.Now()
			var g sync.WaitGroup
			g.Go(func() { write(t, h, noise(1, 640), 640) })
			synctest.Wait()
			test.meanwhile(other)
			g.Wait()
			if took := time.Since(began); took != test.patience {
				t.Errorf("%s: waited for %v", what, took)
			}
		})
	}
}

// Alone, there is nobody to wait for.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pairs Pairs
		pairs.New().Close()
		h, began := pairs.New(), time.Now()
		write(t, h, noise(1, 100_000), 4096)
		if took := time.Since(began); took != 0 {
			t.Errorf("waited for %v", took)
		}
	})
}

// The two of a pair do not mix, whatever they are and however they are cut.
func FuzzPair(f *testing.F) {
	f.Add([]byte("abc"), []byte(""), uint16(1))
	f.Add(noise(1, 64), noise(2, 128), uint16(64))
	f.Add(noise(3, 1000), noise(4, 200), uint16(100))
	f.Fuzz(func(t *testing.T, a, b []byte, piece uint16) {
		var pairs Pairs
		var g sync.WaitGroup
		for _, content := range [][]byte{a, b} {
			h := pairs.New()
			g.Go(func() {
				defer h.Close()
				write(t, h, content, int(piece)+1)
			})
		}
		g.Wait()
	})
}

func BenchmarkOne(b *testing.B) {
	content := noise(1, 256<<10)
	var pairs Pairs
	h := pairs.New()
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		h.Write(content)
	}
}

func BenchmarkTwo(b *testing.B) {
	p, q := noise(1, 256<<10), noise(2, 256<<10)
	var x, y [8]uint32
	b.SetBytes(2 * int64(len(p)))
	for b.Loop() {
		blocks(&x, &y, &p[0], &q[0], len(p)/sha256.BlockSize)
	}
}
