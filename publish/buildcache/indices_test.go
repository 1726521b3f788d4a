package buildcache_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

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
			"publish": func(m *mirrortest.Mem) {
				publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publish.Options{})
			},
			"rebuild": func(m *mirrortest.Mem) {
				if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
					t.Error(err)
				}
			},
			"an indexer": func(m *mirrortest.Mem) {
				publishtest.MustHeal(t, m, layout.V3Index, publishtest.SubjectOf(t, m).Find("munge"))
			},
		} {
			m := publishtest.Planted(t, "v3-signed")
			publishtest.SubjectOf(t, m).Reindex(layout.V3Index, func(in publishtest.Installs) { in.Remove("slurm") })
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
			if got := publishtest.IndexAs(t, m.Snapshot(), 9); got == nil || len(got) != 0 {
				t.Errorf("%s: version 9 has %v", by, got)
			}
			if !strings.Contains(text, "blake3") {
				t.Errorf("%s: what is not an index was dropped: %s", by, text)
			}
			got := publishtest.IndexAs(t, m.Snapshot(), 8)
			if len(got.Offered()) < 11 {
				t.Errorf("%s, before %v: version 8 offers %v", by, before, got.Offered())
			}
			if v, err := verify.Mirror(t.Context(), m, verify.Options{Deep: true}); err != nil || v.Damaged() {
				t.Errorf("%s: verify: %v %v", by, err, v)
			}
		}
	}
}

const (
	six      = spec.Hash("ssssssssssssssssssssssssssssssss")
	seven    = spec.Hash("vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv")
	leafHash = spec.Hash("llllllllllllllllllllllllllllllll")
)

func label(format int) string { return fmt.Sprintf("application/vnd.spack.spec.v%d+json", format) }

// Packages of spec format 6 go into the index of version 9, those of format 5 into that of version 8, both in
// one write. The plan says which versions of Spack see which.
func TestEachGenerationOfSpackHasItsIndex(t *testing.T) {
	src := publishtest.Tree{}
	src.V3("new", "1", six, label(6), publishtest.Document(6, publishtest.Node("new", "1", six, `"provided_virtuals":["mpi@3"],`+publishtest.Dependency("leaf", leafHash)), publishtest.Node("leaf", "1", leafHash, "")))
	src.V3("good", "1", publishtest.GoodHash, publishtest.SpecType, publishtest.Good(5))
	m := publishtest.EmptyMirror(t)
	plan := publishtest.MustPlan(t, m, src.Dir(t), publish.Options{})
	want := []indices.Audience{{Readers: "Spack 1.0 and later", Packages: 1}, {Readers: "Spack 1.3 and later", Packages: 1}}
	if got := plan.Mirrors[0].Index.Audiences; !slices.Equal(got, want) {
		t.Errorf("the plan says %v", got)
	}
	if _, err := plan.Apply(t.Context(), publishtest.Ignored{}); err != nil {
		t.Fatal(err)
	}
	if swaps := slices.DeleteFunc(m.Mutations(), func(c mirrortest.Call) bool { return c.Name != layout.V3Index }); len(swaps) != 1 {
		t.Errorf("the pointer was written %d times", len(swaps))
	}
	for version, hash := range map[int]spec.Hash{8: publishtest.GoodHash, 9: six} {
		if got := publishtest.IndexAs(t, m.Snapshot(), version); len(got.Offered()) != 1 || !got[hash].InBuildcache {
			t.Errorf("version %d offers %v", version, got.Offered())
		}
	}
	if leaf := publishtest.IndexAs(t, m.Snapshot(), 9)[leafHash]; leaf.RefCount != 1 || leaf.InBuildcache {
		t.Errorf("what the new one depends on is %+v", leaf)
	}
	m.Forget()
	publishtest.MustPublish(t, m, src.Dir(t), publish.Options{})
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
	// In other bytes: a client that holds the pointer that is gone would lose its copy by another one of the same index.
	if diff := mirrortest.Diff(publishtest.WithoutIndex(t, before), publishtest.WithoutIndex(t, m.Snapshot())); diff != "" {
		t.Errorf("the rebuild changed:\n%s", diff)
	}
	for _, version := range []int{8, 9} {
		if diff := cmp.Diff(publishtest.IndexAs(t, before, version), publishtest.IndexAs(t, m.Snapshot(), version)); diff != "" {
			t.Errorf("the rebuilt index of version %d differs:\n%s", version, diff)
		}
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
		foreign := publishtest.Tree{}
		var file string
		if c.layout == "v3" {
			file = foreign.V3("later", "1", seven, label(7), publishtest.Document(7, publishtest.Node("later", "1", seven, "")))
		} else {
			file = foreign.V2("later", "1", seven, publishtest.Document(3, publishtest.Node("later", "1", seven, `"arch":{"platform":"linux","platform_os":"ubuntu22.04","target":"x86_64_v3"},"compiler":{"name":"gcc","version":"11.4.0"},`)))
		}
		if _, err := publishtest.PublishTo(t, publishtest.EmptyMirror(t), foreign.Dir(t), publish.Options{}); err == nil || !strings.Contains(err.Error(), "another version of Spack") && !strings.Contains(err.Error(), "format 3") {
			t.Errorf("%s: published from SOURCE: %v", c.layout, err)
		}
		m := publishtest.Planted(t, c.fixture)
		for name, content := range foreign {
			m.Plant(name, content)
		}
		want := publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original(c.fixture)), c.layout)
		check := func(by string) {
			t.Helper()
			got, err := publishtest.NewReader().Index(m.Snapshot(), c.layout)
			if err != nil || !slices.Equal(got.Offered(), want.Offered()) {
				t.Errorf("%s %s: offers %v, %v", c.layout, by, got.Offered(), err)
			}
			v, err := verify.Mirror(t.Context(), m, verify.Options{})
			if err != nil || v.Damaged() || !slices.ContainsFunc(v.Findings, func(f buildcache.Finding) bool { return f.File == file }) {
				t.Errorf("%s %s: verify: %v %v", c.layout, by, err, v)
			}
		}
		publishtest.MustPublish(t, m, publishtest.Original(c.fixture), publish.Options{})
		check("publish")
		publishtest.MustHeal(t, m, file)
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
		publishtest.SubjectOf(t, m).Reindex(pointer, func(in publishtest.Installs) {
			in[string(seven)] = map[string]any{"spec": map[string]any{"name": "later", "version": "1", "hash": string(seven)}, "ref_count": 0, "in_buildcache": true}
			last := "slurm" // that no other depends on
			if c.layout == "v3" {
				last = "openmpi"
			}
			in.Remove(last)
		})
		if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
			t.Fatal(err)
		}
		if x, err := publishtest.NewReader().Index(m.Snapshot(), c.layout); err != nil || !x[seven].InBuildcache || len(x.Offered()) != len(want.Offered())+1 {
			t.Errorf("%s: a rebuild drops what Spack had indexed: %v, %v", c.layout, x.Offered(), err)
		}
	}
}

