package publish_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// mirrors are what real Spack wrote.
var mirrors = []string{"v3-signed", "v3-unsigned", "v3-view", "v2-signed", "v2-unsigned"}

func original(fixture string) string { return "../test/testdata/" + fixture }

// copied is a mirror that a test may damage.
func copied(t testing.TB, fixture string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(original(fixture))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func emptyMirror(t testing.TB) *mirrortest.Mem { return mirrortest.NewMem(t) }

// ignored is a Progress that nobody watches.
type ignored struct{}

func (ignored) Sent(string, int64, int64) {}
func (ignored) Step(string, string)       {}

func sourceOf(t testing.TB, dir string, sel source.Selection) *source.Source {
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
	src := sourceOf(t, dir, o.Selection)
	return publish.NewPlan(t.Context(), src, func(string) mirror.Store { return s }, o)
}

func mustPlan(t testing.TB, s mirror.Store, dir string, o publish.Options) *publish.Plan {
	t.Helper()
	p, err := planTo(t, s, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func publishTo(t testing.TB, s mirror.Store, dir string, o publish.Options) (*publish.Outcome, error) {
	t.Helper()
	p, err := planTo(t, s, dir, o)
	if err != nil {
		return nil, err
	}
	return p.Apply(t.Context(), ignored{})
}

func mustPublish(t testing.TB, s mirror.Store, dir string, o publish.Options) *publish.Outcome {
	t.Helper()
	out, err := publishTo(t, s, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func only(packages ...string) publish.Options {
	return publish.Options{Selection: source.Selection{Include: packages}}
}

// A record is a package in an index, as Spack reads it.
type record struct {
	Spec         map[string]any `json:"spec"`
	RefCount     int            `json:"ref_count"`
	InBuildcache bool           `json:"in_buildcache"`
}

type records map[spec.Hash]record

func (r records) offered() []string {
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

// A reader is a small client. It remembers what it has checked, by content, so that
// it can look again after every request.
type reader struct {
	mu      sync.Mutex // guards both maps while one is looked up or filled in
	digests map[*byte]blob.Digest
	specs   map[*byte]*spec.Spec
	indices map[*byte]records
}

func newReader() *reader {
	return &reader{digests: map[*byte]blob.Digest{}, specs: map[*byte]*spec.Spec{}, indices: map[*byte]records{}}
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

// behind is the blob of a family that a manifest points at.
func (r *reader) behind(s map[string][]byte, name string, f manifest.Family) ([]byte, error) {
	document, ok := s[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, mirror.ErrNotExist)
	}
	text, err := key.Text(document)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m, err := manifest.Parse(text)
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

// look finds whatever a client would stumble over.
func (r *reader) look(s map[string][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	whole := map[string]map[spec.Hash]bool{"v3": {}, "v2": {}}
	for name, document := range s {
		if id, ok := layout.ParseV3Spec(name); ok {
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
		index, err := r.index(s, l)
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

func (r *reader) packageV3(s map[string][]byte, name string) error {
	if _, err := r.behind(s, name, manifest.Tarball); err != nil {
		return err
	}
	_, err := r.behind(s, name, manifest.Spec)
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

// index is empty where there is none.
func (r *reader) index(s map[string][]byte, l string) (records, error) {
	content := s[layout.V2Index]
	if l == "v3" {
		if _, ok := s[layout.V3Index]; !ok {
			return nil, nil
		}
		var err error
		if content, err = r.behind(s, layout.V3Index, manifest.Index); err != nil {
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
		if content, err = r.behind(s, layout.V3KeyIndex, manifest.KeyIndex); err != nil {
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
			if _, err := r.behind(s, layout.V3Key(f), manifest.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexOf is the index of a mirror, which must be one that a client can use.
func indexOf(t testing.TB, s map[string][]byte, l string) records {
	t.Helper()
	r := newReader()
	if err := r.look(s); err != nil {
		t.Fatal(err)
	}
	x, err := r.index(s, l)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func wantIndex(t testing.TB, s map[string][]byte, l string, want records) {
	t.Helper()
	if diff := cmp.Diff(want, indexOf(t, s, l)); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
}

func contentOf(t testing.TB, dir string) map[string][]byte {
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

// isIndex tells what a publish writes in its own words: everything else is copied.
func isIndex(name string) bool {
	return name == layout.V2Index || name == layout.V2IndexHash || strings.HasPrefix(name, layout.V3Indices)
}

// withoutIndex are the objects of a mirror that have a name of their own or that
// something other than an index points at. What publishers tell each other is none of them.
func withoutIndex(t testing.TB, s map[string][]byte) map[string][]byte {
	t.Helper()
	kept := map[string][]byte{}
	for name, content := range s {
		if isIndex(name) || strings.HasPrefix(name, layout.V3Blobs) || strings.HasPrefix(name, lead.Dir) {
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

func layoutOf(fixture string) string { return fixture[:2] }

// What Spack wrote arrives byte for byte, and the index that is made of it is Spack's.
func TestPublishCopiesAndIndexesAsSpackDoes(t *testing.T) {
	for _, fixture := range mirrors {
		t.Run(fixture, func(t *testing.T) {
			m := emptyMirror(t)
			mustPublish(t, m, original(fixture), publish.Options{})
			spack := contentOf(t, original(fixture))
			if diff := mirrortest.Diff(withoutIndex(t, spack), withoutIndex(t, m.Snapshot())); diff != "" {
				t.Errorf("- lost, + more, ! changed:\n%s", diff)
			}
			if stored := m.Stored(); len(slices.Compact(slices.Sorted(slices.Values(stored)))) != len(stored) {
				t.Errorf("something was sent twice: %q", stored)
			}
			wantIndex(t, m.Snapshot(), layoutOf(fixture), indexOf(t, spack, layoutOf(fixture)))
			if hash, ok := m.Snapshot()[layout.V2IndexHash]; ok && string(hash) != blob.DigestOf(m.Snapshot()[layout.V2Index]).String() {
				t.Errorf("index.json.hash is %q", hash)
			}
		})
	}
}

// step is where an object has its place in the order of writing.
func step(m *mirrortest.Mem, name string) int {
	indexBlob := ""
	if text, ok := m.Snapshot()[layout.V3Index]; ok {
		if p, err := manifest.Parse(text); err == nil {
			indexBlob = layout.V3Blob(p.Records[0].Digest)
		}
	}
	_, v3Package := layout.ParseV3Spec(name)
	_, v2Package := layout.ParseV2Spec(name)
	switch {
	case name == indexBlob:
		return 5
	case name == layout.V3Index, name == layout.V2Index:
		return 6
	case name == layout.V2IndexHash:
		return 7
	case v3Package, v2Package:
		return 1
	case name == layout.V3Layout:
		return 2
	case name == layout.V3KeyIndex, name == layout.V2KeyIndex:
		return 4
	case strings.HasPrefix(name, layout.V3Keys), strings.HasPrefix(name, layout.V2Keys):
		return 3
	}
	return 0
}

// Each step points only at what earlier steps stored: content, documents, the
// marker, keys, the index of keys, the index. Within documents, dependencies come first.
func TestStepsPointBackwards(t *testing.T) {
	for _, fixture := range mirrors {
		t.Run(fixture, func(t *testing.T) {
			m := emptyMirror(t)
			mustPublish(t, m, original(fixture), publish.Options{})
			at := map[string]int{}
			last := 0
			for i, name := range m.Stored() {
				at[name] = i
				s := step(m, name)
				if s < last && s > 0 { // the blob of a key comes with the keys
					t.Errorf("%s was stored after something of step %d", name, last)
				}
				last = max(last, s)
			}
			// Whatever a document points at was there before it.
			for name, i := range at {
				for _, b := range pointsAt(t, m.Snapshot(), name) {
					if at[b] > i {
						t.Errorf("%s was stored before %s", name, b)
					}
				}
			}
			wantDependenciesFirst(t, m, layoutOf(fixture), at)
		})
	}
}

func pointsAt(t testing.TB, s map[string][]byte, name string) []string {
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

func wantDependenciesFirst(t testing.TB, m *mirrortest.Mem, l string, at map[string]int) {
	t.Helper()
	documents := map[spec.Hash]int{}
	for name, i := range at {
		if id, ok := layout.ParseV3Spec(name); ok {
			documents[id.Hash] = i
		} else if id, ok := layout.ParseV2Spec(name); ok {
			documents[id.Hash] = i
		}
	}
	edges := 0
	for h, rec := range indexOf(t, m.Snapshot(), l) {
		deps, _ := rec.Spec["dependencies"].([]any)
		for _, d := range deps {
			dep := spec.Hash(d.(map[string]any)["hash"].(string))
			from, published := documents[h]
			to, also := documents[dep]
			if !published || !also {
				continue
			}
			edges++
			if to > from {
				t.Errorf("%v was stored before %s, which it depends on", rec.Spec["name"], dep)
			}
		}
	}
	if edges == 0 {
		t.Error("no edge was looked at")
	}
}

// Publishing twice reads the pointers and lists, and does nothing else the second time.
func TestSecondPublishOnlyLooks(t *testing.T) {
	for _, fixture := range mirrors {
		t.Run(fixture, func(t *testing.T) {
			m := emptyMirror(t)
			mustPublish(t, m, original(fixture), publish.Options{IfExists: publish.Skip})
			m.Forget()
			p := mustPlan(t, m, original(fixture), publish.Options{IfExists: publish.Skip})
			if p.Changes() {
				t.Error("the plan changes something")
			}
			out, err := p.Apply(t.Context(), ignored{})
			if err != nil {
				t.Fatal(err)
			}
			if out.Objects != 0 || len(out.Stale) != 0 {
				t.Errorf("outcome is %+v", out)
			}
			pointers := []string{layout.V3Index, layout.V3KeyIndex, layout.V2Index, layout.V2IndexHash, layout.V2KeyIndex}
			lists := 0
			for _, c := range m.Calls() {
				switch {
				case c.Op == mirrortest.List:
					lists++
				case c.Op == mirrortest.Open && slices.Contains(pointers, c.Name):
				case c.Op == mirrortest.Open && isDocument(c.Name): // Mem keeps no MD5 to compare with
				case c.Op == mirrortest.Open && strings.HasPrefix(c.Name, layout.V3Blobs) && layoutOf(fixture) == "v3" && slices.Contains(pointsAt(t, m.Snapshot(), layout.V3KeyIndex), c.Name):
				default:
					t.Errorf("unneeded: %s", c)
				}
			}
			if lists > 2 {
				t.Errorf("it listed %d times", lists)
			}
		})
	}
}

func isDocument(name string) bool {
	_, v3 := layout.ParseV3Spec(name)
	_, v2 := layout.ParseV2Spec(name)
	return v3 || v2
}

// Both layouts below one root are two mirrors that do not touch each other, and a tree
// keeps its paths.
func TestTreeOfMirrorsKeepsItsPaths(t *testing.T) {
	dir := t.TempDir()
	for path, fixture := range map[string]string{"noble/spack": "v3-signed", "noble": "v2-signed", "a/b/c": "v3-unsigned"} {
		if err := os.CopyFS(filepath.Join(dir, path), os.DirFS(original(fixture))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "a/b/c"), os.DirFS(original("v2-unsigned"))); err != nil {
		t.Fatal(err)
	}
	src := sourceOf(t, dir, source.Selection{})
	stores := map[string]*mirrortest.Mem{}
	p, err := publish.NewPlan(t.Context(), src, func(path string) mirror.Store {
		if stores[path] == nil {
			stores[path] = emptyMirror(t)
		}
		return stores[path]
	}, publish.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), ignored{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range p.Mirrors {
		got = append(got, m.Path+" "+m.Layout)
	}
	if diff := cmp.Diff([]string{"a/b/c v3", "a/b/c v2", "noble v2", "noble/spack v3"}, got); diff != "" {
		t.Error(diff)
	}
	wantIndex(t, stores["noble/spack"].Snapshot(), "v3", indexOf(t, contentOf(t, original("v3-signed")), "v3"))
	wantIndex(t, stores["noble"].Snapshot(), "v2", indexOf(t, contentOf(t, original("v2-signed")), "v2"))
	for _, l := range []string{"v3", "v2"} {
		wantIndex(t, stores["a/b/c"].Snapshot(), l, indexOf(t, contentOf(t, original(l+"-unsigned")), l))
	}
	if len(stores[""].Snapshot()) != 0 {
		t.Errorf("at the root: %q", slices.Sorted(maps.Keys(stores[""].Snapshot())))
	}
}

// Every object is labelled so that caches keep what never changes and ask for the rest.
func TestCachesKeepOnlyWhatNeverChanges(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		m := emptyMirror(t)
		mustPublish(t, m, original(fixture), publish.Options{})
		for name := range m.Snapshot() {
			_, caching, err := m.Headers(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			want := layout.Revalidate
			if strings.HasPrefix(name, layout.V3Blobs) || strings.HasSuffix(name, ".spack") {
				want = layout.Immutable
			}
			if caching != want {
				t.Errorf("%s: %q", name, caching)
			}
		}
	}
}
