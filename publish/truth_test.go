package publish_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// An index depends on the documents of a mirror, not on the order in which they arrived: a record is what the
// package's own document says. A dependent's copy counts only if there is no such document.
func TestIndexFollowsFromTheDocuments(t *testing.T) {
	old := publishtest.Node("leaf", "1", publishtest.HashC, `"namespace":"old",`)
	src := publishtest.Tree{}
	src.V3("a", "1", publishtest.HashA, publishtest.SpecType, publishtest.Document(5, publishtest.Node("a", "1", publishtest.HashA, publishtest.Dependency("leaf", publishtest.HashC)), old))
	src.V3("b", "1", publishtest.HashB, publishtest.SpecType, publishtest.Document(5, publishtest.Node("b", "1", publishtest.HashB, publishtest.Dependency("leaf", publishtest.HashC)), publishtest.Node("leaf", "1", publishtest.HashC, `"namespace":"older",`)))
	src.V3("leaf", "1", publishtest.HashC, publishtest.SpecType, publishtest.Document(5, publishtest.Node("leaf", "1", publishtest.HashC, `"namespace":"builtin",`)))
	dir := src.Dir(t)
	var want []byte
	for _, order := range [][]string{{"a", "b", "leaf"}, {"b", "a", "leaf"}, {"leaf", "b", "a"}, {"a", "leaf", "b"}} {
		m := publishtest.EmptyMirror(t)
		for i, pkg := range order {
			publishtest.MustPublish(t, m, dir, publishtest.Only(pkg))
			if i == 1 && pkg != "leaf" && order[0] != "leaf" {
				if got := publishtest.IndexAs(t, m.Snapshot(), 8)[publishtest.HashC].Spec["namespace"]; got != "old" {
					t.Errorf("of two copies %v was taken", got)
				}
			}
		}
		s := m.Snapshot()
		got := s[publishtest.SubjectOf(t, m).Blob(layout.V3Index, "application/vnd.spack.db")]
		if want == nil {
			want = got
		}
		if string(got) != string(want) {
			t.Errorf("%v: the index is\n%s, want\n%s", order, got, want)
		}
		if publishtest.IndexAs(t, s, 8)[publishtest.HashC].Spec["namespace"] != "builtin" {
			t.Errorf("%v: the record is not what the package says: %s", order, got)
		}
		if r, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil || r[0].Changed {
			t.Errorf("%v: a rebuild makes another one: %+v, %v", order, r, err)
		}
	}
}

// publish index repairs every finding for which verify suggests it, including records that contradict their package.
func TestRebuildMendsWhatVerifyFinds(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		for change, edit := range map[string]func(record map[string]any){
			"another version":    func(r map[string]any) { r["spec"].(map[string]any)["version"] = "9.9" },
			"another parameter":  func(r map[string]any) { r["spec"].(map[string]any)["parameters"].(map[string]any)["shared"] = false },
			"another count":      func(r map[string]any) { r["ref_count"] = 17 },
			"an unknown member":  func(r map[string]any) { r["sum"] = "x" },
			"not in the cache":   func(r map[string]any) { r["in_buildcache"] = false },
			"other dependencies": func(r map[string]any) { delete(r["spec"].(map[string]any), "dependencies") },
		} {
			m := publishtest.Planted(t, l+"-signed")
			pointer := layout.V3Index
			if l == "v2" {
				pointer = layout.V2Index
			}
			publishtest.SubjectOf(t, m).Reindex(pointer, func(in publishtest.Installs) {
				_, record := in.Of("zlib")
				edit(record)
			})
			if v, err := verify.Mirror(t.Context(), m, verify.Options{}); err != nil || len(v.Findings) == 0 {
				t.Errorf("%s %s: verify finds nothing, %v", l, change, err)
			}
			if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
				t.Fatal(err)
			}
			publishtest.WantIndex(t, m.Snapshot(), l, publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original(l+"-signed")), l))
			if v, err := verify.Mirror(t.Context(), m, verify.Options{}); err != nil || len(v.Findings) > 0 {
				t.Errorf("%s %s: after the rebuild: %v, %v", l, change, v, err)
			}
		}
	}
}

