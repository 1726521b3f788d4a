package cdn_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/cdn"
)

// world is an origin that counts, an edge before it, and a clock.
type world struct {
	edge    *cdn.Edge
	url     string
	now     time.Time
	content map[string]string // what the origin holds; absent is 404
	control string            // its Cache-Control
}

func newWorld(t *testing.T) *world {
	w := &world{now: time.Unix(1e9, 0), content: map[string]string{}}
	origin := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.control != "" {
			rw.Header().Set("Cache-Control", w.control)
		}
		content, ok := w.content[r.URL.Path]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("ETag", fmt.Sprintf("%q", content))
		io.WriteString(rw, content)
	}))
	w.edge = &cdn.Edge{Origin: origin.URL, Transport: http.DefaultTransport, Now: func() time.Time { return w.now }}
	edge := httptest.NewServer(w.edge)
	w.url = edge.URL
	t.Cleanup(edge.Close)
	t.Cleanup(origin.Close)
	return w
}

func (w *world) get(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get(w.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return string(body)
}

func TestKeepsForAsLongAsTheOriginSays(t *testing.T) {
	for _, row := range []struct {
		control string
		ttl     time.Duration
	}{
		{"", 24 * time.Hour},
		{"public, max-age=300", 300 * time.Second},
		{"public, max-age=0, s-maxage=60, stale-while-revalidate=30", time.Minute},
		{"public, max-age=31536000, immutable", 31536000 * time.Second},
		{"no-cache", 0},
		{"no-store, max-age=5", 0},
	} {
		w := newWorld(t)
		w.control = row.control
		w.content["/a"] = "old"
		w.get(t, "/a")
		w.content["/a"] = "new"
		if row.ttl > 0 {
			w.now = w.now.Add(row.ttl - time.Second)
			if got := w.get(t, "/a"); got != "old" {
				t.Errorf("%q: %q before %v", row.control, got, row.ttl)
			}
			w.now = w.now.Add(time.Second)
		}
		if got := w.get(t, "/a"); got != "new" {
			t.Errorf("%q: %q after %v", row.control, got, row.ttl)
		}
	}
}

// Whoever asks too early makes an object invisible for a while.
func TestKeepsErrors(t *testing.T) {
	w := newWorld(t)
	w.get(t, "/a")
	w.content["/a"] = "there"
	if got := w.get(t, "/a"); got != "404 Not Found" {
		t.Errorf("got %q at once", got)
	}
	w.now = w.now.Add(10 * time.Second)
	if got := w.get(t, "/a"); got != "there" {
		t.Errorf("got %q after ten seconds", got)
	}
}

func TestInvalidation(t *testing.T) {
	w := newWorld(t)
	paths := []string{"/v3/a", "/v3/b%20c", "/v2/a"}
	for _, row := range []struct {
		invalidate string
		fresh      []bool
	}{
		{"/v3/a", []bool{true, false, false}},
		{"/v3/b%20c", []bool{false, true, false}},
		{"/v3/*", []bool{true, true, false}},
		{"/*", []bool{true, true, true}},
		{"/v3", []bool{false, false, false}},
	} {
		w.content = map[string]string{"/v3/a": "old", "/v3/b c": "old", "/v2/a": "old"}
		w.edge.Invalidate("/*")
		for _, p := range paths {
			w.get(t, p)
		}
		w.content = map[string]string{"/v3/a": "new", "/v3/b c": "new", "/v2/a": "new"}
		if err := w.edge.Invalidate(row.invalidate); err != nil {
			t.Fatal(err)
		}
		for i, p := range paths {
			if got := w.get(t, p); (got == "new") != row.fresh[i] {
				t.Errorf("after %s: %s is %q", row.invalidate, p, got)
			}
		}
	}
	if err := w.edge.Invalidate("v3/a"); err == nil {
		t.Error("a path without a slash is accepted")
	}
}

func TestRevalidation(t *testing.T) {
	w := newWorld(t)
	w.content["/a"] = "content"
	for range 2 {
		req, _ := http.NewRequest(http.MethodGet, w.url+"/a", nil)
		req.Header.Set("If-None-Match", `"content"`)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotModified {
			t.Errorf("got %s", resp.Status)
		}
	}
	if hits, misses := w.edge.Counts(); hits != 1 || misses != 1 {
		t.Errorf("%d hits, %d misses", hits, misses)
	}
}
