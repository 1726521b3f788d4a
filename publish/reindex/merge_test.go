package reindex_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
)

// Publishing two overlapping halves, in either order, gives the index that Spack
// makes of the whole.
func TestMergeOfHalvesIsTheIndexOfTheWhole(t *testing.T) {
	one, two := []string{"gcc", "gcc-runtime", "compiler-wrapper", "zlib", "openssl", "munge", "slurm"}, []string{"zlib", "hwloc", "libevent", "pmix", "slurm", "openmpi"}
	for _, fixture := range []string{"v3-signed", "v3-unsigned", "v2-signed", "v2-unsigned"} {
		for _, halves := range [][][]string{{one, two}, {two, one}} {
			m := publishtest.EmptyMirror(t)
			for _, half := range halves {
				publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only(half...))
			}
			publishtest.WantIndex(t, m.Snapshot(), publishtest.LayoutOf(fixture), publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original(fixture)), publishtest.LayoutOf(fixture)))
		}
	}
}

// What the index lacks is put right by the next publish, whatever it publishes.
func TestPublishHealsTheIndex(t *testing.T) {
	none := publish.Options{Index: publish.IndexNone}
	for _, row := range []struct {
		name   string
		damage func(s publishtest.Subject, l string)
	}{
		{"pushed without --update-index", func(s publishtest.Subject, l string) {
			if _, err := publishtest.PublishTo(s.T, s, publishtest.Original(l+"-signed"), none); err != nil {
				s.T.Fatal(err)
			}
		}},
		{"index never written", func(s publishtest.Subject, l string) {
			s.Uproot(publishtest.PointerOf(l))
			s.Uproot(layout.V2IndexHash)
		}},
		{"race lost by Spack", func(s publishtest.Subject, l string) {
			s.Reindex(publishtest.PointerOf(l), func(in publishtest.Installs) {
				_, r := in.Of("slurm")
				r["in_buildcache"] = false
			})
		}},
		{"key index never written", func(s publishtest.Subject, _ string) { s.Uproot(layout.V3KeyIndex); s.Uproot(layout.V2KeyIndex) }},
		{"layout.json never written", func(s publishtest.Subject, _ string) { s.Uproot(layout.V3Layout) }},
		{"pointer truncated", func(s publishtest.Subject, l string) { s.Cut(publishtest.PointerOf(l)) }},
		{"pointer is no JSON", func(s publishtest.Subject, l string) { s.Plant(publishtest.PointerOf(l), []byte("<html>")) }},
		{"index document gone", func(s publishtest.Subject, l string) {
			if l == "v3" {
				s.Uproot(s.Blob(layout.V3Index, manifest.Index))
			}
		}},
		{"index document damaged", func(s publishtest.Subject, l string) {
			if l == "v3" {
				s.Point(layout.V3Index, manifest.IndexType(index.V8), []byte("{}"))
			} else {
				s.Plant(layout.V2Index, []byte("{}"))
			}
		}},
		{"index of an older version", func(s publishtest.Subject, l string) {
			old := []byte(`{"database":{"version":"6","installs":{}}}`)
			if l == "v3" {
				s.Point(layout.V3Index, manifest.IndexType(index.V8), old)
			} else {
				s.Plant(layout.V2Index, old)
			}
		}},
		{"hash of another index", func(s publishtest.Subject, _ string) {
			if s.Snapshot()[layout.V2IndexHash] != nil {
				s.Plant(layout.V2IndexHash, []byte(blob.DigestOf(nil).String()))
			}
		}},
		{"hash never written", func(s publishtest.Subject, _ string) { s.Uproot(layout.V2IndexHash) }},
	} {
		for _, l := range []string{"v3", "v2"} {
			for _, by := range []string{"Spack", "us"} {
				t.Run(l+" "+row.name+", written by "+by, func(t *testing.T) {
					m := publishtest.Planted(t, l+"-signed")
					if by == "us" || row.name == "pushed without --update-index" {
						m = publishtest.EmptyMirror(t)
					}
					if by == "us" {
						publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publish.Options{})
					}
					row.damage(publishtest.SubjectOf(t, m), l)
					publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
					publishtest.WantIndex(t, m.Snapshot(), l, publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original(l+"-signed")), l))
					if hash := m.Snapshot()[layout.V2IndexHash]; l == "v2" && string(hash) != blob.DigestOf(m.Snapshot()[layout.V2Index]).String() {
						t.Errorf("index.json.hash is %q", hash)
					}
					if diff := mirrortest.Diff(publishtest.WithoutIndex(t, publishtest.ContentOf(t, publishtest.Original(l+"-signed"))), publishtest.WithoutIndex(t, m.Snapshot())); diff != "" {
						t.Errorf("the rest of the mirror:\n%s", diff)
					}
					m.Forget()
					publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
					if len(m.Mutations()) != 0 {
						t.Errorf("the second run did %v", m.Mutations())
					}
				})
			}
		}
	}
}

