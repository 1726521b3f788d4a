package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

func TestPartSize(t *testing.T) {
	b := &Bucket{opts: Options{PartSize: defaultPartSize}}
	for size, want := range map[int64]int64{
		1 << 20:            8 * mib,
		maxParts * 8 * mib: 8 * mib,
		maxParts*8*mib + 1: 9 * mib,
		5 << 40:            583 * mib,
	} {
		got := b.partSize(size)
		if got != want || (size+got-1)/got > maxParts {
			t.Errorf("%d bytes: parts of %d, want %d", size, got, want)
		}
	}
}

func TestOptions(t *testing.T) {
	for what, o := range map[string]Options{
		"no bucket":      {},
		"short bucket":   {Bucket: "b"},
		"region":         {Bucket: "bucket", Region: "eu central"},
		"small parts":    {Bucket: "bucket", PartSize: 1 << 20},
		"large parts":    {Bucket: "bucket", PartSize: 6 << 30},
		"concurrency":    {Bucket: "bucket", Concurrency: -1},
		"threshold":      {Bucket: "bucket", Threshold: 6 << 30},
		"rate":           {Bucket: "bucket", LimitRate: -1},
		"encryption":     {Bucket: "bucket", SSE: "rot13"},
		"key alone":      {Bucket: "bucket", KMSKeyID: "k"},
		"storage class":  {Bucket: "bucket", StorageClass: "BASEMENT"},
		"endpoint":       {Bucket: "bucket", EndpointURL: "localhost:9000"},
		"endpoint again": {Bucket: "bucket", EndpointURL: "ftp://localhost"},
	} {
		if _, err := Open(t.Context(), config(t), o); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	o := Options{LimitRate: 200 << 10}
	if o.setDefaults(); o.Concurrency != 3 {
		t.Errorf("at 200 KiB/s, %d requests share the rate", o.Concurrency)
	}
}

// A sloth is content that calls back before it is read at an offset.
type sloth struct {
	blob.Source
	before func(off int64)
}

func (s sloth) Open() (blob.Reader, error) {
	r, err := s.Source.Open()
	return slothReader{r, s.before}, err
}

type slothReader struct {
	blob.Reader
	before func(off int64)
}

func (r slothReader) ReadAt(p []byte, off int64) (int, error) {
	r.before(off)
	return r.Reader.ReadAt(p, off)
}

// TestResume: what arrived before the cancel does not go up again, whoever goes on.
func TestResume(t *testing.T) {
	content := noise(4, 4*minPart+77)
	for _, partSize := range []int64{minPart, minPart + mib} { // of who goes on
		server := serve(t, quick(s3test.Options{PageSize: 2}))
		one := func(o *Options) { o.Concurrency = 1 }
		m := open(t, server, one).Mirror("p")
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		server.Hook(func(r *http.Request) s3test.Fault {
			if s3test.Operation(r) == "UploadPart" {
				if n++; n == 3 {
					cancel()
					return s3test.Drop
				}
			}
			return s3test.None
		})
		if err := m.Create(ctx, upload1("x", content)); !errors.Is(err, context.Canceled) {
			t.Fatalf("got error %v", err)
		}
		if server.OpenUploads() != 1 || parts(server) != 2 {
			t.Fatalf("%d uploads are left, with %d parts", server.OpenUploads(), parts(server))
		}
		server.Hook(nil)
		server.ForgetLog()
		sent := int64(0)
		u := upload1("x", content)
		u.Sent = func(n int64) { sent += n }
		m = open(t, server, func(o *Options) { o.PartSize, o.Threshold = partSize, partSize }).Mirror("p")
		if err := m.Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		if n := parts(server); n != 3 || sent != 2*minPart+77 {
			t.Errorf("%d parts with %d bytes were sent of the 3 that were missing", n, sent)
		}
		if n := server.Count("CreateMultipartUpload"); n != 0 {
			t.Errorf("%d uploads were begun", n)
		}
		wantStoredOnce(t, server, "p/x", content)
	}
}

// TestResumeOther: parts of other content are sent again, not believed.
func TestResumeOther(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	m := open(t, server).Mirror("")
	content, before := noise(5, 2*minPart+5), noise(6, 2*minPart+5)
	copy(before, content[:minPart]) // only the first part is the same
	server.Hook(s3test.Always("CompleteMultipartUpload", s3test.Refuse(403, "AccessDenied")))
	if err := m.Create(t.Context(), upload1("x", before)); !errors.Is(err, mirror.ErrDenied) {
		t.Fatal(err)
	}
	server.Hook(nil)
	server.ForgetLog()
	if err := m.Create(t.Context(), upload1("x", content)); err != nil {
		t.Fatal(err)
	}
	if n := parts(server); n != 2 {
		t.Errorf("%d parts were sent, want the 2 that differ", n)
	}
	wantStoredOnce(t, server, "x", content)
}

// TestResumeTogether: publishers who go on with the same upload at the same time all succeed.
func TestResumeTogether(t *testing.T) {
	for _, forgetful := range []bool{false, true} {
		for range 3 {
			server := serve(t, quick(s3test.Options{Forgetful: forgetful}))
			content := noise(7, 3*minPart+5)
			server.Hook(s3test.Always("CompleteMultipartUpload", s3test.Refuse(403, "AccessDenied")))
			if err := open(t, server).Mirror("p").Create(t.Context(), upload1("x", content)); err == nil {
				t.Fatal("complete")
			}
			server.Hook(nil)
			var g errgroup.Group
			for range 4 {
				m := open(t, server).Mirror("p")
				g.Go(func() error { return m.Create(t.Context(), upload1("x", content)) })
			}
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
			wantStoredOnce(t, server, "p/x", content)
		}
	}
}

// TestTogether: the same without an upload to go on with.
func TestTogether(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	content := noise(8, 3*minPart+5)
	var g errgroup.Group
	for range 4 {
		m := open(t, server).Mirror("p")
		g.Go(func() error { return m.Create(t.Context(), upload1("x", content)) })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	wantStoredOnce(t, server, "p/x", content)
}

// TestAbortedUnderWay: an upload that somebody discards while we are at it is begun anew.
func TestAbortedUnderWay(t *testing.T) {
	for _, operation := range []string{"UploadPart", "CompleteMultipartUpload"} {
		server := serve(t, quick(s3test.Options{}))
		n := 0
		server.Hook(func(r *http.Request) s3test.Fault {
			if s3test.Operation(r) == operation {
				if n++; n == 1 {
					return s3test.Refuse(404, "NoSuchUpload")
				}
			}
			return s3test.None
		})
		if err := open(t, server).Mirror("p").Create(t.Context(), upload1("x", largeContent)); err != nil {
			t.Error(err)
		}
		if got, _ := server.Object("p/x"); !bytes.Equal(got, largeContent) {
			t.Error("it is not there")
		}
	}
}

// TestNoResume: without the permission to list uploads everything is sent, with one warning.
func TestNoResume(t *testing.T) {
	for _, operation := range []string{"ListMultipartUploads", "ListParts"} {
		server := serve(t, quick(s3test.Options{}))
		var said bytes.Buffer
		b := open(t, server, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&said, nil)) })
		server.Abandon("p/x")
		server.Hook(s3test.Always(operation, s3test.Refuse(403, "AccessDenied")))
		for _, name := range []string{"x", "y"} {
			if err := b.Mirror("p").Create(t.Context(), upload1(name, largeContent)); err != nil {
				t.Error(err)
			}
		}
		if n := strings.Count(said.String(), "cannot be resumed"); n != 1 {
			t.Errorf("warned %d times:\n%s", n, said.String())
		}
		if !strings.Contains(said.String(), "s3:List") {
			t.Errorf("the warning does not name the permission: %s", said.String())
		}
	}
}

