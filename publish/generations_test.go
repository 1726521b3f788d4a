package publish_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// indexAs is the index of a version that the pointer of a mirror names; nil if it names none.
func indexAs(t testing.TB, s map[string][]byte, version int) records {
	t.Helper()
	m, err := manifest.Parse(s[layout.V3Index])
	if err != nil {
		t.Fatal(err)
	}
	r, ok := m.Typed(manifest.IndexType(version))
	if !ok {
		return nil
	}
	x, err := parseIndex(s[layout.V3Blob(r.Digest)])
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// beside adds a record to the index manifest, as text, before or after those that are there.
func beside(t testing.TB, m *mirrortest.Mem, before bool, record string) {
	t.Helper()
	text := string(m.Snapshot()[layout.V3Index])
	const open, closed = "\"data\":[\n", "\n]\n"
	if before {
		text = strings.Replace(text, open, open+record+",\n", 1)
	} else {
		at := strings.LastIndex(text, closed)
		text = text[:at] + ",\n" + record + text[at:]
	}
	if _, err := manifest.Parse([]byte(text)); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	m.Plant(layout.V3Index, []byte(text))
}

// recordOf is a record of an index manifest as Spack writes it, with a member that this release does not know.
func recordOf(m *mirrortest.Mem, mediaType string, content []byte) string {
	d := blob.DigestOf(content)
	m.Plant(layout.V3Blob(d), content)
	return fmt.Sprintf("{\n\"contentLength\":%d,\n\"mediaType\":\"%s\",\n\"compression\":\"none\",\n\"checksumAlgorithm\":\"sha256\",\n\"checksum\":\"%s\",\n\"more\":1.0\n}", len(content), mediaType, d)
}

// Several versions of Spack share a mirror: each has its own index, and one manifest names them in any order. A writer
// of one index leaves the others as they are, known or not.
func TestIndicesOfOtherSpacksStay(t *testing.T) {
	for _, before := range []bool{true, false} {
		for by, act := range map[string]func(*mirrortest.Mem){
			"publish": func(m *mirrortest.Mem) { mustPublish(t, m, original("v3-unsigned"), publish.Options{}) },
			"rebuild": func(m *mirrortest.Mem) {
				if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
					t.Error(err)
				}
			},
			"an indexer": func(m *mirrortest.Mem) { mustHeal(t, m, layout.V3Index, subject{t, m}.find("munge")) },
		} {
			m := planted(t, "v3-signed")
			subject{t, m}.reindex(layout.V3Index, func(in installs) { in.remove("slurm") })
			newer := recordOf(m, "application/vnd.spack.db.v10+json", []byte(`{"database":{"version":"10","installs":{}}}`))
			nine := recordOf(m, manifest.IndexType(9), []byte(`{"database":{"version":"9","installs":{}}}`))
			foreign := `{"contentLength":1,"mediaType":"application/vnd.acme","compression":"none","checksumAlgorithm":"blake3","checksum":"x"}`
			for _, r := range []string{newer, nine, strings.ReplaceAll(strings.ReplaceAll(foreign, ",\"", ",\n\""), "{", "{\n")} {
				beside(t, m, before, r)
			}
			act(m)
			text := string(m.Snapshot()[layout.V3Index])
			if !strings.Contains(text, newer) {
				t.Errorf("%s, before %v: the record is no longer what it was:\n%s\nin\n%s", by, before, newer, text)
			}
			if got := indexAs(t, m.Snapshot(), 9); got == nil || len(got) != 0 {
				t.Errorf("%s: version 9 has %v", by, got)
			}
			if !strings.Contains(text, "blake3") {
				t.Errorf("%s: what is not an index was dropped: %s", by, text)
			}
			got := indexAs(t, m.Snapshot(), 8)
			if len(got.offered()) < 11 {
				t.Errorf("%s, before %v: version 8 offers %v", by, before, got.offered())
			}
			if v, err := verify.Mirror(t.Context(), m, verify.Options{Deep: true}); err != nil || v.Damaged() {
				t.Errorf("%s: verify: %v %v", by, err, v)
			}
		}
	}
}

// reindexed replaces the index of a version that the pointer names among others, as a program would that keeps the rest of it.
func (s subject) reindexed(version int, edit func(installs)) {
	s.t.Helper()
	m, err := manifest.Parse(s.read(layout.V3Index))
	if err != nil {
		s.t.Fatal(err)
	}
	r, _ := m.Typed(manifest.IndexType(version))
	var doc struct {
		Database struct {
			Version  string   `json:"version"`
			Installs installs `json:"installs"`
		} `json:"database"`
	}
	if err := json.Unmarshal(s.read(layout.V3Blob(r.Digest)), &doc); err != nil {
		s.t.Fatal(err)
	}
	edit(doc.Database.Installs)
	content, err := json.Marshal(doc)
	if err != nil {
		s.t.Fatal(err)
	}
	digest := blob.DigestOf(content)
	s.Plant(layout.V3Blob(digest), content)
	m.Set(manifest.Record{Size: int64(len(content)), MediaType: r.MediaType, Compression: "none", Digest: digest})
	text, err := m.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	s.Plant(layout.V3Index, text)
}

