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

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// A page that a run owes is written before caches are told, and a page that fails for the moment is owed still. One that is not ours is logged, and
// no longer owed: else caches would be told again and again.
func TestAPageIsOwedUntilItIsWritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(clitest.Root("test/testdata/v3-view"))); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	w := &mirrorWork{Mirror: Mirror{Source: dir, Destination: "file://" + dir, Catalog: true}, log: slog.New(slog.NewTextHandler(&log, nil))}
	owed := [][]byte{[]byte(`{"names":[],"shown":[],"pages":[""]}`), []byte(`{"names":[],"shown":[],"pages":[""]}`)}
	parts := filepath.Join(dir, "catalog")
	clitest.Write(t, parts, "a file, where a directory is wanted")
	if err := w.Invalidate(t.Context(), owed); cli.ExitCode(err) != cli.ExitCatalog {
		t.Error(err)
	}
	if err := os.Remove(parts); err != nil {
		t.Fatal(err)
	}
	if err := w.Invalidate(t.Context(), owed); err != nil {
		t.Error(err)
	}
	src, err := source.Open(t.Context(), dir, source.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	to, err := target.Open(t.Context(), "file://"+t.TempDir(), target.Config{}, target.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	plan, err := publish.NewPlan(t.Context(), src, func(p string) mirror.Store { return to.Mirror(p) }, publish.Options{Index: publish.IndexMerge, IfExists: publish.Skip})
	if err != nil {
		t.Fatal(err)
	}
	out := plan.Expected()
	for _, written := range []bool{false, true} {
		out.Mirrors[0].Index.Written = written
		if r := w.outcome(&daemon.Run{}, out); strings.Contains(string(r.Obligation), `"pages":[""]`) != written {
			t.Errorf("index written: %t, owed: %s", written, r.Obligation)
		}
	}
	// The page shows views as well.
	out.Mirrors[0].Index.Written = false
	for _, written := range []bool{false, true} {
		out.Mirrors[0].Views[0].Index.Written = written
		if r := w.outcome(&daemon.Run{}, out); strings.Contains(string(r.Obligation), `"pages":[""]`) != written {
			t.Errorf("view written: %t, owed: %s", written, r.Obligation)
		}
	}
	if owed := w.intention(plan); !strings.Contains(string(owed), `"pages":[""]`) || !w.owes() {
		t.Errorf("before the index is replaced, %s is owed", owed)
	}
	page := filepath.Join(dir, "index.html")
	if _, err := os.Stat(page); err != nil {
		t.Error(err)
	}
	clitest.Write(t, page, "mine")
	log.Reset()
	if err := w.Invalidate(t.Context(), owed); err != nil || !strings.Contains(log.String(), "was not made by this program") {
		t.Errorf("%v, log: %s", err, log.String())
	}
}

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
