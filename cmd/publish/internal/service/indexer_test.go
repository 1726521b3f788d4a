package service

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/views"
)

// indexerOf is an indexer of the mirrors below a directory, with a distribution E1 before them, and
// what it prints.
func indexerOf(t *testing.T, dir string) (*indexWork, *cloudfronttest.Server, *bytes.Buffer) {
	t.Helper()
	api := cloudfronttest.New("E1")
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{"AWS_ENDPOINT_URL_CLOUDFRONT": server.URL, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1", "AWS_PROFILE": ""} {
		t.Setenv(name, value)
	}
	var out, log bytes.Buffer
	env := cli.Env{Stdout: &out, Stderr: &log}
	config := target.Config{CDN: target.CDNConfig{Distribution: "E1", MaxPaths: 100}}
	d, err := target.Open(t.Context(), "file://"+dir, config, target.Environment{Log: env.Log()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	c, err := d.OpenCDN(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &indexWork{destination: d, cdn: c, healed: printer(true, env.Stdout)}, api, &out
}

// unindexed is a mirror that Spack pushed into without an index, at m below a directory, and the
// names of its documents.
func unindexed(t *testing.T, m string) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir+"/"+m, os.DirFS(clitest.Spack(t, "v3-unsigned"))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir + "/" + m + "/" + layout.V3Indices); err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(os.DirFS(dir+"/"+m), layout.V3Specs+"*/*")
	if err != nil || len(names) == 0 {
		t.Fatalf("%q, %v", names, err)
	}
	return dir, names
}

// Until caches are told, a job is not done, though the index is turned: who does it again tells
// them, and finds nothing else to do.
func TestIndexerIsNotDoneBeforeCachesAreTold(t *testing.T) {
	dir, names := unindexed(t, "noble/spack")
	x, api, _ := indexerOf(t, dir)
	api.Deny("cloudfront:CreateInvalidation")
	if came, err := x.update(t.Context(), events.Changes{Mirror: "noble/spack", Names: names}); cli.ExitCode(err) != cli.ExitInvalidation || !came.InvalidationFailed || came.Invalidated || !came.Indices[0].Written || came.Indices[0].Bytes == 0 {
		t.Fatalf("came: %+v, error is %v", came, err)
	}
	if _, err := os.Stat(dir + "/noble/spack/" + layout.V3Index); err != nil {
		t.Fatal(err)
	}
	x, api, _ = indexerOf(t, dir) // on another host, with other rights
	came, err := x.update(t.Context(), events.Changes{Mirror: "noble/spack", Names: names, Again: names})
	if err != nil || len(came.Left) != 0 || came.InvalidationFailed || !came.Invalidated {
		t.Fatalf("came: %+v, %v", came, err)
	}
	if got := api.Invalidations("E1"); len(got) != 1 || !slices.Contains(got[0], "/noble/spack/"+layout.V3Index) {
		t.Errorf("invalidated: %q", got)
	}
	// What was told once, and is in order, is told to no cache.
	if _, err := x.update(t.Context(), events.Changes{Mirror: "noble/spack", Names: names}); err != nil || len(api.Invalidations("E1")) != 1 {
		t.Errorf("invalidated: %q, %v", api.Invalidations("E1"), err)
	}
}

// The indexer updates the page of a mirror after its index, also after another program has written that, and invalidates both. A page that is
// not ours stays, and does not prevent the invalidation.
func TestIndexerKeepsThePage(t *testing.T) {
	dir, names := unindexed(t, "noble/spack")
	x, api, _ := indexerOf(t, dir)
	x.catalog, x.log = true, slog.New(slog.DiscardHandler)
	for range 2 {
		if _, err := x.update(t.Context(), events.Changes{Mirror: "noble/spack", Names: names}); err != nil {
			t.Fatal(err)
		}
	}
	page := dir + "/noble/spack/index.html"
	if got := api.Invalidations("E1"); len(got) != 1 || !slices.Contains(got[0], "/noble/spack/index.html") {
		t.Errorf("invalidated: %q", got)
	}
	if err := os.Remove(page); err != nil {
		t.Fatal(err)
	}
	if _, err := x.update(t.Context(), events.Changes{Mirror: "noble/spack", Names: []string{layout.V3Index}}); err != nil || len(api.Invalidations("E1")) != 2 {
		t.Errorf("the index of another writer: %v, %q", err, api.Invalidations("E1"))
	}
	clitest.Write(t, page, "mine")
	if came, err := x.update(t.Context(), events.Changes{Mirror: "noble/spack", Names: names, Again: names}); err != nil || !came.Invalidated {
		t.Errorf("another page: %+v, %v", came, err)
	}
	if text, err := os.ReadFile(page); err != nil || string(text) != "mine" {
		t.Errorf("%s, %v", text, err)
	}
}

// Daemon and indexer compare the signatures that a page shows with their trusted keys, and show a view that another program has written.
func TestPagesAreJudgedByTheTrustedKeys(t *testing.T) {
	trust, err := cli.ReadTrust(true, userfile.One(clitest.Root("test/testdata/keys/one.pub")))
	if err != nil {
		t.Fatal(err)
	}
	page := func(dir string) string {
		var all strings.Builder
		for _, pattern := range []string{"index.html", "catalog/*.json"} {
			names, err := fs.Glob(os.DirFS(dir), pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				text, err := os.ReadFile(dir + "/" + name)
				if err != nil {
					t.Fatal(err)
				}
				all.Write(text)
			}
		}
		return all.String()
	}
	judged := func(who, dir string) {
		t.Helper()
		if text := page(dir); !strings.Contains(text, `"trusted":["`) || strings.Contains(text, `"unjudged"`) || !strings.Contains(text, `"trust":{"v":["yes",""]`) {
			t.Errorf("the page of the %s does not say which signatures are good:\n%s", who, text)
		}
	}
	signed := func(dir string) string {
		if err := os.CopyFS(dir, os.DirFS(clitest.Spack(t, "v3-signed"))); err != nil {
			t.Fatal(err)
		}
		return dir
	}

	dir := signed(t.TempDir() + "/m")
	x, _, _ := indexerOf(t, filepath.Dir(dir))
	x.catalog, x.trust, x.log = true, trust, slog.New(slog.DiscardHandler)
	if _, err := x.update(t.Context(), events.Changes{Mirror: "m", Names: []string{layout.V3Index}}); err != nil {
		t.Fatal(err)
	}
	judged("indexer", dir)
	plan, err := views.NewPlan(t.Context(), x.destination.Mirror("m"), views.Change{Act: views.Set, View: "site"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Apply(t.Context(), x.destination.Mirror("m")); err != nil {
		t.Fatal(err)
	}
	if _, err := x.update(t.Context(), events.Changes{Mirror: "m", Names: []string{layout.V3View("site")}}); err != nil {
		t.Fatal(err)
	}
	if text := page(dir); !strings.Contains(text, `"views":{"site":[`) {
		t.Errorf("the page does not show the new view:\n%s", text)
	}

	dir = signed(t.TempDir() + "/m")
	w := &mirrorWork{Mirror: Mirror{Source: dir, Destination: "file://" + dir, Catalog: true}, log: slog.New(slog.DiscardHandler)}
	w.Options.Trust = trust
	if err := w.Invalidate(t.Context(), [][]byte{[]byte(`{"names":[],"shown":[],"pages":[""]}`)}); err != nil {
		t.Fatal(err)
	}
	judged("daemon", dir)
}

// What is not whole is left, and named as it was told.
func TestIndexerLeavesWhatIsNotWhole(t *testing.T) {
	dir, names := unindexed(t, "m")
	if err := os.WriteFile(dir+"/m/"+names[0], []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	x, _, _ := indexerOf(t, dir)
	came, err := x.update(t.Context(), events.Changes{Mirror: "m", Names: names})
	if err != nil || len(came.Left) != 1 || came.Left[names[0]] == "" {
		t.Errorf("came: %+v, %v", came, err)
	}
}

// Every member of a line of JSON is documented.
func TestIndexerPrintsWhatIsDocumented(t *testing.T) {
	page, err := os.ReadFile(clitest.Root("docs/indexer.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir, names := unindexed(t, "m")
	if err := os.WriteFile(dir+"/m/"+names[0], []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	x, _, out := indexerOf(t, dir)
	if _, err := x.update(t.Context(), events.Changes{Mirror: "m", Names: names}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines", n)
	}
	var line struct {
		Indices []map[string]any `json:"indices"`
	}
	var all map[string]any
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || len(line.Indices) != 1 {
		t.Fatalf("%s: %v", out, err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z.\\[\\]]+)`").FindAllStringSubmatch(string(page), -1) {
		documented[strings.TrimSuffix(m[1], "[]")] = true
	}
	for name := range all {
		if name != "indices" && !documented[name] {
			t.Errorf("%s is not documented", name)
		}
	}
	for name := range line.Indices[0] {
		if !documented["indices[]."+name] {
			t.Errorf("indices[].%s is not documented", name)
		}
	}
}
