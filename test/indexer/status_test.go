package indexer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/browser"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/systemd"
)

// A host is one indexer that says how it is.
type host struct {
	*fleet
	site   string // where its page is
	socket string
	config string
	heard  *systemd.Manager
}

// newHost starts `publish daemon` with mode: indexer, watched over by a systemd.
func newHost(t *testing.T, f *fleet, more string) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "host") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{fleet: f, site: "http://" + l.Addr().String(), socket: dir + "/socket", config: dir + "/config.yaml", heard: systemd.Manage(t, dir+"/notify")}
	config := fmt.Sprintf("mode: indexer\nqueue: %s\nlisten: %s\nsocket: %s\n%smirrors:\n  - destination: s3://%s\n    endpoint_url: %s\n    settle: 1s\n    distribution_id: %s\n",
		f.queue, l.Addr(), h.socket, more, f.name, machine.url, distribution)
	l.Close()
	if err := os.WriteFile(h.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	f.env = append(f.env, "NOTIFY_SOCKET="+dir+"/notify", "WATCHDOG_USEC=400000")
	f.args = []string{"daemon", "--config", h.config}
	f.start(t)
	return h
}

// ask returns what the host answers; nothing while nobody listens.
func (h *host) ask(path string) (code int, text string) {
	resp, err := http.Get(h.site + path)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func (h *host) until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, text := h.ask("/v1/status")
			t.Fatalf("not so: %s\n%s", what, text)
		}
	}
}

