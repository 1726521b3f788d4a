package web_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func open(t *testing.T, base string, opts web.Options) *web.Mirror {
	t.Helper()
	m, err := web.Open(base, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestRead(t *testing.T) {
	modified := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/cache/v3/layout.json" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"tag"`)
		http.ServeContent(w, r, "layout.json", modified, strings.NewReader("content"))
	})
	for _, base := range []string{base + "/cache", base + "/cache/"} {
		m := open(t, base, web.Options{})
		want := mirror.Info{Name: "v3/layout.json", Size: 7, Version: `"tag"`, Modified: modified}
		content, opened, err := mirror.Read(t.Context(), m, want.Name, 100)
		if err != nil || string(content) != "content" || opened != want {
			t.Errorf("read: got %q, %+v, %v", content, opened, err)
		}
		if info, err := m.Stat(t.Context(), want.Name); err != nil || info != want {
			t.Errorf("stat: got %+v, %v", info, err)
		}
		if _, err := m.Stat(t.Context(), "v3/none"); !errors.Is(err, mirror.ErrNotExist) {
			t.Errorf("stat of nothing: %v", err)
		}
		if _, err := m.Open(t.Context(), "v3/none"); !errors.Is(err, mirror.ErrNotExist) {
			t.Errorf("open of nothing: %v", err)
		}
		for _, name := range []string{"/v3/layout.json", "../cache/v3/layout.json", "", "v3//layout.json"} {
			if _, err := m.Stat(t.Context(), name); err == nil {
				t.Errorf("stat of %q", name)
			}
		}
	}
}

func TestNamesArriveAsTheyAre(t *testing.T) {
	var path, uri string
	base := serve(t, func(w http.ResponseWriter, r *http.Request) { path, uri = r.URL.Path, r.RequestURI })
	m := open(t, base+"/a%2Fb/c%20d", web.Options{})
	for _, name := range []string{"plain/x-1.2_3~4", "a+b", "100%", "%41", "with space", "q?x=y#z", "me@home:1", "日本/ü", `back\slash`, "a;b,c=d&e"} {
		if _, err := m.Stat(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if path != "/a/b/c d/"+name || strings.ContainsAny(uri, "+ ?#@") || !strings.HasPrefix(uri, "/a%2Fb/c%20d/") {
			t.Errorf("%q arrived as %q, by %s", name, path, uri)
		}
	}
}

func TestHeaders(t *testing.T) {
	var got http.Header
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
	})
	for _, revalidate := range []bool{false, true, true} { // the third would bring the second's cookie
		m := open(t, base, web.Options{Revalidate: revalidate})
		for range 2 {
			if _, err := m.Stat(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
		}
		want := map[bool]string{true: "no-cache"}[revalidate]
		if got.Get("User-Agent") != "slurm-factory-publish" || got.Get("Accept-Encoding") != "identity" ||
			got.Get("Cache-Control") != want || got.Get("Cookie") != "" {
			t.Errorf("got the headers %v", got)
		}
	}
}

func TestWithoutSize(t *testing.T) {
	content := strings.Repeat("content", 1000)
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/dynamic" {
			w.(http.Flusher).Flush()
		}
		io.WriteString(w, content)
	})
	m := open(t, base, web.Options{})
	got, _, err := mirror.Read(t.Context(), m, "dynamic", 1<<20)
	if err != nil || string(got) != content {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	info, err := m.Stat(t.Context(), "dynamic")
	if err != nil || info.Size != int64(len(content)) || info.Version == mirror.Absent {
		t.Errorf("stat: %+v, %v", info, err)
	}
}

func TestNotTheObject(t *testing.T) {
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/short", "/cut":
			w.Header().Set("Content-Length", "100")
			if r.URL.Path == "/cut" {
				w.Header().Del("Content-Length")
				w.(http.Flusher).Flush()
			}
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
		case "/part":
			w.WriteHeader(http.StatusPartialContent)
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		}
	})
	m := open(t, base, web.Options{})
	for _, name := range []string{"short", "cut"} {
		if _, _, err := mirror.Read(t.Context(), m, name, 1000); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got error %v, want ErrUnexpectedEOF", name, err)
		}
	}
	for _, name := range []string{"gzip", "part", "empty"} {
		if _, err := m.Open(t.Context(), name); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDenied(t *testing.T) {
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
	})
	m := open(t, base, web.Options{})
	_, err := m.Open(t.Context(), "x")
	var denied *mirror.DeniedError
	if !errors.As(err, &denied) || denied.Action != "GET" || denied.Name != "x" || !strings.Contains(denied.Detail, "AccessDenied") {
		t.Errorf("open: %v", err)
	}
	if _, err := m.Stat(t.Context(), "x"); !errors.Is(err, mirror.ErrDenied) {
		t.Errorf("stat: %v", err)
	}
}