// TestMayNotLook: who may only write can still write what is not there.
func TestMayNotLook(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	server.Hook(func(r *http.Request) s3test.Fault {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return s3test.Refuse(403, "AccessDenied")
		}
		return s3test.None
	})
	m := open(t, server).Mirror("p")
	for name, content := range map[string][]byte{"small": smallContent, "large": largeContent} {
		if err := m.Create(t.Context(), upload1(name, content)); err != nil {
			t.Error(err)
		}
		var d *mirror.DeniedError
		if err := m.Create(t.Context(), upload1(name, content)); !errors.As(err, &d) || d.Action != "s3:GetObject" {
			t.Errorf("again: got error %v, want that s3:GetObject is denied", err)
		}
	}
}

// TestPlanted: an object that is there is believed for its checksum, or read.
func TestPlanted(t *testing.T) {
	for _, composite := range []bool{false, true} {
		for _, content := range [][]byte{smallContent, largeContent} {
			server := serve(t, quick(s3test.Options{}))
			m := open(t, server).Mirror("p")
			other := bytes.Clone(content)
			other[len(other)-1]++
			server.Put("p/same", content, composite)
			server.Put("p/other", other, composite)
			server.Put("p/short", content[1:], composite)
			if err := m.Create(t.Context(), upload1("same", content)); err != nil {
				t.Errorf("composite %v: %v", composite, err)
			}
			for _, name := range []string{"other", "short"} {
				if err := m.Create(t.Context(), upload1(name, content)); !errors.Is(err, mirror.ErrExist) {
					t.Errorf("composite %v, %s: got error %v", composite, name, err)
				}
				if n := server.Writes("p/" + name); n != 1 {
					t.Errorf("%s was overwritten", name)
				}
			}
			if n := server.OpenUploads(); n != 0 {
				t.Errorf("%d uploads are left", n)
			}
		}
	}
}

