package s3

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/checksum"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

func benchServer(b *testing.B) *s3test.Server {
	s := s3test.New(quick(s3test.Options{Store: s3test.Discard}))
	b.Cleanup(s.Close)
	return s
}

// BenchmarkSmall is an object of 4 KB, client and server together.
func BenchmarkSmall(b *testing.B) {
	content := noise(9, 4096)
	b.Run("way=direct", func(b *testing.B) {
		bucket := open(b, benchServer(b), func(o *Options) { o.Concurrency = 64 })
		m := bucket.Mirror("p")
		var n atomic.Int64
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := m.Create(b.Context(), upload1(fmt.Sprint("blobs/", n.Add(1)), content)); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("way=sdk", func(b *testing.B) {
		bucket := open(b, benchServer(b), func(o *Options) { o.Concurrency = 64 })
		var n atomic.Int64
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				digest := blob.DigestOf(content)
				_, err := bucket.client.PutObject(b.Context(), &sdk.PutObjectInput{
					Bucket: aws.String("bucket"), Key: aws.String(fmt.Sprint("p/blobs/", n.Add(1))),
					Body: bytes.NewReader(content), ChecksumSHA256: aws.String(checksum.EncodeDigest(digest)),
					ChecksumAlgorithm: types.ChecksumAlgorithmSha256, IfNoneMatch: aws.String("*"),
					ContentType: aws.String("application/x-test"), CacheControl: aws.String("no-cache"),
				}, sdk.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
				if err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkLarge is an object of 256 MiB in parts.
func BenchmarkLarge(b *testing.B) {
	const size = 256 << 20
	content := noise(8, size)
	for range b.N {
		b.SetBytes(size)
		m := open(b, benchServer(b), func(o *Options) { o.PartSize, o.Concurrency = 0, 0 }).Mirror("p")
		if err := m.Create(b.Context(), upload1("x", content)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSlowDown is what it costs when one request of a hundred is refused: 700 objects
// that are 40 ms away.
func BenchmarkSlowDown(b *testing.B) {
	content := noise(9, 4096)
	for _, percent := range []int{0, 1, 10} {
		b.Run(fmt.Sprint("percent=", percent), func(b *testing.B) {
			for range b.N {
				server := s3test.New(quick(s3test.Options{Store: s3test.Discard, Latency: 40 * time.Millisecond}))
				server.Hook(func(*http.Request) s3test.Fault {
					if rand.IntN(100) < percent {
						return s3test.Refuse(503, "SlowDown")
					}
					return s3test.None
				})
				m := open(b, server, func(o *Options) { o.Concurrency = 16 }).Mirror("p")
				var g errgroup.Group
				g.SetLimit(16)
				for n := range 700 {
					g.Go(func() error { return m.Create(b.Context(), upload1(fmt.Sprint("blobs/", n), content)) })
				}
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
				server.Close()
			}
		})
	}
}

// BenchmarkOutage is how an outage of 3 s is ridden out by 64 uploads, and with how many
// requests.
func BenchmarkOutage(b *testing.B) {
	content := noise(9, 4096)
	for what, fault := range map[string]s3test.Fault{"503": s3test.Refuse(503, "SlowDown"), "500": s3test.Refuse(500, "InternalError")} {
		b.Run("answer="+what, func(b *testing.B) {
			requests := 0
			for range b.N {
				server := s3test.New(quick(s3test.Options{Store: s3test.Discard}))
				began := time.Now()
				server.Hook(func(*http.Request) s3test.Fault {
					requests++
					if time.Since(began) < 3*time.Second {
						return fault
					}
					return s3test.None
				})
				m := open(b, server, func(o *Options) { o.Concurrency = 64 }).Mirror("p")
				var g errgroup.Group
				for n := range 64 {
					g.Go(func() error { return m.Create(b.Context(), upload1(fmt.Sprint("blobs/", n), content)) })
				}
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
				server.Close()
			}
			b.ReportMetric(float64(requests)/float64(b.N), "requests/op")
		})
	}
}
