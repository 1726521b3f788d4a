package service

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// Invalidations that many runs owe are sent together, and each index is read back once. That takes three requests: the
// manifest of the index, the receipt that would save reading the index, and the index.
func TestTheIndexIsReadOnceForManyObligations(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(clitest.Root("test/testdata/v3-unsigned"))); err != nil {
		t.Fatal(err)
	}
	var index, all atomic.Int64
	files := http.FileServerFS(os.DirFS(dir))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all.Add(1)
		if strings.HasPrefix(r.URL.Path, "/blobs/") {
			index.Add(1)
		}
		files.ServeHTTP(w, r)
	}))
	defer srv.Close()
	names, _ := filepath.Glob(dir + "/v3/manifests/spec/zlib/*")
	base := strings.TrimSuffix(filepath.Base(names[0]), ".spec.manifest.json")
	hash := base[strings.LastIndex(base, "-")+1:]
	for _, n := range []int{1, 10, 200} {
		index.Store(0)
		all.Store(0)
		w := &mirrorWork{Mirror: Mirror{
			Source: dir, Destination: "file://" + dir, Target: target.Config{CDN: target.CDNConfig{PublicURL: srv.URL, MaxPaths: 100}},
		}, log: slog.New(slog.DiscardHandler)}
		var owed [][]byte
		for i := range n {
			owed = append(owed, fmt.Appendf(nil, `{"names":["v3/manifests/index/index.manifest.json"],"shown":[{"path":"","pointers":["v3/manifests/index/index.manifest.json"],"digest":"%064d","layout":"v3","packages":["%s"]}]}`, i, hash))
		}
		if err := w.Invalidate(t.Context(), owed); err != nil {
			t.Fatal(err)
		}
		if index.Load() != 1 || all.Load() > 3 {
			t.Errorf("%d runs are owed: the whole index is read %d times, %d requests", n, index.Load(), all.Load())
		}
	}
}