// TestWrong: content that is not what was promised leaves nothing, visible or not.
func TestWrong(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	m := open(t, server).Mirror("p")
	u := upload1("x", largeContent)
	u.Digest[3]++
	var mismatch *blob.MismatchError
	if err := m.Create(t.Context(), u); !errors.As(err, &mismatch) {
		t.Errorf("got error %v", err)
	}
	u = upload1("y", smallContent)
	u.Digest[3]++
	if err := m.Create(t.Context(), u); !errors.As(err, &mismatch) {
		t.Errorf("got error %v", err)
	}
	if n := server.Count("PutObject"); n != 0 {
		t.Error("a small object was sent before it was known to be right")
	}
	if _, there := server.Object("p/x"); there || server.OpenUploads() != 0 {
		t.Errorf("visible %v, %d uploads open", there, server.OpenUploads())
	}
}

// TestChangedFile: a file that is changed while it is on its way.
func TestChangedFile(t *testing.T) {
	for what, change := range map[string]func(path string, size int) error{
		"shrunk": func(path string, size int) error { return os.Truncate(path, int64(size)/3) },
		"rewritten": func(path string, size int) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt(noise(11, size-100), 100)
			return err
		},
	} {
		for _, known := range []bool{true, false} {
			for _, size := range []int{1 << 20, 2*minPart + 9} {
				t.Run(fmt.Sprint(what, known, size), func(t *testing.T) {
					server := serve(t, quick(s3test.Options{}))
					m := open(t, server).Mirror("p")
					dir := t.TempDir()
					root, err := os.OpenRoot(dir)
					if err != nil {
						t.Fatal(err)
					}
					defer root.Close()
					content := noise(10, size)
					if err := os.WriteFile(filepath.Join(dir, "f"), content, 0o644); err != nil {
						t.Fatal(err)
					}
					info, _ := root.Lstat("f")
					var once sync.Once
					u := upload1("x", content)
					u.Content = sloth{blob.File(root, "f", info), func(off int64) {
						if off > int64(size)/2 {
							once.Do(func() {
								if err := change(filepath.Join(dir, "f"), size); err != nil {
									t.Error(err)
								}
							})
						}
					}}
					if !known {
						u.Digest = blob.Digest{}
					}
					err = m.Create(t.Context(), u)
					var mismatch *blob.MismatchError
					if !errors.Is(err, blob.ErrChanged) && !errors.As(err, &mismatch) {
						t.Errorf("got error %v", err)
					}
					if _, there := server.Object("p/x"); there || server.OpenUploads() != 0 {
						t.Errorf("visible %v, %d uploads open", there, server.OpenUploads())
					}
				})
			}
		}
	}
}