// A server can send us to another path of its own, and nowhere else.
func TestRedirectsStayOnTheHost(t *testing.T) {
	plain := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("another host was asked") })
	var secure *httptest.Server
	secure = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(secure.URL, "https", "http", 1), http.StatusFound)
	}))
	defer secure.Close()
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/here?version=1", http.StatusFound)
		case "/here":
			io.WriteString(w, "from here")
		case "/elsewhere":
			http.Redirect(w, r, plain+"/x?signature=secret", http.StatusFound)
		case "/localhost":
			http.Redirect(w, r, strings.Replace(plain, "127.0.0.1", "localhost", 1)+"/x?signature=secret", http.StatusFound)
		case "/metadata":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/?signature=secret", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd?signature=secret", http.StatusFound)
		case "/gopher":
			http.Redirect(w, r, "gopher://"+r.Host+"/x?signature=secret", http.StatusFound)
		case "/otheruser":
			http.Redirect(w, r, "http://user:secret@127.0.0.1:1/", http.StatusFound)
		default:
			http.Redirect(w, r, r.URL.Path+"x", http.StatusMovedPermanently)
		}
	})
	m := open(t, base, web.Options{Attempts: 1})
	if got, _, err := mirror.Read(t.Context(), m, "moved", 100); err != nil || string(got) != "from here" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, name := range []string{"elsewhere", "localhost", "metadata", "file", "gopher", "otheruser"} {
		if _, err := m.Stat(t.Context(), name); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "another host or port") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.Stat(t.Context(), "loop"); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("loop: %v", err)
	}
	m = open(t, secure.URL, web.Options{Transport: secure.Client().Transport})
	if _, err := m.Stat(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "https to http") {
		t.Errorf("downgrade: %v", err)
	}
}

func TestURLs(t *testing.T) {
	for _, base := range []string{"", "ftp://host/x", "s3://bucket", "https://", "host/path", "https://host?x", "https://host/?", "https://host/#x",
		"https://me:secret@host:port", "https://me:secret@host/%zz", "https://me:secret@host/?x=secret", "://me:secret@host"} {
		_, err := web.Open(base, web.Options{})
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "me:") {
			t.Errorf("%s: got error %v", base, err)
		}
	}
}

// TestPasswordsAreNotShown: userinfo is sent, to that server alone, and in no error.
func TestPasswordsAreNotShown(t *testing.T) {
	var user, password string
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ = r.BasicAuth()
		http.NotFound(w, r)
	})
	base = strings.Replace(base, "http://", "http://someone:secret@", 1)
	m := open(t, base, web.Options{Attempts: 1})
	_, err := m.Stat(t.Context(), "x")
	if user != "someone" || password != "secret" {
		t.Errorf("sent %q, %q", user, password)
	}
	down := open(t, "http://someone:secret@127.0.0.1:1/", web.Options{Attempts: 1})
	_, refused := down.Stat(t.Context(), "x")
	for _, said := range []string{fmt.Sprint(err), fmt.Sprint(refused), m.String(), down.String()} {
		if strings.Contains(said, "secret") || strings.Contains(said, "someone") || !strings.Contains(said, "127.0.0.1") {
			t.Errorf("said: %s", said)
		}
	}
}

// A script answers the n-th request (from 1) without any network, for clocks that jump.
type script func(n int, r *http.Request) (*http.Response, error)

type scripted struct {
	script
	asked atomic.Int64

	mu    sync.Mutex // guards times
	times []time.Time
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	return s.script(int(s.asked.Add(1)), r)
}

func answer(r *http.Request, code int, header http.Header, body string) *http.Response {
	return &http.Response{StatusCode: code, Status: fmt.Sprint(code, " ", http.StatusText(code)), Header: header, Request: r,
		ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
}

func TestAsksAgain(t *testing.T) {
	for _, test := range []struct {
		name  string
		fails func(r *http.Request) (*http.Response, error)
		again bool
	}{
		{"500", func(r *http.Request) (*http.Response, error) { return answer(r, 500, nil, ""), nil }, true},
		{"503", func(r *http.Request) (*http.Response, error) { return answer(r, 503, nil, ""), nil }, true},
		{"429", func(r *http.Request) (*http.Response, error) { return answer(r, 429, nil, ""), nil }, true},
		{"network", func(r *http.Request) (*http.Response, error) { return nil, errors.New("connection reset") }, true},
		{"silence", func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() }, true},
		{"404", func(r *http.Request) (*http.Response, error) { return answer(r, 404, nil, ""), nil }, false},
		{"403", func(r *http.Request) (*http.Response, error) { return answer(r, 403, nil, ""), nil }, false},
		{"501", func(r *http.Request) (*http.Response, error) { return answer(r, 501, nil, ""), nil }, false},
		{"400", func(r *http.Request) (*http.Response, error) { return answer(r, 400, nil, ""), nil }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{script: func(n int, r *http.Request) (*http.Response, error) {
					if n < 5 {
						return test.fails(r)
					}
					return answer(r, 200, nil, "content"), nil
				}}
				m := open(t, "http://mirror", web.Options{Transport: s})
				content, _, err := mirror.Read(t.Context(), m, "x", 100)
				if test.again && (err != nil || string(content) != "content" || s.asked.Load() != 5) {
					t.Errorf("got %q, %v, after %d requests", content, err, s.asked.Load())
				}
				if !test.again && (err == nil || s.asked.Load() != 1) {
					t.Errorf("got %q, %v, after %d requests", content, err, s.asked.Load())
				}
			})
		})
	}
}

