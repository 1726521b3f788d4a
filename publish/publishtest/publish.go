// Package publishtest has helpers for the tests of publish and of the packages below it: mirrors that real Spack
// wrote, publishing in one line, documents made by hand, and a reader that checks every promise about a mirror.
package publishtest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Mirrors are what real Spack wrote.
var Mirrors = []string{"v3-signed", "v3-unsigned", "v3-view", "v2-signed", "v2-unsigned"}

// Original is the directory of a mirror that real Spack wrote.
func Original(fixture string) string { return Testdata() + fixture }

// Testdata is the directory of the fixtures, from wherever a test runs, with a slash at its end.
var Testdata = sync.OnceValue(func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../test/testdata") + "/"
})

// Copied is a mirror that a test may damage.
func Copied(t testing.TB, fixture string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(Original(fixture))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func EmptyMirror(t testing.TB) *mirrortest.Mem { return mirrortest.NewMem(t) }

// Ignored is a Progress that does nothing.
type Ignored struct{}

func (Ignored) Sent(string, int64, int64) {}

func (Ignored) Step(string, string) {}

// Stored implements publish.Progress.
func (Ignored) Stored(string, int64) {}

func SourceOf(t testing.TB, dir string, sel source.Selection) *source.Source {
	t.Helper()
	src, err := source.Open(t.Context(), dir, sel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

func planTo(t testing.TB, s mirror.Store, dir string, o publish.Options) (*publish.Plan, error) {
	t.Helper()
	src := SourceOf(t, dir, o.Selection)
	return publish.NewPlan(t.Context(), src, func(string) mirror.Store { return s }, o)
}

func MustPlan(t testing.TB, s mirror.Store, dir string, o publish.Options) *publish.Plan {
	t.Helper()
	p, err := planTo(t, s, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func PublishTo(t testing.TB, s mirror.Store, dir string, o publish.Options) (*publish.Outcome, error) {
	t.Helper()
	p, err := planTo(t, s, dir, o)
	if err != nil {
		return nil, err
	}
	return p.Apply(t.Context(), Ignored{})
}

func MustPublish(t testing.TB, s mirror.Store, dir string, o publish.Options) *publish.Outcome {
	t.Helper()
	out, err := PublishTo(t, s, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func Only(packages ...string) publish.Options {
	return publish.Options{Selection: source.Selection{Include: packages}}
}

// A record is a package in an index, as Spack reads it.
type record struct {
	Spec         map[string]any `json:"spec"`
	RefCount     int            `json:"ref_count"`
	InBuildcache bool           `json:"in_buildcache"`
}

type records map[spec.Hash]record

func (r records) Offered() []string {
	var names []string
	for h, rec := range r {
		if rec.InBuildcache {
			names = append(names, fmt.Sprint(rec.Spec["name"], "/", h))
		}
	}
	slices.Sort(names)
	return names
}

func parseIndex(content []byte) (records, error) {
	var doc struct {
		Database struct {
			Version  string  `json:"version"`
			Installs records `json:"installs"`
		} `json:"database"`
	}
	err := json.Unmarshal(content, &doc)
	return doc.Database.Installs, err
}

// A reader is a small client. It remembers by content what it has checked, so that it can check again after every
// request.
type reader struct {
	mu        sync.Mutex // guards the maps while one is looked up or filled in
	digests   map[*byte]blob.Digest
	specs     map[*byte]*spec.Spec
	manifests map[*byte]*manifest.Manifest
	indices   map[*byte]records
}

func NewReader() *reader {
	return &reader{
		digests: map[*byte]blob.Digest{}, specs: map[*byte]*spec.Spec{}, manifests: map[*byte]*manifest.Manifest{}, indices: map[*byte]records{},
	}
}

func (r *reader) digest(content []byte) blob.Digest {
	if len(content) == 0 {
		return blob.DigestOf(nil)
	}
	d, ok := r.digests[&content[0]]
	if !ok {
		d = blob.DigestOf(content)
		r.digests[&content[0]] = d
	}
	return d
}

// Behind is the blob of a family that a manifest points at.
func (r *reader) Behind(s map[string][]byte, name string, f manifest.Family) ([]byte, error) {
	document, ok := s[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, mirror.ErrNotExist)
	}
	m, err := r.manifest(document)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	rec, err := m.Record(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	content, ok := s[layout.V3Blob(rec.Digest)]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s points at %s, which is not there", name, rec.Digest)
	case int64(len(content)) != rec.Size || r.digest(content) != rec.Digest:
		return nil, fmt.Errorf("%s points at %s, which is damaged", name, rec.Digest)
	}
	return content, nil
}

func (r *reader) manifest(document []byte) (*manifest.Manifest, error) {
	if len(document) > 0 && r.manifests[&document[0]] != nil {
		return r.manifests[&document[0]], nil
	}
	text, err := key.Text(document)
	if err != nil {
		return nil, err
	}
	m, err := manifest.Parse(text)
	if err != nil {
		return nil, err
	}
	r.manifests[&document[0]] = m
	return m, nil
}

// Look returns the first problem that a client would have.
func (r *reader) Look(s map[string][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	whole := map[string]map[spec.Hash]bool{"v3": {}, "v2": {}}
	for name, document := range s {
		if id, ok := layout.ParseV3Spec(name); ok && !withdrawn(document) {
			if err := r.packageV3(s, name); err != nil {
				return err
			}
			whole["v3"][id.Hash] = true
		}
		if id, ok := layout.ParseV2Spec(name); ok {
			if err := r.packageV2(s, name, document); err != nil {
				return err
			}
			whole["v2"][id.Hash] = true
		}
	}
	for _, l := range []string{"v3", "v2"} {
		index, err := r.Index(s, l)
		if err != nil {
			return err
		}
		for h, rec := range index {
			if rec.InBuildcache && !whole[l][h] {
				return fmt.Errorf("the %s index offers %v/%s, which is not there", l, rec.Spec["name"], h)
			}
		}
		if err := r.keys(s, l); err != nil {
			return err
		}
	}
	return nil
}

// withdrawn reports whether a document is a tombstone: a manifest without any record.
func withdrawn(document []byte) bool {
	m, err := manifest.Parse(document)
	return err == nil && len(m.Records) == 0
}

func (r *reader) packageV3(s map[string][]byte, name string) error {
	if _, err := r.Behind(s, name, manifest.Tarball); err != nil {
		return err
	}
	_, err := r.Behind(s, name, manifest.Spec)
	return err
}

func (r *reader) packageV2(s map[string][]byte, name string, document []byte) error {
	x := r.specs[&document[0]]
	if x == nil {
		text, err := key.Text(document)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if x, err = spec.Parse(text, spec.Format4); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.specs[&document[0]] = x
	}
	tarball, ok := layout.V2Tarball(name, x.Root())
	if !ok || r.digest(s[tarball]) != x.Tarball {
		return fmt.Errorf("%s has no tarball, or that of another build", name)
	}
	return nil
}

// Index is empty where there is none.
func (r *reader) Index(s map[string][]byte, l string) (records, error) {
	content := s[layout.V2Index]
	if l == "v3" {
		if _, ok := s[layout.V3Index]; !ok {
			return nil, nil
		}
		var err error
		if content, err = r.Behind(s, layout.V3Index, manifest.Index); err != nil {
			return nil, err
		}
	}
	if len(content) == 0 {
		return nil, nil
	}
	if x, ok := r.indices[&content[0]]; ok {
		return x, nil
	}
	x, err := parseIndex(content)
	r.indices[&content[0]] = x
	return x, err
}

func (r *reader) keys(s map[string][]byte, l string) error {
	content := s[layout.V2KeyIndex]
	if l == "v3" {
		if _, ok := s[layout.V3KeyIndex]; !ok {
			return nil
		}
		var err error
		if content, err = r.Behind(s, layout.V3KeyIndex, manifest.KeyIndex); err != nil {
			return err
		}
	}
	var doc struct {
		Keys map[key.Fingerprint]struct{} `json:"keys"`
	}
	if len(content) == 0 {
		return nil
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		return err
	}
	for f := range doc.Keys {
		if l == "v2" && s[layout.V2Key(f)] == nil {
			return fmt.Errorf("key %s is not there", f)
		}
		if l == "v3" {
			if _, err := r.Behind(s, layout.V3Key(f), manifest.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// IndexOf is the index of a mirror, which must be one that a client can use.
func IndexOf(t testing.TB, s map[string][]byte, l string) records {
	t.Helper()
	r := NewReader()
	if err := r.Look(s); err != nil {
		t.Fatal(err)
	}
	x, err := r.Index(s, l)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func WantIndex(t testing.TB, s map[string][]byte, l string, want records) {
	t.Helper()
	if diff := cmp.Diff(want, IndexOf(t, s, l)); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
}

func ContentOf(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	content := map[string][]byte{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err == nil {
			content[filepath.ToSlash(rel)], err = os.ReadFile(name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// isIndex reports whether a publish writes the object itself; everything else is copied.
func isIndex(name string) bool {
	return name == layout.V2Index || name == layout.V2IndexHash || strings.HasPrefix(name, layout.V3Indices)
}

// WithoutIndex returns the objects of a mirror that have a name of their own or that something other than an index
// points at. It omits the notices between publishers and the history.
func WithoutIndex(t testing.TB, s map[string][]byte) map[string][]byte {
	t.Helper()
	kept := map[string][]byte{}
	for name, content := range s {
		if isIndex(name) || strings.HasPrefix(name, layout.V3Blobs) || strings.HasPrefix(name, lead.Dir) || strings.HasPrefix(name, history.Dir) {
			continue
		}
		kept[name] = content
		if !strings.HasPrefix(name, layout.V3Manifests) {
			continue
		}
		text, err := key.Text(content)
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifest.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range m.Records {
			if b, ok := s[layout.V3Blob(rec.Digest)]; ok {
				kept[layout.V3Blob(rec.Digest)] = b
			}
		}
	}
	return kept
}

func LayoutOf(fixture string) string { return fixture[:2] }

func PointsAt(t testing.TB, s map[string][]byte, name string) []string {
	t.Helper()
	if !strings.HasPrefix(name, layout.V3Manifests) {
		return nil
	}
	text, err := key.Text(s[name])
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, rec := range m.Records {
		names = append(names, layout.V3Blob(rec.Digest))
	}
	return names
}

// IsKey reports whether a name is that of the document of a key.
func IsKey(name string) bool {
	return strings.HasSuffix(name, ".key.manifest.json") || strings.Contains(name, "/_pgp/") && strings.HasSuffix(name, ".pub")
}

func IsDocument(name string) bool {
	_, v3 := layout.ParseV3Spec(name)
	_, v2 := layout.ParseV2Spec(name)
	return v3 || v2
}
