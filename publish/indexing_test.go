package publish_test

import (
	"errors"
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
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
)

// Publishing two overlapping halves, in either order, gives the index that Spack
// makes of the whole.
func TestMergeOfHalvesIsTheIndexOfTheWhole(t *testing.T) {
	one, two := []string{"gcc", "gcc-runtime", "compiler-wrapper", "zlib", "openssl", "munge", "slurm"}, []string{"zlib", "hwloc", "libevent", "pmix", "slurm", "openmpi"}
	for _, fixture := range []string{"v3-signed", "v3-unsigned", "v2-signed", "v2-unsigned"} {
		for _, halves := range [][][]string{{one, two}, {two, one}} {
			m := emptyMirror(t)
			for _, half := range halves {
				mustPublish(t, m, original(fixture), only(half...))
			}
			wantIndex(t, m.Snapshot(), layoutOf(fixture), indexOf(t, contentOf(t, original(fixture)), layoutOf(fixture)))
		}
	}
}

// What the index lacks is put right by the next publish, whatever it publishes.
func TestPublishHealsTheIndex(t *testing.T) {
	none := publish.Options{Index: publish.IndexNone}
	for _, row := range []struct {
		name   string
		damage func(s subject, l string)
	}{
		{"pushed without --update-index", func(s subject, l string) {
			if _, err := publishTo(s.t, s, original(l+"-signed"), none); err != nil {
				s.t.Fatal(err)
			}
		}},
		{"index never written", func(s subject, l string) { s.Uproot(pointerOf(l)); s.Uproot(layout.V2IndexHash) }},
		{"race lost by Spack", func(s subject, l string) {
			s.reindex(pointerOf(l), func(in installs) {
				_, r := in.of("slurm")
				r["in_buildcache"] = false
			})
		}},
		{"key index never written", func(s subject, _ string) { s.Uproot(layout.V3KeyIndex); s.Uproot(layout.V2KeyIndex) }},
		{"layout.json never written", func(s subject, _ string) { s.Uproot(layout.V3Layout) }},
		{"pointer truncated", func(s subject, l string) { s.cut(pointerOf(l)) }},
		{"pointer is no JSON", func(s subject, l string) { s.Plant(pointerOf(l), []byte("<html>")) }},
		{"index document gone", func(s subject, l string) {
			if l == "v3" {
				s.Uproot(s.blob(layout.V3Index, manifest.Index))
			}
		}},
		{"index document damaged", func(s subject, l string) {
			if l == "v3" {
				s.point(layout.V3Index, manifest.IndexType(index.V8), []byte("{}"))
			} else {
				s.Plant(layout.V2Index, []byte("{}"))
			}
		}},
		{"index of an older version", func(s subject, l string) {
			old := []byte(`{"database":{"version":"6","installs":{}}}`)
			if l == "v3" {
				s.point(layout.V3Index, manifest.IndexType(index.V8), old)
			} else {
				s.Plant(layout.V2Index, old)
			}
		}},
		{"hash of another index", func(s subject, _ string) {
			if s.Snapshot()[layout.V2IndexHash] != nil {
				s.Plant(layout.V2IndexHash, []byte(blob.DigestOf(nil).String()))
			}
		}},
		{"hash never written", func(s subject, _ string) { s.Uproot(layout.V2IndexHash) }},
	} {
		for _, l := range []string{"v3", "v2"} {
			for _, by := range []string{"Spack", "us"} {
				t.Run(l+" "+row.name+", written by "+by, func(t *testing.T) {
					m := planted(t, l+"-signed")
					if by == "us" || row.name == "pushed without --update-index" {
						m = emptyMirror(t)
					}
					if by == "us" {
						mustPublish(t, m, original(l+"-signed"), publish.Options{})
					}
					row.damage(subject{t, m}, l)
					mustPublish(t, m, original(l+"-signed"), only("zlib"))
					wantIndex(t, m.Snapshot(), l, indexOf(t, contentOf(t, original(l+"-signed")), l))
					if hash := m.Snapshot()[layout.V2IndexHash]; l == "v2" && string(hash) != blob.DigestOf(m.Snapshot()[layout.V2Index]).String() {
						t.Errorf("index.json.hash is %q", hash)
					}
					if diff := mirrortest.Diff(withoutIndex(t, contentOf(t, original(l+"-signed"))), withoutIndex(t, m.Snapshot())); diff != "" {
						t.Errorf("the rest of the mirror:\n%s", diff)
					}
					m.Forget()
					mustPublish(t, m, original(l+"-signed"), only("zlib"))
					if len(m.Mutations()) != 0 {
						t.Errorf("the second run did %v", m.Mutations())
					}
				})
			}
		}
	}
}