// TestConcurrency: one bound for all objects, and it is used.
func TestConcurrency(t *testing.T) {
	server := serve(t, quick(s3test.Options{Store: s3test.Discard, Latency: 2 * time.Millisecond}))
	m := open(t, server, func(o *Options) { o.Concurrency = 5 }).Mirror("p")
	var g errgroup.Group
	for n := range 30 {
		content := smallContent
		if n%5 == 0 {
			content = largeContent
		}
		g.Go(func() error { return m.Create(t.Context(), upload1(fmt.Sprint(n), content)) })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if n := server.MostInFlight(); n != 5 {
		t.Errorf("%d requests were in flight at once, want 5", n)
	}
}

// TestLimitRate: content leaves at the rate that was asked for.
func TestLimitRate(t *testing.T) {
	const rate, size = 16 << 20, 2*minPart + 1000
	server := serve(t, quick(s3test.Options{Store: s3test.Discard}))
	m := open(t, server, func(o *Options) { o.LimitRate = rate }).Mirror("p")
	began := time.Now()
	var g errgroup.Group
	for n := range 2 {
		g.Go(func() error { return m.Create(t.Context(), upload1(fmt.Sprint(n), largeContent)) })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	took, want := time.Since(began), time.Duration(2*size)*time.Second/rate
	if took < want*9/10 || took > want*15/10 {
		t.Errorf("took %v, want %v", took, want)
	}
}

// TestMemory: a file that is larger than the memory that may be used.
func TestMemory(t *testing.T) {
	const size = 256 << 20
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, _ := root.Lstat("sparse")
	server := serve(t, quick(s3test.Options{Store: s3test.Discard}))
	m := open(t, server, func(o *Options) { o.PartSize, o.Threshold, o.Concurrency = 0, 0, 0 }).Mirror("p")
	stop, most, live := make(chan struct{}), atomic.Uint64{}, atomic.Uint64{}
	var wg sync.WaitGroup
	wg.Go(func() {
		var s runtime.MemStats
		marked := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				runtime.ReadMemStats(&s)
				most.Store(max(most.Load(), s.HeapInuse))
				metrics.Read(marked)
				live.Store(max(live.Load(), marked[0].Value.Uint64()))
			}
		}
	})
	sent := int64(0)
	u := mirror.Upload{Name: "x", Content: blob.File(root, "sparse", info), Sent: func(n int64) { sent += n }}
	if err := m.Create(t.Context(), u); err != nil {
		t.Error(err)
	}
	close(stop)
	wg.Wait()
	// Most of it are the buffers of connections, at both ends. The race detector adds its own. What
	// is in use holds garbage, too, and the more of it the busier the machine is.
	if !raced && (most.Load() > 128<<20 || live.Load() > 64<<20) {
		t.Errorf("%d MiB of heap were in use, %d MiB of them needed", most.Load()>>20, live.Load()>>20)
	}
	if sent != size {
		t.Errorf("%d bytes are said to be sent", sent)
	}
}

// TestCancelled: a cancel ends what is in flight at once, and nothing begins after it.
func TestCancelled(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	m := open(t, server).Mirror("p")
	ctx, cancel := context.WithCancel(t.Context())
	server.Hook(func(r *http.Request) s3test.Fault {
		if s3test.Operation(r) == "UploadPart" {
			time.AfterFunc(20*time.Millisecond, cancel)
			return s3test.Stall
		}
		return s3test.None
	})
	began := time.Now()
	if err := m.Create(ctx, upload1("x", largeContent)); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	server.Hook(nil)
	server.ForgetLog()
	time.Sleep(20 * time.Millisecond)
	for _, e := range server.Log() {
		if e.Status != 0 {
			t.Errorf("after the cancel: %+v", e)
		}
	}
	if server.OpenUploads() != 1 {
		t.Error("there is nothing to go on with")
	}
}

