package s3

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

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
	one, other := noise(1, pieces*readSize), noise(2, pieces*readSize)
	for way, hash := range map[string]func(*Bucket, context.Context, []byte, time.Duration) (blob.Digest, error){
		"in one request": func(b *Bucket, ctx context.Context, content []byte, each time.Duration) (blob.Digest, error) {
			return b.digest(ctx, slowly{bytes.NewReader(content), each}, int64(len(content)))
		},
		"in parts": func(b *Bucket, ctx context.Context, content []byte, each time.Duration) (blob.Digest, error) {
			found, err := b.hash(ctx, slowly{bytes.NewReader(content), each}, int64(len(content)), 2*readSize, func(part) {})
			return found.digest, err
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := &Bucket{hashers: semaphore.NewWeighted(2)}
			began, took := time.Now(), time.Duration(0)
			g, ctx := errgroup.WithContext(t.Context())
			check := func(content []byte, each time.Duration) error {
				got, err := hash(b, ctx, content, each)
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