func pointerOf(l string) string {
	if l == "v3" {
		return layout.V3Index
	}
	return layout.V2Index
}

// An index of a version that we do not know is never replaced, in no way.
func TestNewerIndexIsNeverDowngraded(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := planted(t, l+"-signed")
		newer := []byte(`{"database":{"version":"9","installs":{}}}`)
		if l == "v3" {
			subject{t, m}.point(layout.V3Index, manifest.IndexType(index.V8), newer)
		} else {
			m.Plant(layout.V2Index, newer)
		}
		before := m.Snapshot()
		for _, mode := range []publish.IndexMode{publish.IndexMerge, publish.IndexRebuild} {
			_, err := publishTo(t, m, original(l+"-signed"), publish.Options{Index: mode})
			wantNewer(t, err)
		}
		_, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{})
		wantNewer(t, err)
		if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
			t.Errorf("%s: it was changed:\n%s", l, diff)
		}
	}
}

func wantNewer(t *testing.T, err error) {
	t.Helper()
	var version *index.VersionError
	if !errors.As(err, &version) || !version.Newer() {
		t.Errorf("error is %v", err)
	}
}

// A package of others that is not whole, or not to be trusted, stays out of the index
// with a warning, and does not keep anybody from publishing.
func TestWhatIsNotWholeStaysOutOfTheIndex(t *testing.T) {
	for _, row := range []struct {
		name    string
		fixture string
		trust   buildcache.Trust
		damage  func(s subject)
		reason  string
	}{
		{"tarball missing", "v3-signed", buildcache.Trust{}, func(s subject) { s.Uproot(s.tarball("munge")) }, "is missing"},
		{"tarball of another size", "v3-signed", buildcache.Trust{}, func(s subject) { s.cut(s.tarball("munge")) }, "another size"},
		{"spec missing", "v3-signed", buildcache.Trust{}, func(s subject) { s.Uproot(s.blob(s.find("munge"), manifest.Spec)) }, "is missing"},
		{"spec damaged", "v3-signed", buildcache.Trust{}, func(s subject) { s.flip(s.blob(s.find("munge"), manifest.Spec)) }, "sha256"},
		{"manifest truncated", "v3-unsigned", buildcache.Trust{}, func(s subject) { s.cut(s.find("munge")) }, "manifest"},
		{"manifest of another package", "v3-signed", buildcache.Trust{}, func(s subject) { s.Plant(s.find("munge"), another(s, s.find("munge"), "hwloc")) }, ""},
		{"signed by another", "v3-signed", buildcache.Trust{Keys: verifyRing(t, "two")}, func(subject) {}, "not among the trusted keys"},
		{"not signed", "v3-unsigned", buildcache.Trust{RequireSigned: true}, func(subject) {}, "not signed"},
		{"v2 tarball missing", "v2-signed", buildcache.Trust{}, func(s subject) { s.Uproot(s.tarball("munge")) }, "is missing"},
		{"v2 document truncated", "v2-unsigned", buildcache.Trust{}, func(s subject) { s.cut(s.find("munge")) }, "spec"},
		{"v2 document of another package", "v2-signed", buildcache.Trust{}, func(s subject) { s.Plant(s.find("munge"), another(s, s.find("munge"), "hwloc")) }, ""},
	} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, index lost: %t", row.name, lost), func(t *testing.T) {
				l := layoutOf(row.fixture)
				m := emptyMirror(t)
				foreign := only("munge")
				foreign.Index = publish.IndexNone
				mustPublish(t, m, original(row.fixture), foreign)
				row.damage(subject{t, m})
				want := 1
				if lost { // it is made anew, with a warning of its own
					m.Plant(pointerOf(l), []byte("{"))
					want = 2
				}
				// What we publish ourselves must be good under the same trust.
				o := only("zlib")
				own := row.fixture
				if row.trust.Keys != nil {
					own, o.Trust = l+"-unsigned", row.trust
				}
				if row.trust.RequireSigned {
					own, o.Trust = l+"-signed", row.trust
				}
				out, err := publishTo(t, m, original(own), o)
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
				x, err := newReader().index(m.Snapshot(), l)
				if err != nil {
					t.Fatal(err)
				}
				if got := x.offered(); len(got) != 1 || !strings.HasPrefix(got[0], "zlib/") {
					t.Errorf("the index offers %q", got)
				}
			})
		}
	}
}

