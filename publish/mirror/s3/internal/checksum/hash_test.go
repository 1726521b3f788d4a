package checksum

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/crc64nvme"
	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/sha256x2"
)

// slowly is content of which each piece takes some time to be read.
type slowly struct {
	*bytes.Reader
	each time.Duration
}

func (s slowly) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(s.each)
	return s.Reader.ReadAt(p, off)
}

// Two contents are hashed in step, in the time of one: who is read faster waits for the other.
// Both ways to hash do so.
func TestTwoContentsAreHashedTogether(t *testing.T) {
	const each, pieces = 100 * time.Microsecond, 4 // each: within the patience of package sha256x2
	want := time.Duration(0)
	if sha256x2.PerProcessor() == 2 {
		want = pieces * each
	}
	one, other := noise(1, pieces*BlockSize), noise(2, pieces*BlockSize)
	for way, hash := range map[string]func(*Hasher, context.Context, []byte, time.Duration) (blob.Digest, error){
		"in one request": func(h *Hasher, ctx context.Context, content []byte, each time.Duration) (blob.Digest, error) {
			return h.Digest(ctx, slowly{bytes.NewReader(content), each}, int64(len(content)))
		},
		"in parts": func(h *Hasher, ctx context.Context, content []byte, each time.Duration) (blob.Digest, error) {
			found, err := h.Parts(ctx, slowly{bytes.NewReader(content), each}, int64(len(content)), 2*BlockSize, func(Part) {})
			return found.Digest, err
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := &Hasher{turns: turns{free: 2}}
			began, took := time.Now(), time.Duration(0)
			g, ctx := errgroup.WithContext(t.Context())
			check := func(content []byte, each time.Duration) error {
				got, err := hash(h, ctx, content, each)
				if got != blob.DigestOf(content) {
					t.Errorf("%s: not the digest of the content", way)
				}
				return err
			}
			g.Go(func() error { return check(other, each) })
			synctest.Wait() // it is reading
			g.Go(func() error {
				err := check(one, 0)
				took = time.Since(began)
				return err
			})
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if took != want {
				t.Errorf("%s: the one that is read at once took %v, want %v", way, took, want)
			}
		})
	}
}

func TestCombine(t *testing.T) {
	content := noise(3, 100_003)
	for _, at := range []int{0, 1, 7, 4096, 50_000, 100_002, 100_003} {
		got := Combine(crc64nvme.Checksum(content[:at]), crc64nvme.Checksum(content[at:]), int64(len(content)-at))
		if want := crc64nvme.Checksum(content); got != want {
			t.Errorf("cut at %d: got %x, want %x", at, got, want)
		}
	}
	whole := uint64(0)
	for off := 0; off < len(content); off += 999 {
		p := content[off:min(off+999, len(content))]
		whole = Combine(whole, crc64nvme.Checksum(p), int64(len(p)))
	}
	if want := crc64nvme.Checksum(content); whole != want {
		t.Errorf("of many pieces: got %x, want %x", whole, want)
	}
}

func noise(seed byte, size int) []byte {
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(content)
	return content
}
