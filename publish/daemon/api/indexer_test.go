package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/events/eventstest"
)

// An indexer is answered for by the same server as a daemon, at the same addresses; it can be looked
// at, and that is all.
func TestIndexer(t *testing.T) {
	q := eventstest.New(1)
	away := make(chan struct{})
	q.Fault = func(call string) error {
		select {
		case <-away:
			return errors.New("no route to host")
		default:
			return nil
		}
	}
	h := events.New(events.Config{Queue: q, Address: "sqs://queue<b>", Bucket: "cache", Settle: time.Millisecond, Update: func(context.Context, events.Changes) (events.Result, error) {
		return events.Result{Indices: []events.IndexStatus{{Layout: "v3", Packages: 3, Bytes: 100, Written: true}}, Invalidated: true}, nil
	}})
	dir, err := os.MkdirTemp("", "api") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	w := &world{socket: filepath.Join(dir, "socket"), server: &api.Server{
		Indexer: h, Metrics: api.NewIndexerMetrics(h, "1.2.3"), Allow: api.Allow{Self: os.Getuid()}, Version: "1.2.3", Log: slog.New(slog.DiscardHandler),
	}}
	l, err := net.Listen("unix", w.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		if err := api.Serve(ctx, l, w.server.Full()); err != nil {
			t.Error(err)
		}
	})
	if code, text := w.curl(t, "GET", "/readyz", ""); code != http.StatusServiceUnavailable || !strings.Contains(text, "not answered yet") {
		t.Errorf("before it runs: %d %s", code, text)
	}
	running.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	q.Send(`{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","eventTime":"2026-11-20T10:00:00.000Z","s3":{"bucket":{"name":"cache"},"object":{"key":"no<b>ble/v3/manifests/index/index.manifest.json"}}}]}`)
	q.Send("hello")
	client := api.Dial(w.socket)
	defer client.Close()
	var s api.Status
	for deadline := time.Now().Add(30 * time.Second); s.Indexer == nil || s.Indexer.Queue.Handled < 1 || s.Indexer.Queue.Left < 1; time.Sleep(10 * time.Millisecond) {
		if s, err = client.Status(t.Context()); err != nil || time.Now().After(deadline) {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	if m := s.Indexer.Mirrors[0]; !s.Healthy || m.Name != "s3://cache/no<b>ble" || m.Switched == nil || m.Indices[0].Packages != 3 || m.Last.Lag == 0 {
		t.Errorf("%+v", s.Indexer)
	}
	text, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(text), `"mode":"indexer"`) || !strings.Contains(string(text), `"obligations":[]`) {
		t.Errorf("%s, %v", text, err)
	}
	for _, row := range []struct {
		method, path, body string
		code               int
		want               []string
	}{
		{"GET", "/healthz", "", 200, []string{"ok"}},
		{"GET", "/readyz", "", 200, []string{"ok"}},
		{"GET", "/", "", 200, []string{"<title>publish indexer</title>", "sqs://queue&lt;b&gt;", "s3://cache/no&lt;b&gt;ble", "3 packages, 100 B", "To be delivered again", "not a notification", "version 1.2.3"}},
		{"GET", "/live", "", 200, []string{"<h2>Mirrors</h2>"}},
		{"GET", "/page.js", "", 200, nil},
		{"GET", "/metrics", "", 200, []string{
			`publish_messages_received_total 2`, `publish_messages_total{result="handled"} 1`, `publish_messages_total{result="left"} 1`, `publish_messages_total{result="dead"} 0`, `publish_messages_left 1`,
			`publish_index_packages{layout="v3",mirror="s3://cache/no<b>ble",path=""} 3`, `publish_index_switches_total{mirror="s3://cache/no<b>ble"} 1`, `publish_event_seconds_count{mirror="s3://cache/no<b>ble"} 1`,
			`publish_runs_total{class="",mirror="s3://cache/no<b>ble",result="ok"} 1`, `publish_healthy 1`, `publish_build_info{version="1.2.3"} 1`, `publish_obligations{mirror="s3://cache/no<b>ble"} 0`, "go_goroutines",
		}},
		{"POST", "/v1/jobs", `{"paths": ["/srv"]}`, 501, []string{"this is an indexer"}},
		{"POST", "/v1/drain", "", 501, []string{"this is an indexer"}},
		{"GET", "/v1/events", "", 501, []string{"this is an indexer"}},
	} {
		code, text := w.curl(t, row.method, row.path, row.body)
		if code != row.code || strings.Contains(text, "<b>") && row.path != "/metrics" {
			t.Errorf("%s %s: %d\n%s", row.method, row.path, code, text)
		}
		for _, want := range row.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s %s lacks %s:\n%s", row.method, row.path, want, text)
			}
		}
	}
	anybody := httptest.NewServer(w.server.ReadOnly())
	defer anybody.Close()
	if resp, err := anybody.Client().Get(anybody.URL + "/v1/status"); err != nil || resp.StatusCode != 200 || resp.Body.Close() != nil {
		t.Error(resp, err)
	}
	close(away)
	q.Send("") // it has been waiting for messages
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if code, text := w.curl(t, "GET", "/readyz", ""); code == http.StatusServiceUnavailable && strings.Contains(text, "no route to host") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the queue is away: %d %s", code, text)
		}
	}
	if code, _ := w.curl(t, "GET", "/healthz", ""); code != 200 {
		t.Errorf("the queue is away: not healthy")
	}
	if _, text := w.curl(t, "GET", "/", ""); !strings.Contains(text, "cannot be asked: no route to host") {
		t.Errorf("the queue is away:\n%s", text)
	}
}