// An index of a version that we do not know is never replaced, in no way.
func TestNewerIndexIsNeverDowngraded(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.Planted(t, l+"-signed")
		publishtest.PlantNewer(t, m, l)
		before := m.Snapshot()
		for _, mode := range []publish.IndexMode{publish.IndexMerge, publish.IndexRebuild} {
			_, err := publishtest.PublishTo(t, m, publishtest.Original(l+"-signed"), publish.Options{Index: mode})
			publishtest.WantNewer(t, err)
		}
		_, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{})
		publishtest.WantNewer(t, err)
		if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
			t.Errorf("%s: it was changed:\n%s", l, diff)
		}
	}
}

// A package of others that is not whole, or not to be trusted, stays out of the index
// with a warning, and does not keep anybody from publishing.
func TestWhatIsNotWholeStaysOutOfTheIndex(t *testing.T) {
	for _, row := range []struct {
		name    string
		fixture string
		trust   buildcache.Trust
		damage  func(s publishtest.Subject)
		reason  string
	}{
		{"tarball missing", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Uproot(s.Tarball("munge")) }, "is missing"},
		{"tarball of another size", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Cut(s.Tarball("munge")) }, "another size"},
		{"spec missing", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Uproot(s.Blob(s.Find("munge"), manifest.Spec)) }, "is missing"},
		{"spec damaged", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Flip(s.Blob(s.Find("munge"), manifest.Spec)) }, "sha256"},
		{"manifest truncated", "v3-unsigned", buildcache.Trust{}, func(s publishtest.Subject) { s.Cut(s.Find("munge")) }, "manifest"},
		{"manifest of another package", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Plant(s.Find("munge"), another(s, s.Find("munge"), "hwloc")) }, ""},
		{"signed by another", "v3-signed", buildcache.Trust{Keys: publishtest.VerifyRing(t, "two")}, func(publishtest.Subject) {}, "not among the trusted keys"},
		{"not signed", "v3-unsigned", buildcache.Trust{RequireSigned: true}, func(publishtest.Subject) {}, "not signed"},
		{"v2 tarball missing", "v2-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Uproot(s.Tarball("munge")) }, "is missing"},
		{"v2 document truncated", "v2-unsigned", buildcache.Trust{}, func(s publishtest.Subject) { s.Cut(s.Find("munge")) }, "spec"},
		{"v2 document of another package", "v2-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Plant(s.Find("munge"), another(s, s.Find("munge"), "hwloc")) }, ""},
	} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, index lost: %t", row.name, lost), func(t *testing.T) {
				l := publishtest.LayoutOf(row.fixture)
				m := publishtest.EmptyMirror(t)
				foreign := publishtest.Only("munge")
				foreign.Index = publish.IndexNone
				publishtest.MustPublish(t, m, publishtest.Original(row.fixture), foreign)
				row.damage(publishtest.SubjectOf(t, m))
				want := 1
				if lost { // it is made anew, with a warning of its own
					m.Plant(publishtest.PointerOf(l), []byte("{"))
					want = 2
				}
				// What we publish ourselves must be good under the same trust.
				o := publishtest.Only("zlib")
				own := row.fixture
				if row.trust.Keys != nil {
					own, o.Trust = l+"-unsigned", row.trust
				}
				if row.trust.RequireSigned {
					own, o.Trust = l+"-signed", row.trust
				}
				out, err := publishtest.PublishTo(t, m, publishtest.Original(own), o)
				if err != nil {
					t.Fatal(err)
				}
				findings := slices.DeleteFunc(out.Findings, func(f buildcache.Finding) bool { return strings.Contains(f.Reason, "this key is not among") })
				if told := len(out.Findings) > len(findings); len(findings) != want || told != (row.trust.Keys != nil) {
					t.Fatalf("findings: %v", out.Findings)
				}
				if f := findings[want-1]; f.Severity != buildcache.Warning || !strings.Contains(f.Reason, row.reason) || !strings.Contains(f.File, "munge") {
					t.Errorf("finding: %v", f)
				}
				x, err := publishtest.NewReader().Index(m.Snapshot(), l)
				if err != nil {
					t.Fatal(err)
				}
				if got := x.Offered(); len(got) != 1 || !strings.HasPrefix(got[0], "zlib/") {
					t.Errorf("the index offers %q", got)
				}
			})
		}
	}
}