// TestSent: what must be sent again is taken back.
func TestSent(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	m := open(t, server).Mirror("p")
	server.Hook(s3test.Once("UploadPart", 2, s3test.Reset))
	var sent, back int64
	u := upload1("x", largeContent)
	u.Sent = func(n int64) {
		sent += n
		back += min(n, 0)
	}
	if err := m.Create(t.Context(), u); err != nil {
		t.Error(err)
	}
	if sent != int64(len(largeContent)) || back == 0 {
		t.Errorf("sent %d of %d, took back %d", sent, len(largeContent), back)
	}
}

// TestTLS: the same over HTTPS, where content is not signed either.
func TestTLS(t *testing.T) {
	server := s3test.NewTLS(quick(s3test.Options{AccessKey: access, SecretKey: secret}))
	defer server.Close()
	cfg := config(t)
	cfg.HTTPClient = server.Client()
	b, err := Open(t.Context(), cfg, Options{Bucket: "bucket", EndpointURL: server.URL, Threshold: minPart, PartSize: minPart})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"small": smallContent, "large": largeContent} {
		if err := b.Mirror("p").Create(t.Context(), upload1(name, content)); err != nil {
			t.Error(err)
		}
		wantStoredOnce(t, server, "p/"+name, content)
	}
	for _, e := range server.Log() {
		if signed := e.Header.Get("X-Amz-Content-Sha256"); (e.Operation == "PutObject" || e.Operation == "UploadPart") && signed != "UNSIGNED-PAYLOAD" {
			t.Errorf("%s is signed with %s", e.Operation, signed)
		}
	}
}

