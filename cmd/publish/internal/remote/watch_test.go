package remote

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
)

// A writer calls on each write.
type writer struct {
	mu   sync.Mutex
	text bytes.Buffer
	on   func(all string)
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	w.on(w.text.String())
	return len(p), nil
}

// A status that is watched is there again when the daemon is: a restart ends nothing. A daemon that never was there is an error.
func TestAWatchedDaemonComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	start := func() *http.Server {
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"healthy":true,"mirrors":[]}`)
		})}
		go s.Serve(listener)
		return s
	}
	c := api.Dial(path)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := start()
	var once, again sync.Once
	gone := false
	out := &writer{on: func(all string) {
		once.Do(func() { go server.Close() })
		if gone && strings.Count(all, "MIRROR") > 1 {
			cancel()
		}
	}}
	errs := &writer{on: func(all string) {
		if strings.Contains(all, "trying again") {
			again.Do(func() { gone = true; server = start() })
		}
	}}
	defer func() { server.Close() }()
	env := cli.Env{Stdout: out, Stderr: errs, Raw: cli.Streams{Stdout: out, Stderr: errs}}
	if err := watchStatus(ctx, env, c, false); err != nil || !gone {
		t.Errorf("%v; went away: %v", err, gone)
	}
	if err := watchStatus(t.Context(), env, api.Dial(path+".none"), false); err == nil {
		t.Error("a daemon that never was there is watched")
	}
}