// What an operator of indexers needs to know is on a page, in the status and in metrics, with the names that
// are documented: messages by what came of them, how old the oldest is, mirrors with their indices, what
// is left and why, and what is dead.
func TestAnIndexerSaysHowItIs(t *testing.T) {
	t.Parallel()
	needMachine(t)
	f := newFleet(t, newBucket(t, "watched", 2), 0)
	h := newHost(t, f, "")
	h.until(t, "it is ready", func() bool { code, _ := h.ask("/readyz"); return code == 200 })
	if h.heard.Count("READY=1") != 1 {
		t.Errorf("systemd was told %q", h.heard)
	}
	for mirror, fixture := range map[string]string{"noble/spack": "v3-signed", "slurm/25.11/13.4.0/buildcache": "v2-signed", "jammy/spack": "v3-unsigned"} {
		for name, content := range pushed(t, fixture) {
			if err := f.put(t.Context(), mirror+"/"+name, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Anybody who may store an object chooses what it is called.
	const hostile = "\x1b[2J<img src=x onerror='document.title=1'>"
	if err := f.send(t.Context(), `{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"other"},"object":{"key":"`+url.QueryEscape(hostile)+`"}}}]}`); err != nil {
		t.Fatal(err)
	}
	var said struct {
		Mode    string
		Healthy bool
		Queue   struct {
			Held, Deliveries              int
			Received, Handled, Left, Dead int
		}
		Mirrors []struct {
			Name    string
			LastJob struct {
				Lag float64 `json:"lag_seconds"`
			} `json:"last_update"`
			Switched    *time.Time
			Invalidated *time.Time
			Indices     []struct{ Packages, Bytes int }
		}
		Left, Dead []struct {
			Object, Reason string
			Deliveries     int
		}
	}
	h.until(t, "everything is handled but one message", func() bool {
		_, text := h.ask("/v1/status")
		if err := json.Unmarshal([]byte(text), &said); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return said.Queue.Held == 0 && len(said.Mirrors) == 3 && len(said.Left) == 1
	})
	if said.Mode != "indexer" || !said.Healthy || said.Queue.Deliveries != 2 || said.Queue.Handled < 10 || said.Queue.Left < 1 {
		t.Errorf("status: %+v", said)
	}
	for _, m := range said.Mirrors {
		if !strings.HasPrefix(m.Name, "s3://watched/") || m.Switched == nil || m.Invalidated == nil || len(m.Indices) != 1 || m.Indices[0].Packages == 0 || m.Indices[0].Bytes == 0 || m.LastJob.Lag <= 0 {
			t.Errorf("mirror: %+v", m)
		}
	}
	page, err := url.Parse(h.site)
	if err != nil {
		t.Fatal(err)
	}
	framed := browser.Framed(t, page)
	browser.Keep(t, framed)
	for _, width := range []int{browser.Narrow, browser.Wide} {
		browser.Fits(t, framed, width)
	}
	for _, later := range []string{"--no-first-run", browser.Later} {
		dom, complaints := browser.Open(t, h.site+"/", later, "--dump-dom")
		for _, want := range []string{"publish indexer", f.queue, "s3://watched/noble/spack", "To be delivered again", "&lt;img src=x", "is not in s3://watched", "last switch"} {
			if !strings.Contains(dom, want) {
				t.Errorf("the page lacks %q:\n%s", want, dom)
			}
		}
		if complaints != "" || strings.Contains(dom, "<img") || strings.Contains(dom, "<title>1") {
			t.Errorf("a name is markup: %s\n%s", complaints, dom)
		}
	}
	r, err := program.Run(f.env, f.bin, "status", "--socket", h.socket)
	if err != nil || r.Code != 0 || !strings.Contains(r.Stdout, "s3://watched/noble/spack") || !strings.Contains(r.Stdout, "left: s3://other/\ufffd[2J<img src=x") || strings.Contains(r.Stdout, "\x1b") {
		t.Errorf("publish status: %v\n%s", err, r)
	}
	r, err = program.Run(f.env, f.bin, "push", "--socket", h.socket, "/srv")
	if err != nil || r.Code == 0 || !strings.Contains(r.Stderr, "this is an indexer") {
		t.Errorf("publish push: %v\n%s", err, r)
	}

	r, err = program.Run(f.env, f.bin, "doctor", "--config", h.config)
	for _, want := range []string{"ok    indexer", "ok    queue", "CloudFront can be invalidated"} {
		if err != nil || r.Code != 0 || !strings.Contains(r.Stdout, want) {
			t.Errorf("publish doctor, without %q: %v\n%s", want, err, r)
		}
	}

	h.until(t, "the message is dead", func() bool {
		_, text := h.ask("/metrics")
		return strings.Contains(text, `publish_messages_total{result="dead"} 1`)
	})
	f.await(t, f.dead, "1+0", time.Minute)
	if _, page := h.ask("/live"); !strings.Contains(page, "Dead letters") || strings.Contains(page, "To be delivered again") {
		t.Errorf("the page:\n%s", page)
	}
	_, text := h.ask("/metrics")
	names := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (publish_\w+) `).FindAllStringSubmatch(text, -1) {
		names[m[1]] = true
	}
	if got, want := slices.Sorted(maps.Keys(names)), documented(t); !slices.Equal(got, want) {
		t.Errorf("metrics are\n%s\ndocumented are\n%s", got, want)
	}
	for _, want := range []string{`publish_index_packages{layout="v2",mirror="s3://watched/slurm/25.11/13.4.0/buildcache",path=""} `, `publish_event_seconds_count{mirror="s3://watched/noble/spack"} `, `publish_healthy 1`} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if h.heard.Count("WATCHDOG=1") == 0 {
		t.Errorf("systemd was told %q", h.heard)
	}
	config, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	for n, text := range []string{string(config), "mode: neither\n"} { // whatever it is then, it goes on
		if err := os.WriteFile(h.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f.hosts[0].Hangup()
		h.until(t, "it was asked to load its configuration", func() bool { return h.heard.Count("RELOADING=1") == n+1 && h.heard.Count("READY=1") == n+2 })
		if code, _ := h.ask("/healthz"); code != 200 {
			t.Errorf("after SIGHUP: %d", code)
		}
	}
	f.stop(t)
	if h.heard.Count("STOPPING=1") != 1 {
		t.Errorf("systemd was told %q", h.heard)
	}
	if _, err := os.Stat(h.socket); err == nil {
		t.Error("the socket is still there")
	}
	if err := os.WriteFile(h.config, bytes.Replace(config, []byte("/watched\n"), []byte("/none\n"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err = program.Run(f.env, f.bin, "doctor", "--no-write", "--config", h.config)
	if err != nil || r.Code != 5 || !strings.Contains(r.Stdout, "note  indexer: it is not running") || !strings.Contains(r.Stdout, "FAIL  queue: no such queue") {
		t.Errorf("publish doctor: %v\n%s", err, r)
	}
}

// documented are the metrics in the docs.
func documented(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("../..", "docs/indexer.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n### Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(publish_\\w+)` \\|").FindAllStringSubmatch(section, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// While nothing moves the indexer is not healthy, and systemd is not told that it is; and then it is
// again.
func TestAnIndexerThatStallsSaysSo(t *testing.T) {
	t.Parallel()
	needMachine(t)
	f := newFleet(t, newBucket(t, "stalling", 10), 0)
	f.slow.Store(int64(15 * time.Second)) // what CloudFront takes to answer
	h := newHost(t, f, "stalled_after: 2s\n")
	h.until(t, "it is ready", func() bool { code, _ := h.ask("/readyz"); return code == 200 })
	for name, content := range pushed(t, "v3-unsigned") {
		if err := f.put(t.Context(), name, content); err != nil {
			t.Fatal(err)
		}
	}
	h.until(t, "it is stalled", func() bool { code, text := h.ask("/healthz"); return code == 503 && strings.Contains(text, "stalled") })
	before := h.heard.Count("WATCHDOG=1")
	time.Sleep(2 * time.Second)
	if code, _ := h.ask("/healthz"); code == 503 && h.heard.Count("WATCHDOG=1") > before+1 {
		t.Error("systemd is told that all is well")
	}
	f.slow.Store(0)
	h.until(t, "it moves again", func() bool { code, _ := h.ask("/healthz"); return code == 200 })
	now := h.heard.Count("WATCHDOG=1")
	h.until(t, "systemd is told so", func() bool { return h.heard.Count("WATCHDOG=1") > now })
}