// The version of a package is what its spec says, even if a file name cannot hold it. Patterns use it, and their *
// matches a slash.
func TestVersionsAreThoseOfSpecs(t *testing.T) {
	const version = "git.feature/x=develop"
	src := publishtest.Tree{}
	src.V3("esmf", version, publishtest.HashA, publishtest.SpecType, publishtest.Document(5, publishtest.Node("esmf", version, publishtest.HashA, "")))
	dir := src.Dir(t)
	for pattern, picked := range map[string]bool{
		"esmf@git.feature/x=develop": true, "esmf@git.*": true, "esmf@git.feature/?=develop": true, "esmf": true,
		"esmf@git.feature_x_develop": false, "esmf@develop": false,
	} {
		src, err := source.Open(t.Context(), dir, source.Selection{Include: []string{pattern}})
		if (err == nil) != picked {
			t.Errorf("--include %s: %v", pattern, err)
		}
		if err == nil {
			src.Close()
		}
	}
	m := publishtest.EmptyMirror(t)
	for _, run := range []string{"first", "second"} {
		p := publishtest.MustPlan(t, m, dir, publish.Options{})
		if got := p.Mirrors[0].Packages[0]; got.Version != version || !strings.HasPrefix(got.ID(), "esmf@"+version+"/") {
			t.Errorf("the %s plan says %s of %s", run, got.Version, got.ID())
		}
		if _, err := p.Apply(t.Context(), publishtest.Ignored{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A pointer is not written again for the same index, even if the index blob has to be stored again: a client that holds
// the pointer's ETag would delete its copy of the index.
func TestPointerIsNotWrittenForTheSameIndex(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	index := publishtest.SubjectOf(t, m).Blob(layout.V3Index, "application/vnd.spack.db")
	for by, act := range map[string]func(){
		"publish": func() { publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{}) },
		"rebuild": func() {
			if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
				t.Error(err)
			}
		},
		"an indexer": func() { publishtest.MustHeal(t, m, layout.V3Index) },
	} {
		m.Uproot(index)
		m.Forget()
		act()
		if slices.ContainsFunc(m.Mutations(), func(c mirrortest.Call) bool { return c.Name == layout.V3Index }) {
			t.Errorf("%s writes the pointer", by)
		}
		if m.Snapshot()[index] == nil {
			if by != "an indexer" {
				t.Errorf("%s does not store the index again", by)
			}
			m.Plant(index, contentOfIndex(t))
		}
	}
}

func contentOfIndex(t testing.TB) []byte {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	return m.Snapshot()[publishtest.SubjectOf(t, m).Blob(layout.V3Index, "application/vnd.spack.db")]
}

// A between is a store that calls happen right before the first swap of name.
type between struct {
	mirror.Store
	name   string
	happen func()
}

func (b *between) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	if u.Name == b.name && b.happen != nil {
		happen := b.happen
		b.happen = nil
		happen()
	}
	return b.Store.Swap(ctx, u, was)
}

// Spack's prune deletes blobs that are older than the index and not yet named by a document. A publisher that finds
// a new index checks its blobs again and sends the missing ones.
func TestWhatWasPrunedMeanwhileIsSentAgain(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.Planted(t, l+"-signed")
		pointer, last := layout.V3Index, "openmpi"
		if l == "v2" {
			pointer, last = layout.V2Index, "slurm"
		}
		src := publishtest.Tree{}
		var file string
		if l == "v3" {
			file = src.V3("good", "1", publishtest.GoodHash, publishtest.SpecType, publishtest.Good(5))
		} else {
			file = src.V2("good", "1", publishtest.GoodHash, publishtest.Good(4))
		}
		store := &between{Store: m, name: pointer}
		store.happen = func() {
			publishtest.SubjectOf(t, m).Reindex(pointer, func(in publishtest.Installs) { in.Remove(last) })
			for name := range src {
				m.Uproot(name)
			}
			m.Forget()
		}
		publishtest.MustPublish(t, store, src.Dir(t), publish.Options{})
		for name := range src {
			if m.Snapshot()[name] == nil {
				t.Errorf("%s: %s is gone", l, name)
			}
		}
		x := publishtest.IndexOf(t, m.Snapshot(), l)
		if !x[publishtest.GoodHash].InBuildcache || m.Snapshot()[file] == nil {
			t.Errorf("%s: offered %v", l, x.Offered())
		}
	}
}

// A publish warns in one line of packages that the index offers although their documents are gone, unless it stores them again.
func TestPublishSaysThatTheIndexOffersWhatIsGone(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.Planted(t, l+"-signed")
		gone := publishtest.SubjectOf(t, m).Find("munge")
		m.Uproot(gone)
		for only, warned := range map[string]bool{"zlib": true, "munge": false} {
			p := publishtest.MustPlan(t, m, publishtest.Original(l+"-signed"), publishtest.Only(only))
			if slices.ContainsFunc(p.Findings, func(f buildcache.Finding) bool {
				return f.Severity == buildcache.Warning && strings.Contains(f.Reason, "no longer there: munge/") && strings.Contains(f.Reason, "publish index")
			}) != warned {
				t.Errorf("%s, publishing %s: %v", l, only, p.Findings)
			}
		}
	}
}

// A changer is a store that sends other content than it lists, under the same version.
type changer struct {
	mirror.Store
	send func([]byte) []byte
}

func (c changer) Open(ctx context.Context, name string) (*mirror.Object, error) {
	o, err := c.Store.Open(ctx, name)
	if err != nil || !strings.HasSuffix(name, ".spec.manifest.json") {
		return o, err
	}
	content, err := io.ReadAll(o.Body)
	if err != nil {
		return nil, err
	}
	o.Body = io.NopCloser(bytes.NewReader(c.send(content)))
	o.Size = int64(len(c.send(content)))
	return o, nil
}

// What a store sends in place of documents, such as the page of a proxy or a part of each, does not pass for a mirror
// whose packages nobody can read: its index stays.
func TestAStoreThatSendsSomethingElseEmptiesNoIndex(t *testing.T) {
	for what, send := range map[string]func([]byte) []byte{
		"a page": func([]byte) []byte { return []byte("<html>login</html>") }, "a part": func(b []byte) []byte { return b[:5] }, "nothing": func([]byte) []byte { return nil },
	} {
		m := publishtest.Planted(t, "v3-signed")
		m.Uproot(layout.V3Index)
		before := m.Snapshot()
		if _, err := reindex.Rebuild(t.Context(), changer{m, send}, buildcache.Trust{}); !errors.Is(err, mirror.ErrFault) {
			t.Errorf("%s: %v", what, err)
		}
		if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
			t.Errorf("%s: it was changed:\n%s", what, diff)
		}
	}
}
