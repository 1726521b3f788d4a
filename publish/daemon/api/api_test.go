package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/event"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv("API_TEST_SOCKET"); socket != "" {
		_, err := api.Dial(socket).Status(context.Background())
		fmt.Println(err)
		return
	}
	goleak.VerifyTestMain(m)
}

// A fakeWork is a mirror whose packages are whatever they are called.
type fakeWork struct {
	mu    sync.Mutex
	files []string
	deaf  error // what caches say
	hold  chan struct{}
}

func (s *fakeWork) put(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = append(s.files, name)
}

func (s *fakeWork) Arrivals(_ context.Context, dir string) iter.Seq2[daemon.File, error] {
	s.mu.Lock()
	files := slices.Clone(s.files)
	s.mu.Unlock()
	return func(yield func(daemon.File, error) bool) {
		for _, f := range files {
			if strings.HasPrefix(f, dir) && !yield(daemon.File{Name: f, Mark: f}, nil) {
				return
			}
		}
	}
}

func (s *fakeWork) MayHold(string) bool { return true }
func (s *fakeWork) Close() error        { return nil }

func (s *fakeWork) Read(_ context.Context, file string) (daemon.Package, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.HasPrefix(file, "half"):
		return daemon.Package{}, errors.New("unexpected end")
	case !strings.HasPrefix(file, "p/"):
		return daemon.Package{}, arrival.ErrNoDocument
	case !slices.Contains(s.files, file):
		return daemon.Package{}, arrival.ErrGone
	case strings.Contains(file, "other"):
		return daemon.Package{}, arrival.ErrNotSelected
	}
	return daemon.Package{File: file, Digest: file, ID: file + "@1<b>", Bytes: 7}, nil
}

func (s *fakeWork) Check(_ context.Context, p daemon.Package, read func(int64)) error {
	read(p.Bytes)
	if strings.Contains(p.File, "bad") {
		return fmt.Errorf("%w: it is not signed", arrival.ErrRefused)
	}
	return nil
}

func (s *fakeWork) Publish(ctx context.Context, r *daemon.Run) (daemon.Result, error) {
	r.Progress.Planned(int64(len(r.Packages)) * 7)
	r.Progress.Step("", "blobs")
	for _, p := range r.Packages {
		r.Progress.Sent(p.ID, 7, 3)
	}
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return daemon.Result{}, ctx.Err()
		}
	}
	if err := r.Intend([]byte("x")); err != nil {
		return daemon.Result{}, err
	}
	return daemon.Result{Obligation: []byte("x"), Objects: len(r.Packages), Indices: []daemon.IndexStatus{{Layout: "v3", Packages: 5, Bytes: 100, Written: true}}}, nil
}

func (s *fakeWork) Invalidate(context.Context, [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deaf
}

// group is one whose members may use the socket.
const group = 54322

// A world is a daemon that is served on a socket.
type world struct {
	*api.Client
	fakeWork *fakeWork
	server   *api.Server
	socket   string
	stop     func()
}

func begin(t *testing.T, s *fakeWork) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	q, err := queue.Open(t.Context(), filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	d := daemon.New(daemon.Options{Queue: q, Log: slog.New(slog.DiscardHandler), Keep: time.Hour, Grace: time.Second, Stalled: time.Minute}, []daemon.Mirror{{
		Name: "noble", Source: "/srv/noble", Destination: "s3://noble", Fingerprint: "1", Settle: time.Millisecond, MaxDelay: time.Second,
		Scan: time.Minute, Stuck: time.Minute, Caches: true, Work: s,
	}})
	w := &world{fakeWork: s, socket: filepath.Join(dir, "socket"), server: &api.Server{
		Explain: func(err error) (class, hint string) {
			switch {
			case errors.Is(err, daemon.ErrOutside):
				return "config", "hint for " + err.Error()
			case errors.Is(err, arrival.ErrNoDocument):
				return "config", "name the manifest"
			}
			return "", ""
		},
		Daemon: d, Metrics: api.NewMetrics(d, "1.2.3"), Allow: api.Allow{Self: os.Getuid(), Groups: []int{group}}, Version: "1.2.3", Log: slog.New(slog.DiscardHandler),
	}}
	l, err := net.Listen("unix", w.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	serving, end := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := api.Serve(serving, l, w.server.Full()); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		defer end()
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.Client = api.Dial(w.socket)
	w.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		w.Close()
		q.Close()
	})
	t.Cleanup(w.stop)
	return w
}