func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{script: func(n int, r *http.Request) (*http.Response, error) {
			return answer(r, 503, http.Header{"Retry-After": {"7"}}, "<Error><Code>SlowDown</Code></Error>"), nil
		}}
		m := open(t, "http://mirror", web.Options{Transport: s, Attempts: 3})
		began := time.Now()
		_, err := m.Open(t.Context(), "x")
		if err == nil || !strings.Contains(err.Error(), "SlowDown") || s.asked.Load() != 3 {
			t.Errorf("got %v after %d requests", err, s.asked.Load())
		}
		if waited := time.Since(began); waited != 14*time.Second {
			t.Errorf("waited %v, want what the server wished, twice", waited)
		}
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{script: func(n int, r *http.Request) (*http.Response, error) { return answer(r, 503, nil, ""), nil }}
		m := open(t, "http://mirror", web.Options{Transport: s, Attempts: 1000})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if _, err := m.Open(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		pauses := slices.Sorted(func(yield func(time.Duration) bool) {
			for n := 1; n < len(s.times); n++ {
				if !yield(s.times[n].Sub(s.times[n-1])) {
					return
				}
			}
		})
		if len(pauses) < 4 || pauses[0] > 500*time.Millisecond || pauses[len(pauses)-1] > 23*time.Second {
			t.Errorf("paused %v", pauses)
		}
	})
}

// TestSilentBody: a server that goes silent in the middle is given up, a reader that
// takes his time is not.
func TestSilentBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{script: func(n int, r *http.Request) (*http.Response, error) {
			a := answer(r, 200, nil, "first, second")
			a.Body = io.NopCloser(io.MultiReader(strings.NewReader("first"), silent{r.Context()}))
			return a, nil
		}}
		m := open(t, "http://mirror", web.Options{Transport: s})
		o, err := m.Open(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		defer o.Body.Close()
		time.Sleep(time.Hour)
		first := make([]byte, 5)
		if _, err := io.ReadFull(o.Body, first); err != nil || !bytes.Equal(first, []byte("first")) {
			t.Errorf("read %q, %v", first, err)
		}
		time.Sleep(time.Hour)
		began := time.Now()
		_, err = o.Body.Read(first)
		if !errors.Is(err, io.ErrUnexpectedEOF) || time.Since(began) != 30*time.Second {
			t.Errorf("got error %v after %v", err, time.Since(began))
		}
	})
}

type silent struct{ ctx context.Context }

func (s silent) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func TestSilenceIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{script: func(_ int, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}}
		_, err := open(t, "http://mirror", web.Options{Transport: s, Attempts: 1, Timeout: time.Minute}).Stat(t.Context(), "x")
		if err == nil || !strings.Contains(err.Error(), "gone silent for 1m") || errors.Is(err, context.Canceled) {
			t.Errorf("got error %v", err)
		}
	})
}

// A server that is asked in the wrong scheme is named with the right one, at once.
func TestTheOtherScheme(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer secure.Close()
	raw, err := net.Listen("tcp", "127.0.0.1:0") // which answers a handshake in words of its own
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	go func() {
		for {
			c, err := raw.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "Bad request version\n")
			c.Close()
		}
	}()
	for url, want := range map[string]string{
		"http://" + strings.TrimPrefix(secure.URL, "https://"): "this server speaks https: want " + secure.URL,
		"https://" + raw.Addr().String():                       "this server speaks http: want http://" + raw.Addr().String(),
	} {
		m, err := web.Open(url, web.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Open(t.Context(), "v3/layout.json"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
		m.Close()
	}
}

// A request counts until its body is closed, also one that fails, and one that waits for its turn ends with its context.
func TestConcurrency(t *testing.T) {
	var now, most atomic.Int64
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		time.Sleep(time.Millisecond)
		if strings.HasSuffix(r.URL.Path, "none") {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", "7000")
		w.Write(bytes.Repeat([]byte("content"), 1000))
	})
	m := open(t, base, web.Options{Concurrency: 3})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			name, want := "x", error(nil)
			if i%5 == 0 {
				name, want = "none", mirror.ErrNotExist
			}
			if _, _, err := mirror.Read(t.Context(), m, name, 1<<20); !errors.Is(err, want) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() != 3 {
		t.Errorf("%d requests at once", most.Load())
	}
	for range 3 {
		o, err := m.Open(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		defer o.Body.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := m.Open(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a fourth one: %v", err)
	}
}