const (
	six      = spec.Hash("ssssssssssssssssssssssssssssssss")
	seven    = spec.Hash("vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv")
	leafHash = spec.Hash("llllllllllllllllllllllllllllllll")
)

func document(format int, nodes ...string) string {
	return fmt.Sprintf(`{"spec":{"_meta":{"version":%d},"nodes":[%s]},"buildcache_layout_version":2}`, format, strings.Join(nodes, ","))
}

func node(name, version string, hash spec.Hash, more string) string {
	return fmt.Sprintf(`{"name":"%s","version":"%s",%s"hash":"%s"}`, name, version, more, hash)
}

func dependency(name string, hash spec.Hash) string {
	return fmt.Sprintf(`"dependencies":[{"name":"%s","hash":"%s","parameters":{"deptypes":["link"],"virtuals":[]}}],`, name, hash)
}

func label(format int) string { return fmt.Sprintf("application/vnd.spack.spec.v%d+json", format) }

// Packages of spec format 6 go into the index of version 9, those of format 5 into that of version 8, both in
// one write. The plan says which versions of Spack see which.
func TestEachGenerationOfSpackHasItsIndex(t *testing.T) {
	src := tree{}
	src.v3("new", "1", six, label(6), document(6, node("new", "1", six, `"provided_virtuals":["mpi@3"],`+dependency("leaf", leafHash)), node("leaf", "1", leafHash, "")))
	src.v3("good", "1", goodHash, specType, good(5))
	m := emptyMirror(t)
	plan := mustPlan(t, m, src.dir(t), publish.Options{})
	want := []buildcache.Audience{{Readers: "Spack 1.0 and later", Packages: 1}, {Readers: "Spack 1.3 and later", Packages: 1}}
	if got := plan.Mirrors[0].Index.Audiences; !slices.Equal(got, want) {
		t.Errorf("the plan says %v", got)
	}
	if _, err := plan.Apply(t.Context(), ignored{}); err != nil {
		t.Fatal(err)
	}
	if swaps := slices.DeleteFunc(m.Mutations(), func(c mirrortest.Call) bool { return c.Name != layout.V3Index }); len(swaps) != 1 {
		t.Errorf("the pointer was written %d times", len(swaps))
	}
	for version, hash := range map[int]spec.Hash{8: goodHash, 9: six} {
		if got := indexAs(t, m.Snapshot(), version); len(got.offered()) != 1 || !got[hash].InBuildcache {
			t.Errorf("version %d offers %v", version, got.offered())
		}
	}
	if leaf := indexAs(t, m.Snapshot(), 9)[leafHash]; leaf.RefCount != 1 || leaf.InBuildcache {
		t.Errorf("what the new one depends on is %+v", leaf)
	}
	m.Forget()
	mustPublish(t, m, src.dir(t), publish.Options{})
	for _, c := range m.Calls() {
		if c.Op.Mutates() || c.Op == mirrortest.Open && strings.HasPrefix(c.Name, layout.V3Blobs) {
			t.Errorf("the second run did %v", c)
		}
	}
	before := m.Snapshot()
	got, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{})
	if err != nil || got[0].Changed || !slices.Equal(got[0].Audiences, want) {
		t.Errorf("a rebuild: %+v, %v", got, err)
	}
	m.Uproot(layout.V3Index)
	if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
		t.Fatal(err)
	}
	if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
		t.Errorf("the rebuilt index differs:\n%s", diff)
	}
	v, err := verify.Mirror(t.Context(), m, verify.Options{Deep: true})
	if err != nil || len(v.Findings) > 0 || !slices.Equal(v.Audiences, want) {
		t.Errorf("verify: %v %v", err, v)
	}
}