// Every blob that a manifest names belongs to the package: it is sent, checked and counted.
func TestEveryRecordOfAManifestIsPublished(t *testing.T) {
	src := publishtest.Tree{}
	sbom := []byte(`{"sbom":true}`)
	file := src.V3("good", "1", publishtest.GoodHash, publishtest.SpecType, publishtest.Good(5), src.Blob("application/vnd.acme.sbom.v1+json", "none", sbom))
	name := layout.V3Blob(blob.DigestOf(sbom))
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, src.Dir(t), publish.Options{})
	if string(m.Snapshot()[name]) != string(sbom) {
		t.Fatal("the third blob was not sent")
	}
	if v, err := verify.Mirror(t.Context(), m, verify.Options{Deep: true}); err != nil || len(v.Findings) > 0 || v.Orphans != 0 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	publishtest.SubjectOf(t, m).Flip(name)
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
	publishtest.MustPublish(t, m, src.Dir(t), publish.Options{})
	if string(m.Snapshot()[name]) != string(sbom) {
		t.Error("the next publish does not send it again")
	}
	delete(src, name)
	if _, err := publishtest.PublishTo(t, publishtest.EmptyMirror(t), src.Dir(t), publish.Options{}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a source without it: %v", err)
	}
	for kind, record := range map[string]manifest.Record{
		"tarball": src.Blob("application/vnd.spack.install.v3.tar+zstd", "none", []byte("x")), "spec": src.Blob(label(6), "none", []byte("{}")),
	} {
		twice := publishtest.Tree{}
		maps.Copy(twice, src)
		twice.V3("good", "1", publishtest.GoodHash, publishtest.SpecType, publishtest.Good(5), record)
		if _, err := publishtest.PublishTo(t, publishtest.EmptyMirror(t), twice.Dir(t), publish.Options{}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("two records of a %s: %v", kind, err)
		}
	}
}