func (w *world) curl(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", w.socket) }}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestPushAndWait(t *testing.T) {
	w := begin(t, &fakeWork{})
	w.fakeWork.put("p/a")
	jobs, err := w.Push(t.Context(), "/srv/noble/p/a")
	if err != nil || len(jobs.Jobs) != 1 || jobs.Jobs[0].Mirror != "noble" {
		t.Fatalf("%+v, %v", jobs, err)
	}
	for _, wait := range []string{"published", "cdn"} {
		if got, err := w.Wait(t.Context(), jobs.Jobs[0].ID, wait); err != nil || !got.Done || got.Job.State != queue.Published || wait == "cdn" && !got.Invalidated {
			t.Errorf("%s: %+v, %v", wait, got, err)
		}
	}
	again, err := w.Push(t.Context(), "/srv/noble")
	if err != nil || again.Jobs[0].ID != jobs.Jobs[0].ID {
		t.Errorf("%+v, %v", again, err)
	}
	if code, text := w.curl(t, "POST", "/v1/jobs", `{"paths": ["/srv/noble/p/a"]}`); code != http.StatusAccepted || !strings.Contains(text, `"state":"published"`) {
		t.Errorf("%d %s", code, text)
	}
	if code, text := w.curl(t, "GET", "/v1/jobs?state=published&mirror=noble&limit=5", ""); code != http.StatusOK || strings.Count(text, `"id":`) != 1 {
		t.Errorf("%d %s", code, text)
	}
	if _, text := w.curl(t, "GET", "/v1/jobs?mirror=none", ""); strings.TrimSpace(text) != `{"jobs":[]}` {
		t.Errorf("%s", text)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	w := begin(t, &fakeWork{})
	w.fakeWork.put("p/other")
	for _, row := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"POST", "/v1/jobs", `{"paths": ["/etc/shadow"]}`, 403, "outside of every source"},
		{"POST", "/v1/jobs", `{"paths": ["/srv/noble/../../etc/shadow"]}`, 403, "/srv/noble"},
		{"POST", "/v1/jobs", `{"paths": ["/srv/noble/p/none"]}`, 404, "no longer there"},
		{"POST", "/v1/jobs", `{"paths": ["/srv/noble/p/other"]}`, 422, "not selected"},
		{"POST", "/v1/jobs", `{"paths": ["/srv/noble/half"]}`, 422, "found when it is complete"},
		{"POST", "/v1/jobs", `{"paths": ["/srv/noble/README"]}`, 422, "name the manifest"},
		{"POST", "/v1/jobs", `{"paths": []}`, 400, "no paths"},
		{"POST", "/v1/jobs", `{"pahts": []}`, 400, "pahts"},
		{"POST", "/v1/jobs", `{"paths": ["` + strings.Repeat("x", 2<<20) + `"]}`, 400, "too large"},
		{"GET", "/v1/jobs/99", "", 404, "no such job"},
		{"GET", "/v1/jobs/x", "", 400, "number"},
		{"GET", "/v1/jobs/1?wait=forever", "", 400, "want published or cdn"},
		{"POST", "/v1/retry", "", 400, "EOF"},
		{"GET", "/v1/nothing", "", 404, ""},
		{"DELETE", "/v1/jobs", "", 405, ""},
	} {
		if code, text := w.curl(t, row.method, row.path, row.body); code != row.code || !strings.Contains(text, row.want) {
			t.Errorf("%s %s %.60s: %d %s, want %d %s", row.method, row.path, row.body, code, text, row.code, row.want)
		}
	}
	var said *api.Error
	if _, err := w.Push(t.Context(), "/etc/shadow"); !errors.As(err, &said) || said.Status != 403 || said.Class != "config" || said.Hint != "hint for outside of every source" {
		t.Errorf("%+v", err)
	}
}

