package publish_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// What Spack wrote arrives byte for byte, and the index that is made of it is Spack's.
func TestPublishCopiesAndIndexesAsSpackDoes(t *testing.T) {
	for _, fixture := range publishtest.Mirrors {
		t.Run(fixture, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, m, publishtest.Original(fixture), publish.Options{})
			spack := publishtest.ContentOf(t, publishtest.Original(fixture))
			if diff := mirrortest.Diff(publishtest.WithoutIndex(t, spack), publishtest.WithoutIndex(t, m.Snapshot())); diff != "" {
				t.Errorf("- lost, + more, ! changed:\n%s", diff)
			}
			if stored := m.Stored(); len(slices.Compact(slices.Sorted(slices.Values(stored)))) != len(stored) {
				t.Errorf("something was sent twice: %q", stored)
			}
			publishtest.WantIndex(t, m.Snapshot(), publishtest.LayoutOf(fixture), publishtest.IndexOf(t, spack, publishtest.LayoutOf(fixture)))
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
	for _, fixture := range publishtest.Mirrors {
		t.Run(fixture, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, m, publishtest.Original(fixture), publish.Options{})
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
				for _, b := range publishtest.PointsAt(t, m.Snapshot(), name) {
					if at[b] > i {
						t.Errorf("%s was stored before %s", name, b)
					}
				}
			}
			wantDependenciesFirst(t, m, publishtest.LayoutOf(fixture), at)
		})
	}
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
	for h, rec := range publishtest.IndexOf(t, m.Snapshot(), l) {
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
	for _, fixture := range publishtest.Mirrors {
		t.Run(fixture, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, m, publishtest.Original(fixture), publish.Options{IfExists: publish.Skip})
			m.Forget()
			p := publishtest.MustPlan(t, m, publishtest.Original(fixture), publish.Options{IfExists: publish.Skip})
			if p.Changes() {
				t.Error("the plan changes something")
			}
			out, err := p.Apply(t.Context(), publishtest.Ignored{})
			if err != nil {
				t.Fatal(err)
			}
			if out.Objects != 0 || len(out.Stale) != 0 {
				t.Errorf("outcome is %+v", out)
			}
			pointers := []string{layout.V3Index, layout.V3KeyIndex, publishtest.VerifyView, layout.V2Index, layout.V2IndexHash, layout.V2KeyIndex}
			lists, requests := 0, 0 // of a store that keeps MD5s
			for _, c := range m.Calls() {
				requests++
				switch {
				case c.Op == mirrortest.List:
					lists++
				case c.Op == mirrortest.Open && slices.Contains(pointers, c.Name):
				case c.Op == mirrortest.Open && (publishtest.IsDocument(c.Name) || publishtest.IsKey(c.Name)): // Mem keeps no MD5 to compare with
					requests--
				case c.Op == mirrortest.Open && strings.HasPrefix(c.Name, layout.V3Blobs) && publishtest.LayoutOf(fixture) == "v3" && slices.Contains(publishtest.PointsAt(t, m.Snapshot(), layout.V3KeyIndex), c.Name):
				default:
					t.Errorf("unneeded: %s", c)
				}
			}
			most := 5
			if fixture == "v3-view" {
				most++ // the pointer of the view
			}
			if lists > 2 || requests > most {
				t.Errorf("it listed %d times, and made %d requests", lists, requests)
			}
		})
	}
}

// Both layouts below one root are two mirrors that do not touch each other, and a tree
// keeps its paths.
func TestTreeOfMirrorsKeepsItsPaths(t *testing.T) {
	dir := t.TempDir()
	for path, fixture := range map[string]string{"noble/spack": "v3-signed", "noble": "v2-signed", "a/b/c": "v3-unsigned"} {
		if err := os.CopyFS(filepath.Join(dir, path), os.DirFS(publishtest.Original(fixture))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "a/b/c"), os.DirFS(publishtest.Original("v2-unsigned"))); err != nil {
		t.Fatal(err)
	}
	src := publishtest.SourceOf(t, dir, source.Selection{})
	stores := map[string]*mirrortest.Mem{}
	p, err := publish.NewPlan(t.Context(), src, func(path string) mirror.Store {
		if stores[path] == nil {
			stores[path] = publishtest.EmptyMirror(t)
		}
		return stores[path]
	}, publish.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), publishtest.Ignored{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range p.Mirrors {
		got = append(got, m.Path+" "+m.Layout)
	}
	if diff := cmp.Diff([]string{"a/b/c v3", "a/b/c v2", "noble v2", "noble/spack v3"}, got); diff != "" {
		t.Error(diff)
	}
	publishtest.WantIndex(t, stores["noble/spack"].Snapshot(), "v3", publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original("v3-signed")), "v3"))
	publishtest.WantIndex(t, stores["noble"].Snapshot(), "v2", publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original("v2-signed")), "v2"))
	for _, l := range []string{"v3", "v2"} {
		publishtest.WantIndex(t, stores["a/b/c"].Snapshot(), l, publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original(l+"-unsigned")), l))
	}
	if len(stores[""].Snapshot()) != 0 {
		t.Errorf("at the root: %q", slices.Sorted(maps.Keys(stores[""].Snapshot())))
	}
}

// Every object is labelled so that caches keep what never changes and ask for the rest.
func TestCachesKeepOnlyWhatNeverChanges(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original(fixture), publish.Options{})
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