// TestObserve: every request is told, with its name.
func TestObserve(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	var mu sync.Mutex
	told := map[string]int{}
	m := open(t, server, func(o *Options) {
		o.Observe = func(r Request) {
			mu.Lock()
			defer mu.Unlock()
			told[fmt.Sprint(r.Operation, " ", r.Status)]++
		}
	}).Mirror("p")
	if err := m.Create(t.Context(), upload1("x", largeContent)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Stat(t.Context(), "y"); !errors.Is(err, mirror.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range server.Log() {
		told[fmt.Sprint(e.Operation, " ", e.Status)]--
	}
	for what, n := range told {
		if n != 0 {
			t.Errorf("%s: told %d times more than it was", what, n)
		}
	}
}

// TestLabels: storage class, encryption and key are on everything that is stored.
func TestLabels(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	m := open(t, server, func(o *Options) { o.StorageClass, o.SSE, o.KMSKeyID = "STANDARD_IA", "aws:kms", "alias/cache" }).Mirror("p")
	for name, content := range map[string][]byte{"small": smallContent, "large": largeContent} {
		if err := m.Create(t.Context(), upload1(name, content)); err != nil {
			t.Error(err)
		}
		h := server.Labels("p/" + name)
		if h.Get("X-Amz-Storage-Class") != "STANDARD_IA" || h.Get("X-Amz-Server-Side-Encryption") != "aws:kms" || h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "alias/cache" {
			t.Errorf("%s has the labels %v", name, h)
		}
		if info, err := m.Stat(t.Context(), name); err != nil || info.MD5 != "" {
			t.Errorf("the ETag of an encrypted object is taken for an MD5: %+v, %v", info, err)
		}
	}
}

// TestMD5: of what was sent in one request, and of nothing else.
func TestMD5(t *testing.T) {
	server := serve(t, s3test.Options{})
	m := open(t, server).Mirror("")
	for _, u := range []mirror.Upload{upload1("large", largeContent), upload1("small", []byte("hello"))} {
		if err := m.Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"large": "", "small": "5d41402abc4b2a76b9719d911017c592"}
	for info, err := range m.List(t.Context(), mirror.Range{}) {
		if err != nil || info.MD5 != want[info.Name] {
			t.Errorf("%+v, %v", info, err)
		}
	}
}

// TestNoCredentials: that there are none is told apart from that they do not suffice.
func TestNoCredentials(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	cfg := config(t)
	cfg.Credentials = failing{}
	b, err := Open(t.Context(), cfg, Options{Bucket: "bucket", EndpointURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	m := b.Mirror("")
	if err := m.Create(t.Context(), upload1("x", smallContent)); !errors.Is(err, mirror.ErrCredentials) {
		t.Errorf("create: %v", err)
	}
	if _, err := m.Stat(t.Context(), "x"); !errors.Is(err, mirror.ErrCredentials) {
		t.Errorf("stat: %v", err)
	}
	if len(server.Log()) != 0 {
		t.Error("asked without credentials")
	}
}

// TestReadOnBrokenConnections: reading goes on where it was, or says that the end is missing.
func TestReadOnBrokenConnections(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	server.Put("x", largeContent, false)
	m := open(t, server).Mirror("")
	n := 0
	server.Hook(func(r *http.Request) s3test.Fault {
		if n++; n <= 3 {
			return s3test.Truncate
		}
		return s3test.None
	})
	o, err := m.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	got, err := io.ReadAll(o.Body)
	if err != nil || !bytes.Equal(got, largeContent) {
		t.Errorf("read %d of %d bytes: %v", len(got), len(largeContent), err)
	}
	server.Hook(s3test.Always("GetObject", s3test.Truncate))
	broken, err := m.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Body.Close()
	server.Remove("x")
	if _, err := io.ReadAll(broken.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of what has gone: got error %v", err)
	}
}

// TestClock: a clock that is an hour off is put right by what S3 says of its own.
func TestClock(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	b := open(t, server)
	b.puts.Skew.Store(int64(time.Hour))
	if err := b.Mirror("").Create(t.Context(), upload1("x", smallContent)); err != nil {
		t.Error(err)
	}
	if n := server.Count("PutObject"); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
}

// TestRegion: the region of a bucket is asked for where it is not given.
func TestRegion(t *testing.T) {
	server := serve(t, quick(s3test.Options{Region: "ap-south-1"}))
	aws := func(r *http.Request) (*http.Response, error) { // Amazon's, as far as we can tell
		r = r.Clone(r.Context())
		r.URL.Path = "/" + strings.TrimSuffix(strings.Split(r.URL.Host, ".s3")[0], ".") + r.URL.Path
		r.URL.RawPath = ""
		r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(server.URL, "http://")
		return http.DefaultClient.Do(r)
	}
	defer http.DefaultClient.CloseIdleConnections()
	cfg := config(t)
	cfg.HTTPClient = clientFunc(aws)
	b, err := Open(t.Context(), cfg, Options{Bucket: "bucket"})
	if err != nil || b.Region() != "ap-south-1" {
		t.Errorf("region %v, %v", b, err)
	}
	if _, err := Open(t.Context(), cfg, Options{Bucket: "nowhere"}); !errors.Is(err, mirror.ErrNoBucket) {
		t.Errorf("got error %v", err)
	}
	server.ForgetLog()
	if b, err = Open(t.Context(), cfg, Options{Bucket: "bucket", Region: "eu-west-1"}); err != nil || b.Region() != "eu-west-1" || len(server.Log()) != 0 {
		t.Errorf("a region that is given: %v, %d requests", err, len(server.Log()))
	}
}

type clientFunc func(*http.Request) (*http.Response, error)

func (f clientFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// What is in the way of content that nobody else has is not looked at.
func TestWhatNobodyElseHasIsNotLookedFor(t *testing.T) {
	server := serve(t, s3test.Options{})
	m := open(t, server).Mirror("")
	mine := mirror.Upload{Name: "lead", Content: blob.Bytes([]byte("mine")), Own: true}
	if _, err := m.Swap(t.Context(), mirror.Upload{Name: "lead", Content: blob.Bytes([]byte("another's"))}, mirror.Absent); err != nil {
		t.Fatal(err)
	}
	server.ForgetLog()
	if _, err := m.Swap(t.Context(), mine, mirror.Absent); !errors.Is(err, mirror.ErrConflict) || len(server.Log()) != 1 {
		t.Errorf("%v, requests: %v", err, server.Log())
	}
}