// A package of an unknown format is left alone: it is no damage and stops nothing. If its own version of Spack
// has indexed it, it stays indexed. It is not published from SOURCE.
func TestFormatsOfOtherSpacksAreLeftAlone(t *testing.T) {
	for _, c := range []struct{ layout, fixture string }{{"v3", "v3-signed"}, {"v2", "v2-signed"}} {
		foreign := tree{}
		var file string
		if c.layout == "v3" {
			file = foreign.v3("later", "1", seven, label(7), document(7, node("later", "1", seven, "")))
		} else {
			file = foreign.v2("later", "1", seven, document(3, node("later", "1", seven, `"arch":{"platform":"linux","platform_os":"ubuntu22.04","target":"x86_64_v3"},"compiler":{"name":"gcc","version":"11.4.0"},`)))
		}
		if _, err := publishTo(t, emptyMirror(t), foreign.dir(t), publish.Options{}); err == nil || !strings.Contains(err.Error(), "another version of Spack") && !strings.Contains(err.Error(), "format 3") {
			t.Errorf("%s: published from SOURCE: %v", c.layout, err)
		}
		m := planted(t, c.fixture)
		for name, content := range foreign {
			m.Plant(name, content)
		}
		want := indexOf(t, contentOf(t, original(c.fixture)), c.layout)
		check := func(by string) {
			t.Helper()
			got, err := newReader().index(m.Snapshot(), c.layout)
			if err != nil || !slices.Equal(got.offered(), want.offered()) {
				t.Errorf("%s %s: offers %v, %v", c.layout, by, got.offered(), err)
			}
			v, err := verify.Mirror(t.Context(), m, verify.Options{})
			if err != nil || v.Damaged() || !slices.ContainsFunc(v.Findings, func(f buildcache.Finding) bool { return f.File == file }) {
				t.Errorf("%s %s: verify: %v %v", c.layout, by, err, v)
			}
		}
		mustPublish(t, m, original(c.fixture), publish.Options{})
		check("publish")
		mustHeal(t, m, file)
		check("an indexer")
		got, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{})
		if err != nil || len(got[0].Findings) != 1 || got[0].Findings[0].File != file {
			t.Errorf("%s: a rebuild: %+v, %v", c.layout, got, err)
		}
		check("a rebuild")
		pointer := layout.V3Index
		if c.layout == "v2" {
			pointer = layout.V2Index
		}
		subject{t, m}.reindex(pointer, func(in installs) {
			in[string(seven)] = map[string]any{"spec": map[string]any{"name": "later", "version": "1", "hash": string(seven)}, "ref_count": 0, "in_buildcache": true}
			last := "slurm" // that no other depends on
			if c.layout == "v3" {
				last = "openmpi"
			}
			in.remove(last)
		})
		if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
			t.Fatal(err)
		}
		if x, err := newReader().index(m.Snapshot(), c.layout); err != nil || !x[seven].InBuildcache || len(x.offered()) != len(want.offered())+1 {
			t.Errorf("%s: a rebuild drops what Spack had indexed: %v, %v", c.layout, x.offered(), err)
		}
	}
}

// Every blob that a manifest names belongs to the package: it is sent, checked and counted.
func TestEveryRecordOfAManifestIsPublished(t *testing.T) {
	src := tree{}
	sbom := []byte(`{"sbom":true}`)
	file := src.v3("good", "1", goodHash, specType, good(5), src.blob("application/vnd.acme.sbom.v1+json", "none", sbom))
	name := layout.V3Blob(blob.DigestOf(sbom))
	m := emptyMirror(t)
	mustPublish(t, m, src.dir(t), publish.Options{})
	if string(m.Snapshot()[name]) != string(sbom) {
		t.Fatal("the third blob was not sent")
	}
	if v, err := verify.Mirror(t.Context(), m, verify.Options{Deep: true}); err != nil || len(v.Findings) > 0 || v.Orphans != 0 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	subject{t, m}.flip(name)
	if v, err := verify.Mirror(t.Context(), m, verify.Options{Deep: true}); err != nil || !v.Damaged() {
		t.Errorf("verify of a damaged one: %+v, %v", v, err)
	}
	m.Uproot(name)
	if v, err := verify.Mirror(t.Context(), m, verify.Options{}); err != nil || !v.Damaged() {
		t.Errorf("verify without it: %+v, %v", v, err)
	}
	m.Uproot(layout.V3Index)
	if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a rebuild without it: %v", err)
	}
	mustPublish(t, m, src.dir(t), publish.Options{})
	if string(m.Snapshot()[name]) != string(sbom) {
		t.Error("the next publish does not send it again")
	}
	delete(src, name)
	if _, err := publishTo(t, emptyMirror(t), src.dir(t), publish.Options{}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a source without it: %v", err)
	}
	for kind, record := range map[string]manifest.Record{
		"tarball": src.blob("application/vnd.spack.install.v3.tar+zstd", "none", []byte("x")), "spec": src.blob(label(6), "none", []byte("{}")),
	} {
		twice := tree{}
		maps.Copy(twice, src)
		twice.v3("good", "1", goodHash, specType, good(5), record)
		if _, err := publishTo(t, emptyMirror(t), twice.dir(t), publish.Options{}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("two records of a %s: %v", kind, err)
		}
	}
}