// A client that holds the ETag of a pointer loses its copy of the index when the pointer changes and the index does not. So
// when the index of one generation changes, those of the others get other bytes, and the same records.
func TestEveryIndexChangesWithThePointer(t *testing.T) {
	src := publishtest.Tree{}
	src.V3("new", "1", six, label(6), publishtest.Document(6, publishtest.Node("new", "1", six, "")))
	next := publishtest.Tree{}
	next.V3("newer", "1", publishtest.HashA, label(6), publishtest.Document(6, publishtest.Node("newer", "1", publishtest.HashA, "")))
	old := publishtest.Tree{}
	old.V3("good", "1", publishtest.GoodHash, publishtest.SpecType, publishtest.Good(5))
	m := publishtest.EmptyMirror(t)
	blobs := map[string]bool{}
	for i, add := range []publishtest.Tree{old, src, next} {
		publishtest.MustPublish(t, m, add.Dir(t), publish.Options{})
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
	if got := publishtest.IndexAs(t, m.Snapshot(), 8); !got[publishtest.GoodHash].InBuildcache || len(got) != 1 {
		t.Errorf("version 8 offers %v", got.Offered())
	}
	m.Forget()
	if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil || len(m.Mutations()) > 0 {
		t.Errorf("a rebuild changes it: %v, %v", m.Mutations(), err)
	}
}

// An index of another version of Spack may offer packages whose specs are of an older format. A rebuild keeps them.
func TestRebuildKeepsWhatAnotherSpackHasIndexed(t *testing.T) {
	m := publishtest.Planted(t, "v3-signed")
	eight := m.Snapshot()[publishtest.SubjectOf(t, m).Blob(layout.V3Index, manifest.Index)]
	beside(t, m, true, recordOf(m, manifest.IndexType(9), bytes.Replace(eight, []byte(`"version":"8"`), []byte(`"version":"9"`), 1)))
	publishtest.SubjectOf(t, m).Reindexed(8, func(in publishtest.Installs) { in.Remove("openmpi") })
	if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
		t.Fatal(err)
	}
	for version := range 2 {
		if got := publishtest.IndexAs(t, m.Snapshot(), 8+version); len(got.Offered()) != 11 {
			t.Errorf("version %d offers %v", 8+version, got.Offered())
		}
	}
}

// Our note in an index manifest is about the indices that it was written with. Another program may replace one and keep it.
func TestANoteAboutAnotherIndexIsNotBelieved(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	publishtest.SubjectOf(t, m).Reindexed(8, func(in publishtest.Installs) { clear(in) })
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publishtest.Only("zlib"))
	publishtest.WantIndex(t, m.Snapshot(), "v3", publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original("v3-signed")), "v3"))
}

// A manifest that we cannot read may be one that Spack reads. Its index is replaced by another one, never by the same.
func TestAPointerThatOnlySpackReadsGetsAnotherIndex(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	before := m.Snapshot()[layout.V3Index]
	m.Plant(layout.V3Index, bytes.Replace(before, []byte(`"version":3`), []byte(`"x":NaN,"version":3`), 1))
	index := publishtest.SubjectOf(t, m)
	was := string(before)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publishtest.Only("zlib"))
	now, err := manifest.Parse(index.Read(layout.V3Index))
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := now.Typed(manifest.IndexType(8)); !ok || strings.Contains(was, r.Digest.String()) {
		t.Errorf("the pointer names the same index again")
	}
	publishtest.WantIndex(t, m.Snapshot(), "v3", publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original("v3-signed")), "v3"))
}

// Wrong counts of an index that another program has written are corrected when it is next changed.
func TestWrongCountsAreCorrectedWithTheNextChange(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.Planted(t, l+"-signed")
		pointer := publishtest.PointerOf(l)
		publishtest.SubjectOf(t, m).Reindex(pointer, func(in publishtest.Installs) {
			hash, _ := in.Of("slurm")
			if l == "v3" {
				hash, _ = in.Of("openmpi")
			}
			delete(in, hash) // what it depends on is counted as before
		})
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
		publishtest.WantIndex(t, m.Snapshot(), l, publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original(l+"-signed")), l))
	}
}

// An index that this program has written is not checked again. One of layout v2 that another program has changed is, although it kept the note.
func TestAnIndexSaysThatItWasChecked(t *testing.T) {
	for _, l := range buildcache.Layouts() {
		fixture := publishtest.Original(l.Name() + "-signed")
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, fixture, publish.Options{})
		checked := func() bool {
			p, err := l.ReadPointer(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			return p.Checked
		}
		if !checked() {
			t.Errorf("%s: our own index says nothing", l.Name())
		}
		if l != buildcache.V2 {
			continue
		}
		ours := m.Snapshot()[layout.V2Index]
		for what, change := range map[string]struct{ old, new string }{
			"a record that Spack cannot read":          {`"version":"1.3.1"`, `"version":131`},
			"the note of a release that says no more":  {`"of":"`, `"off":"`},
			"the note of older rules for records":      {fmt.Sprintf(`"contract":%d`, spec.Contract), `"contract":0`},
			"a member of which another program thinks": {`,"slurm-factory-publish":`, `,"other":1,"slurm-factory-publish":`},
		} {
			text := bytes.Replace(ours, []byte(change.old), []byte(change.new), 1)
			if bytes.Equal(text, ours) {
				t.Fatalf("%s: nothing was changed", what)
			}
			m.Plant(layout.V2Index, text)
			m.Plant(layout.V2IndexHash, []byte(blob.DigestOf(text).String()))
			if checked() {
				t.Errorf("%s: it passes for checked", what)
			}
			publishtest.MustPublish(t, m, fixture, publish.Options{})
			now := m.Snapshot()[layout.V2Index]
			if damaged := strings.HasPrefix(what, "a record"); damaged != !bytes.Equal(now, text) {
				t.Errorf("%s: the index was written %t", what, !damaged)
			}
			publishtest.WantIndex(t, m.Snapshot(), "v2", publishtest.IndexOf(t, publishtest.ContentOf(t, fixture), "v2"))
		}
	}
}