// another is the document of another package than the one that name is about.
func another(s subject, name, pkg string) []byte {
	s.t.Helper()
	fixture := "v2-signed"
	if strings.HasPrefix(name, layout.V3Specs) {
		fixture = "v3-signed"
	}
	other := subject{s.t, planted(s.t, fixture)}
	return other.read(other.find(pkg))
}

// A package whose content the mirror has lost is whole again, and indexed, after one publish.
func TestContentThatWasLostIsSentAgain(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := emptyMirror(t)
		o := only("munge")
		o.Index = publish.IndexNone
		mustPublish(t, m, original(l+"-signed"), o)
		m.Uproot(subject{t, m}.tarball("munge"))
		out := mustPublish(t, m, original(l+"-signed"), only("munge"))
		if len(out.Findings) != 0 {
			t.Errorf("%s: %v", l, out.Findings)
		}
		if got := indexOf(t, m.Snapshot(), l).offered(); len(got) != 1 {
			t.Errorf("%s: the index offers %q", l, got)
		}
	}
}

// Named views belong to whoever made them, and the index that clients may hold stays.
func TestViewsAndOldIndicesStay(t *testing.T) {
	m := planted(t, "v3-view")
	s := subject{t, m}
	s.reindex(layout.V3Index, func(in installs) {
		_, r := in.of("slurm")
		r["in_buildcache"] = false
	})
	before := m.Snapshot()
	mustPublish(t, m, original("v3-view"), publish.Options{})
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
		m := emptyMirror(t)
		b := mirrortest.Break(m)
		others := [][]string{{"munge"}, {"hwloc"}, {"libevent"}}
		b.AfterEach(func(c mirrortest.Call) {
			if c.Op == mirrortest.Open && c.Name == pointerOf(l) && len(others) > 0 { // what we have read is old
				next := others[0]
				others = others[1:]
				mustPublish(t, m, original(l+"-signed"), only(next...))
			}
		})
		mustPublish(t, b, original(l+"-signed"), only("zlib"))
		lost := -1
		for _, c := range b.Mutations() {
			if c.Name == pointerOf(l) {
				lost++
			}
		}
		if lost < 1 { // after the second, the others have indexed our package, too
			t.Errorf("%s: no race was lost: %v", l, b.Calls())
		}
		var got []string
		for _, o := range indexOf(t, m.Snapshot(), l).offered() {
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
		m := emptyMirror(t)
		mustPublish(t, m, original(l+"-signed"), only("zlib"))
		before := fmt.Sprint(m.Snapshot()[pointerOf(l)])
		p := mustPlan(t, m, original(l+"-signed"), publish.Options{Index: publish.IndexNone})
		out, err := p.Apply(t.Context(), ignored{})
		must(t, err)
		if fmt.Sprint(m.Snapshot()[pointerOf(l)]) != before || out.Mirrors[0].Index.Changes {
			t.Errorf("%s: it was written", l)
		}
		if slices.Contains(p.Stale(), pointerOf(l)) {
			t.Errorf("%s: it is said to be stale", l)
		}
	}
}