// A client that holds the ETag of a pointer loses its copy of the index when the pointer changes and the index does not. So
// when the index of one generation changes, those of the others get other bytes, and the same records.
func TestEveryIndexChangesWithThePointer(t *testing.T) {
	src := tree{}
	src.v3("new", "1", six, label(6), document(6, node("new", "1", six, "")))
	next := tree{}
	next.v3("newer", "1", hashA, label(6), document(6, node("newer", "1", hashA, "")))
	old := tree{}
	old.v3("good", "1", goodHash, specType, good(5))
	m := emptyMirror(t)
	blobs := map[string]bool{}
	for i, add := range []tree{old, src, next} {
		mustPublish(t, m, add.dir(t), publish.Options{})
		manifests, err := manifest.Parse(m.Snapshot()[layout.V3Index])
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range manifests.Records {
			if blobs[r.Digest.String()] {
				t.Errorf("after publish %d, the pointer names an index that it named before: %s", i+1, r.MediaType)
			}
			blobs[r.Digest.String()] = true
		}
	}
	if got := indexAs(t, m.Snapshot(), 8); !got[goodHash].InBuildcache || len(got) != 1 {
		t.Errorf("version 8 offers %v", got.offered())
	}
	m.Forget()
	if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil || len(m.Mutations()) > 0 {
		t.Errorf("a rebuild changes it: %v, %v", m.Mutations(), err)
	}
}

// An index of another version of Spack may offer packages whose specs are of an older format. A rebuild keeps them.
func TestRebuildKeepsWhatAnotherSpackHasIndexed(t *testing.T) {
	m := planted(t, "v3-signed")
	eight := m.Snapshot()[subject{t, m}.blob(layout.V3Index, manifest.Index)]
	beside(t, m, true, recordOf(m, manifest.IndexType(9), bytes.Replace(eight, []byte(`"version":"8"`), []byte(`"version":"9"`), 1)))
	subject{t, m}.reindexed(8, func(in installs) { in.remove("openmpi") })
	if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
		t.Fatal(err)
	}
	for version := range 2 {
		if got := indexAs(t, m.Snapshot(), 8+version); len(got.offered()) != 11 {
			t.Errorf("version %d offers %v", 8+version, got.offered())
		}
	}
}

// Our note in an index manifest is about the indices that it was written with. Another program may replace one and keep it.
func TestANoteAboutAnotherIndexIsNotBelieved(t *testing.T) {
	m := emptyMirror(t)
	mustPublish(t, m, original("v3-signed"), publish.Options{})
	subject{t, m}.reindexed(8, func(in installs) { clear(in) })
	mustPublish(t, m, original("v3-signed"), only("zlib"))
	wantIndex(t, m.Snapshot(), "v3", indexOf(t, contentOf(t, original("v3-signed")), "v3"))
}

// A manifest that we cannot read may be one that Spack reads. Its index is replaced by another one, never by the same.
func TestAPointerThatOnlySpackReadsGetsAnotherIndex(t *testing.T) {
	m := emptyMirror(t)
	mustPublish(t, m, original("v3-signed"), publish.Options{})
	before := m.Snapshot()[layout.V3Index]
	m.Plant(layout.V3Index, bytes.Replace(before, []byte(`"version":3`), []byte(`"x":NaN,"version":3`), 1))
	index := subject{t, m}
	was := string(before)
	mustPublish(t, m, original("v3-signed"), only("zlib"))
	now, err := manifest.Parse(index.read(layout.V3Index))
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := now.Typed(manifest.IndexType(8)); !ok || strings.Contains(was, r.Digest.String()) {
		t.Errorf("the pointer names the same index again")
	}
	wantIndex(t, m.Snapshot(), "v3", indexOf(t, contentOf(t, original("v3-signed")), "v3"))
}

// Wrong counts of an index that another program has written are corrected when it is next changed.
func TestWrongCountsAreCorrectedWithTheNextChange(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := planted(t, l+"-signed")
		pointer := pointerOf(l)
		subject{t, m}.reindex(pointer, func(in installs) {
			hash, _ := in.of("slurm")
			if l == "v3" {
				hash, _ = in.of("openmpi")
			}
			delete(in, hash) // what it depends on is counted as before
		})
		mustPublish(t, m, original(l+"-signed"), only("zlib"))
		wantIndex(t, m.Snapshot(), l, indexOf(t, contentOf(t, original(l+"-signed")), l))
	}
}