func TestDrainRetryAndEvents(t *testing.T) {
	w := begin(t, &fakeWork{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard := make(chan event.Event, 100)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	listening := make(chan struct{})
	once := sync.OnceFunc(func() { close(listening) })
	wg.Go(func() {
		w.Events(ctx, func(e event.Event) bool { once(); heard <- e; return true })
	})
	// What the first look found could fail before the drain begins, which would not tell of it.
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.fakeWork.put("p/bad")
	w.fakeWork.put("p/good")
	left, err := w.Drain(t.Context(), func(daemon.Drained) {})
	if err != nil || !left.Done || len(left.Failed) != 1 || left.Failed[0].Package != "p/bad@1<b>" || left.Published != 1 {
		t.Errorf("%+v, %v", left, err)
	}
	var said *api.Error
	if n, err := w.Retry(t.Context(), 99); n.Jobs != 0 || !errors.As(err, &said) || said.Status != http.StatusNotFound || !strings.Contains(said.Message, "job 99: no such job") {
		t.Error(n, err)
	}
	if n, err := w.Retry(t.Context()); n.Jobs != 1 || err != nil {
		t.Error(n, err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case <-listening:
	case <-time.After(10 * time.Second):
		t.Error("no events")
	}
}

// Who waits when the daemon stops is told so.
func TestStopping(t *testing.T) {
	w := begin(t, &fakeWork{hold: make(chan struct{})})
	w.fakeWork.put("p/a")
	said := make(chan error, 1)
	began := make(chan struct{})
	once := sync.OnceFunc(func() { close(began) })
	go func() {
		_, err := w.Drain(context.Background(), func(daemon.Drained) { once() })
		said <- err
	}()
	<-began
	w.stop()
	var e *api.Error
	if err := <-said; !errors.As(err, &e) || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("%v", err)
	}
	if _, err := api.Dial(w.socket).Status(t.Context()); !errors.Is(err, api.ErrNoDaemon) {
		t.Errorf("%v", err)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	w := begin(t, &fakeWork{})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		code, _ := w.curl(t, "GET", "/readyz", "")
		if code == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never ready")
		}
	}
	if code, text := w.curl(t, "GET", "/healthz", ""); code != http.StatusOK || text != "ok\n" {
		t.Errorf("%d %s", code, text)
	}
}

var elsewhere = regexp.MustCompile(`(?:src=|href=|url\(|fetch\(|import )["']?(?:[a-z]+:)?//`)

func TestThePage(t *testing.T) {
	w := begin(t, &fakeWork{deaf: errors.New("too many <invalidations>")})
	w.fakeWork.put("p/bad")
	w.fakeWork.put("p/good")
	if _, err := w.Drain(t.Context(), func(daemon.Drained) {}); err != nil {
		t.Fatal(err)
	}
	code, page := w.curl(t, "GET", "/", "")
	for _, want := range []string{"<noscript>", "Dead letters", "p/bad@1&lt;b&gt;", "refused: it is not signed", "too many &lt;invalidations&gt;", "noble", "5 packages, 100 B", "version 1.2.3"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if code != http.StatusOK || elsewhere.MatchString(page) || strings.Contains(page, "<b>") {
		t.Errorf("%d: the page loads something, or lets names be HTML:\n%s", code, page)
	}
	if _, live := w.curl(t, "GET", "/live", ""); strings.Contains(live, "<html") || !strings.Contains(live, "Dead letters") {
		t.Errorf("live:\n%s", live)
	}
	for _, name := range []string{"/page.css", "/page.js"} {
		if code, text := w.curl(t, "GET", name, ""); code != http.StatusOK || elsewhere.MatchString(text) {
			t.Errorf("%s: %d", name, code)
		}
	}
}

// At an address anybody may look, and nobody may do anything, nor a page of somebody else look.
func TestReadOnly(t *testing.T) {
	w := begin(t, &fakeWork{})
	srv := httptest.NewServer(w.server.ReadOnly())
	defer srv.Close()
	ask := func(method, path, host string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, row := range []struct {
		method, path, host string
		want               int
	}{
		{"GET", "/", "", 200}, {"GET", "/v1/status", "", 200}, {"GET", "/metrics", "localhost:80", 200}, {"GET", "/", "[::1]:80", 200},
		{"GET", "/", "evil.example.org", 403}, {"GET", "/", "evil.example.org:9464", 403}, {"GET", "/metrics", "10.0.0.1", 403},
		{"POST", "/v1/jobs", "", 404}, {"POST", "/v1/drain", "", 404}, {"POST", "/v1/retry", "", 404}, {"GET", "/v1/events", "", 404}, {"GET", "/v1/jobs", "", 404},
	} {
		if got := ask(row.method, row.path, row.host); got != row.want {
			t.Errorf("%s %s as %q: %d, want %d", row.method, row.path, row.host, got, row.want)
		}
	}
}

func TestOnlyPeersThatAreAllowed(t *testing.T) {
	for _, row := range []struct {
		allow api.Allow
		peer  api.Peer
		ok    bool
	}{
		{api.Allow{Self: 100}, api.Peer{User: 100}, true},
		{api.Allow{Self: 100}, api.Peer{User: 0}, true},
		{api.Allow{Self: 100}, api.Peer{User: 101, Groups: []int{100}}, false},
		{api.Allow{Self: 100, Users: []int{101}}, api.Peer{User: 101}, true},
		{api.Allow{Self: 100, Groups: []int{50}}, api.Peer{User: 101, Groups: []int{7, 50}}, true},
		{api.Allow{Self: 100, Groups: []int{50}}, api.Peer{User: 101, Groups: []int{7}}, false},
	} {
		if err := row.allow.Admits(row.peer); (err == nil) != row.ok {
			t.Errorf("%+v, %+v: %v", row.allow, row.peer, err)
		}
	}
	// And what the kernel says of a peer is what is looked at.
	if os.Getuid() != 0 {
		return // who is not root cannot be somebody else
	}
	w := begin(t, &fakeWork{})
	if err := os.Chmod(filepath.Dir(w.socket), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(filepath.Dir(w.socket), "client")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, self, 0o755); err != nil {
		t.Fatal(err)
	}
	as := func(groups ...uint32) string {
		cmd := exec.Command(bin)
		cmd.Env = []string{"API_TEST_SOCKET=" + w.socket}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321, Groups: groups}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if said := as(); !strings.Contains(said, "user 54321") || !strings.Contains(said, "not allowed") {
		t.Errorf("a stranger: %s", said)
	}
	many := make([]uint32, 200)
	for i := range many {
		many[i] = uint32(60000 + i)
	}
	if said := as(many...); !strings.Contains(said, "not allowed") {
		t.Errorf("a stranger in many groups: %s", said)
	}
	if said := as(append(many, group)...); said != "<nil>" {
		t.Errorf("a member of the group: %s", said)
	}
}

// The names of metrics are those that are documented: test/docs compares.
func TestMetrics(t *testing.T) {
	w := begin(t, &fakeWork{})
	w.fakeWork.put("p/bad")
	w.fakeWork.put("p/good")
	if _, err := w.Drain(t.Context(), func(daemon.Drained) {}); err != nil {
		t.Fatal(err)
	}
	w.server.Metrics.Request("PutObject", "200")
	code, text := w.curl(t, "GET", "/metrics", "")
	for _, want := range []string{
		`publish_jobs{mirror="noble",state="failed"} 1`, `publish_jobs{mirror="noble",state="published"} 1`, `publish_s3_requests_total{operation="PutObject",status="200"} 1`,
		`publish_index_packages{layout="v3",mirror="noble",path=""} 5`, `publish_package_seconds_count{mirror="noble"} 1`, `publish_healthy 1`,
		`publish_runs_total{class="",mirror="noble",result="ok"} 1`, `publish_caches_told_total{mirror="noble"} 1`, `publish_checked_bytes_total 14`, "go_goroutines",
	} {
		if !strings.Contains(text, want+"\n") && !strings.Contains(text, want+" ") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if code != http.StatusOK {
		t.Errorf("%d\n%s", code, text)
	}
}

func TestSocketsThatAreTooLong(t *testing.T) {
	long := "/tmp/" + strings.Repeat("x", 300)
	if _, err := api.Dial(long).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "a socket can have 107") {
		t.Error(err)
	}
	if err := api.CheckSocket("/run/publish.sock"); err != nil {
		t.Error(err)
	}
}

// A status can be read by who knows nothing of us.
func TestStatusIsPlainJSON(t *testing.T) {
	w := begin(t, &fakeWork{})
	_, text := w.curl(t, "GET", "/v1/status", "")
	var said struct {
		Healthy bool
		Mirrors []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(text), &said); err != nil || !said.Healthy || said.Mirrors[0].Name != "noble" {
		t.Errorf("%v: %s", err, text)
	}
}