// another is the document of another package than the one that name is about.
func another(s publishtest.Subject, name, pkg string) []byte {
	s.T.Helper()
	fixture := "v2-signed"
	if strings.HasPrefix(name, layout.V3Specs) {
		fixture = "v3-signed"
	}
	other := publishtest.SubjectOf(s.T, publishtest.Planted(s.T, fixture))
	return other.Read(other.Find(pkg))
}

// A package whose content the mirror has lost is whole again, and indexed, after one publish.
func TestContentThatWasLostIsSentAgain(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.EmptyMirror(t)
		o := publishtest.Only("munge")
		o.Index = publish.IndexNone
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), o)
		m.Uproot(publishtest.SubjectOf(t, m).Tarball("munge"))
		out := publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("munge"))
		if len(out.Findings) != 0 {
			t.Errorf("%s: %v", l, out.Findings)
		}
		if got := publishtest.IndexOf(t, m.Snapshot(), l).Offered(); len(got) != 1 {
			t.Errorf("%s: the index offers %q", l, got)
		}
	}
}

// Named views belong to whoever made them, and the index that clients may hold stays.
func TestViewsAndOldIndicesStay(t *testing.T) {
	m := publishtest.Planted(t, "v3-view")
	s := publishtest.SubjectOf(t, m)
	s.Reindex(layout.V3Index, func(in publishtest.Installs) {
		_, r := in.Of("slurm")
		r["in_buildcache"] = false
	})
	before := m.Snapshot()
	publishtest.MustPublish(t, m, publishtest.Original("v3-view"), publish.Options{})
	if string(m.Snapshot()[layout.V3Index]) == string(before[layout.V3Index]) {
		t.Fatal("the index did not change")
	}
	for name, content := range before {
		if name != layout.V3Index && string(m.Snapshot()[name]) != string(content) {
			t.Errorf("changed or gone: %s", name)
		}
	}
}

// A publisher who is faster between our reading and our writing loses nothing, nor do we.
func TestLostRaceIsMergedAgain(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.EmptyMirror(t)
		b := mirrortest.Break(m)
		others := [][]string{{"munge"}, {"hwloc"}, {"libevent"}}
		b.AfterEach(func(c mirrortest.Call) {
			if c.Op == mirrortest.Open && c.Name == publishtest.PointerOf(l) && len(others) > 0 { // what we have read is old
				next := others[0]
				others = others[1:]
				publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only(next...))
			}
		})
		publishtest.MustPublish(t, b, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
		lost := -1
		for _, c := range b.Mutations() {
			if c.Name == publishtest.PointerOf(l) {
				lost++
			}
		}
		if lost < 1 { // after the second, the others have indexed our package, too
			t.Errorf("%s: no race was lost: %v", l, b.Calls())
		}
		var got []string
		for _, o := range publishtest.IndexOf(t, m.Snapshot(), l).Offered() {
			name, _, _ := strings.Cut(o, "/")
			got = append(got, name)
		}
		if diff := cmp.Diff([]string{"hwloc", "libevent", "munge", "zlib"}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", l, diff)
		}
	}
}

// --index none leaves the index alone, and says so.
func TestIndexNoneLeavesItAlone(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
		before := fmt.Sprint(m.Snapshot()[publishtest.PointerOf(l)])
		p := publishtest.MustPlan(t, m, publishtest.Original(l+"-signed"), publish.Options{Index: publish.IndexNone})
		out, err := p.Apply(t.Context(), publishtest.Ignored{})
		publishtest.Must(t, err)
		if fmt.Sprint(m.Snapshot()[publishtest.PointerOf(l)]) != before || out.Mirrors[0].Index.Changes {
			t.Errorf("%s: it was written", l)
		}
		if slices.Contains(p.Stale(), publishtest.PointerOf(l)) {
			t.Errorf("%s: it is said to be stale", l)
		}
	}
}
