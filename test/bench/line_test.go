package bench

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// A pacedConn gives its peer no more than rate bytes a second.
type pacedConn struct {
	net.Conn
	mu   sync.Mutex // held while bytes wait for their turn
	free time.Time
}

func (c *pacedConn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 && err == nil {
		var some int
		piece := p[:min(len(p), 64<<10)]
		if now := time.Now(); c.free.Before(now) {
			c.free = now
		}
		c.free = c.free.Add(time.Duration(len(piece)) * time.Second / rate)
		time.Sleep(time.Until(c.free))
		some, err = c.Conn.Write(piece)
		n, p = n+some, p[some:]
	}
	return n, err
}

type pacedListener struct{ net.Listener }

func (l pacedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &pacedConn{Conn: c}, err
}

// BenchmarkSiteMirror fills a mirror from a web server whose answers are 40 ms late and that gives 50 MB/s to each connection, and compares that with
// what the line allows, connections that are never idle, and with the least that a client can do on this machine: it fetches
// the same objects in the same order, hashes each and writes it into a file. Over few connections the line is what takes the time,
// and over the 64 that are usual the processors, which the server has a part of.
func BenchmarkSiteMirror(b *testing.B) {
	bin, err := program.Publish()
	if err != nil {
		b.Fatal(err)
	}
	for _, row := range []struct{ packages, tarball, atOnce int }{{1000, 300 << 10, 16}, {1000, 300 << 10, 32}, {1000, 300 << 10, 64}, {250, 4 << 20, 64}} {
		b.Run(fmt.Sprintf("%d of %d KiB over %d", row.packages, row.tarball>>10, row.atOnce), func(b *testing.B) {
			u := spackmirror.New(spackmirror.V3, row.packages)
			u.Tarball = func(int) int { return row.tarball }
			from := filepath.Join(b.TempDir(), "many")
			if err := u.Write(from, u.All()); err != nil {
				b.Fatal(err)
			}
			var requests, bytes atomic.Int64
			files := http.FileServer(http.Dir(from))
			web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				if info, err := os.Stat(filepath.Join(from, filepath.FromSlash(r.URL.Path))); err == nil {
					bytes.Add(info.Size())
				}
				time.Sleep(away)
				files.ServeHTTP(w, r)
			}))
			web.Listener = pacedListener{web.Listener}
			web.Start()
			defer web.Close()
			var ours, least, line time.Duration
			for b.Loop() {
				began := time.Now()
				if err := fetchAll(b.Context(), web.URL, from, b.TempDir(), row.atOnce); err != nil {
					b.Fatal(err)
				}
				least += time.Since(began)
				requests.Store(0)
				bytes.Store(0)
				r, err := program.Run([]string{"HOME=" + b.TempDir()}, bin, "copy", web.URL, "file://"+filepath.Join(b.TempDir(), "site"),
					"--concurrency", strconv.Itoa(row.atOnce))
				if err != nil || r.Code != 0 {
					b.Fatalf("%v %v", err, r)
				}
				ours += r.Took
				line += (time.Duration(requests.Load())*away + time.Duration(bytes.Load())*time.Second/rate) / time.Duration(row.atOnce)
			}
			n := float64(b.N)
			b.ReportMetric(ours.Seconds()/n, "s/copy")
			b.ReportMetric(line.Seconds()/n, "s/line")
			b.ReportMetric(least.Seconds()/n, "s/least")
			b.ReportMetric(ours.Seconds()/line.Seconds(), "x-line")
			b.ReportMetric(ours.Seconds()/least.Seconds(), "x-least")
			b.ReportMetric(float64(requests.Load()), "requests")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// fetchAll fetches documents, which is what must be known first, and then blobs.
func fetchAll(ctx context.Context, url, from, to string, atOnce int) error {
	var documents, blobs []string
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, name)
		switch {
		case err != nil || d.IsDir():
		case strings.HasPrefix(rel, "blobs"):
			blobs = append(blobs, rel)
		default:
			documents = append(documents, rel)
		}
		return err
	})
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: atOnce, MaxIdleConnsPerHost: atOnce}}
	defer client.CloseIdleConnections()
	for _, names := range [][]string{documents, blobs} {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for _, name := range names {
			g.Go(func() error {
				return fetchOne(ctx, client, url+"/"+filepath.ToSlash(name), filepath.Join(to, filepath.Base(name)))
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func fetchOne(ctx context.Context, client *http.Client, url, file string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.MultiWriter(f, sha256.New()), answer.Body)
	return err
}
