package reindex_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// pushed is what `spack buildcache push` without --update-index leaves of a fixture: all but
// the indices.
func pushed(t testing.TB, fixture string) map[string][]byte {
	t.Helper()
	s := publishtest.WithoutIndex(t, publishtest.ContentOf(t, publishtest.Original(fixture)))
	for _, name := range []string{layout.V3KeyIndex, layout.V2KeyIndex} {
		delete(s, name)
	}
	return s
}

func plantAll(m *mirrortest.Mem, s map[string][]byte) {
	for name, content := range s {
		m.Plant(name, content)
	}
}

// wantSpacks: a mirror is what Spack makes of a fixture with update-index -k.
func wantSpacks(t testing.TB, s map[string][]byte, fixture string) {
	t.Helper()
	l := publishtest.LayoutOf(fixture)
	spack := publishtest.ContentOf(t, publishtest.Original(fixture))
	publishtest.WantIndex(t, s, l, publishtest.IndexOf(t, spack, l))
	for _, name := range []string{layout.V3KeyIndex, layout.V2KeyIndex, layout.V3Layout} {
		if string(s[name]) != string(spack[name]) {
			t.Errorf("%s is %q, want %q", name, s[name], spack[name])
		}
	}
	if hash := s[layout.V2IndexHash]; l == "v2" && string(hash) != blob.DigestOf(s[layout.V2Index]).String() {
		t.Errorf("index.json.hash is %q", hash)
	}
	if diff := mirrortest.Diff(publishtest.WithoutIndex(t, spack), publishtest.WithoutIndex(t, s)); diff != "" {
		t.Errorf("the rest of the mirror:\n%s", diff)
	}
}

// What was pushed without an index gets the one that Spack makes, and the second time
// nothing is done.
func TestHealMakesTheIndexThatSpackMakes(t *testing.T) {
	for _, fixture := range publishtest.Mirrors {
		t.Run(fixture, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			s := pushed(t, fixture)
			plantAll(m, s)
			m.Uproot(layout.V3Layout)
			got := publishtest.MustHeal(t, m, publishtest.NamesOf(s)...)
			if len(got) != 1 || got[0].Layout != publishtest.LayoutOf(fixture) || !got[0].Changed || got[0].Before != 0 || got[0].After != len(got[0].Indexed) || len(got[0].Findings) != 0 {
				t.Fatalf("healed: %+v", got)
			}
			if !slices.Contains(got[0].Stale, publishtest.PointerOf(publishtest.LayoutOf(fixture))) {
				t.Errorf("stale: %q", got[0].Stale)
			}
			wantSpacks(t, m.Snapshot(), fixture)
			m.Forget()
			again := publishtest.MustHeal(t, m, slices.DeleteFunc(publishtest.NamesOf(s), isTarball)...)
			if len(m.Mutations()) != 0 || again[0].Changed || len(again[0].Stale) != 0 {
				t.Errorf("the second time: %v, %+v", m.Mutations(), again)
			}
			if why, err := again[0].Expectation("").Unmet(t.Context(), m); err != nil || why != "" {
				t.Errorf("shown: %q, %v", why, err)
			}
			if why, err := again[0].Expectation("").Unmet(t.Context(), publishtest.EmptyMirror(t)); err != nil || why == "" {
				t.Errorf("shown where there is nothing: %q, %v", why, err)
			}
		})
	}
}

// Objects arrive in any order, are told of in any order, late, twice and thrice, healers
// die at any request, and programs that know of nobody replace the index with an empty
// one: when all is told and healed, the index is Spack's.
func TestHealInAnyOrder(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		s := pushed(t, fixture)
		l := publishtest.LayoutOf(fixture)
		rapid.Check(t, func(rt *rapid.T) {
			m := publishtest.EmptyMirror(t)
			arriving := rapid.Permutation(publishtest.NamesOf(s)).Draw(rt, "arriving")
			var told []string
			tell := func(name string) {
				if _, ok := layout.Fixed(name); ok {
					told = append(told, slices.Repeat([]string{name}, rapid.IntRange(1, 2).Draw(rt, "times"))...)
				}
			}
			heal := func(batch []string, to mirror.Store) {
				got, err := reindex.Heal(t.Context(), to, buildcache.Trust{}, reindex.Changes{Names: batch})
				if err != nil {
					told = append(told, batch...)
					return
				}
				for _, name := range batch {
					if refused(got, name) {
						told = append(told, name)
					}
				}
			}
			for len(arriving) > 0 {
				switch rapid.IntRange(0, 9).Draw(rt, "what") {
				default: // an object arrives
					m.Plant(arriving[0], s[arriving[0]])
					tell(arriving[0])
					arriving = arriving[1:]
				case 6: // one is told of that is not there yet, or not any more
					told = append(told, arriving[0])
				case 7, 8: // some are healed, by one that may die at it
					n := rapid.IntRange(0, len(told)).Draw(rt, "batch")
					mixed := rapid.Permutation(told).Draw(rt, "order")
					told = mixed[n:]
					heal(mixed[:n], mirrortest.Break(m, mirrortest.Kill(rapid.IntRange(0, 60).Draw(rt, "dies after"))))
				case 9: // Spack, which saw nothing, has been slow
					clobber(publishtest.SubjectOf(t, m), l)
					tell(publishtest.PointerOf(l))
				}
			}
			for range 2 { // what is told again is whole now
				batch := told
				told = nil
				heal(batch, m)
			}
			if len(told) > 0 {
				rt.Fatalf("never healed: %q", told)
			}
			wantSpacks(t, m.Snapshot(), fixture)
			if t.Failed() {
				rt.FailNow()
			}
		})
	}
}

func refused(all []reindex.Healed, name string) bool {
	return slices.ContainsFunc(all, func(h reindex.Healed) bool {
		return slices.ContainsFunc(h.Findings, func(f buildcache.Finding) bool { return f.File == name })
	})
}

// clobber replaces the index with an empty one, as Spack does with what it saw.
func clobber(s publishtest.Subject, l string) {
	if l == "v3" {
		s.Point(layout.V3Index, manifest.IndexType(index.V8), []byte(`{"database":{"version":"8","installs":{}}}`))
		return
	}
	s.Plant(layout.V2Index, []byte(`{"database":{"version":"7","installs":{}}}`))
}

// Whatever fails at whatever call: clients find a mirror that works, and who heals again
// ends where an undisturbed one does.
func TestHealWithEveryFaultAtEveryCall(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		scene := func() (*mirrortest.Mem, []string) {
			m := publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("gcc-runtime"))
			s := pushed(t, l+"-signed")
			plantAll(m, s)
			m.Uproot(layout.V3Layout)
			m.Uproot(layout.V3KeyIndex)
			m.Uproot(layout.V2KeyIndex)
			m.Forget()
			return m, publishtest.NamesOf(s)
		}
		m, touched := scene()
		b := mirrortest.Break(m)
		publishtest.MustHeal(t, b, touched...)
		want := publishtest.Settled(t, m.Snapshot())
		calls := len(b.Calls())
		client := publishtest.NewReader()
		for k := 1; k <= calls; k++ {
			for i, fault := range []mirrortest.Fault{
				mirrortest.Nth(k, mirrortest.Fail("", mirrortest.Refusals[1])), mirrortest.Nth(k, mirrortest.Cut("", 1)),
				mirrortest.Nth(k, mirrortest.Drop("")), mirrortest.Nth(k, mirrortest.Lie("")),
				mirrortest.Nth(k, mirrortest.Conflict("")), mirrortest.Kill(k - 1),
			} {
				if testing.Short() && (k+i)%5 != 0 {
					continue
				}
				m, touched := scene()
				b := mirrortest.Break(m, fault)
				b.AfterEach(func(c mirrortest.Call) {
					if !c.Op.Mutates() {
						return
					}
					if err := client.Look(m.Snapshot()); err != nil {
						t.Errorf("%s, fault %d of call %d, after %s: %v", l, i, k, c, err)
					}
				})
				got, err := reindex.Heal(t.Context(), b, buildcache.Trust{}, reindex.Changes{Names: touched})
				if err == nil && !slices.ContainsFunc(got, func(h reindex.Healed) bool { return len(h.Findings) > 0 }) {
					if diff := mirrortest.Diff(want, publishtest.Settled(t, m.Snapshot())); diff != "" {
						t.Errorf("%s, fault %d of call %d: it is said to be healed:\n%s", l, i, k, diff)
					}
				}
				publishtest.MustHeal(t, m, touched...)
				if diff := mirrortest.Diff(want, publishtest.Settled(t, m.Snapshot())); diff != "" {
					t.Errorf("%s, fault %d of call %d, healed again:\n%s", l, i, k, diff)
				}
				if t.Failed() {
					return
				}
			}
		}
	}
}

// A package whose content is not there yet is left for later, with the reason, and holds no
// other up.
func TestHealLeavesForLaterWhatIsNotWhole(t *testing.T) {
	for _, row := range []struct {
		name, fixture string
		trust         buildcache.Trust
		damage        func(s publishtest.Subject)
		touched       func(s publishtest.Subject) string
		reason        string
	}{
		{"tarball not there yet", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Uproot(s.Tarball("munge")) }, nil, "is missing"},
		{"tarball cut", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Cut(s.Tarball("munge")) }, nil, "another size"},
		{"spec not there yet", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Uproot(s.Blob(s.Find("munge"), manifest.Spec)) }, nil, "is missing"},
		{"document cut", "v3-unsigned", buildcache.Trust{}, func(s publishtest.Subject) { s.Cut(s.Find("munge")) }, nil, "manifest"},
		{"signed by another", "v3-signed", buildcache.Trust{Keys: publishtest.VerifyRing(t, "two")}, func(publishtest.Subject) {}, nil, "not among the trusted keys"},
		{"not signed", "v3-unsigned", buildcache.Trust{RequireSigned: true}, func(publishtest.Subject) {}, nil, "not signed"},
		{"v2 tarball not there yet", "v2-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Uproot(s.Tarball("munge")) }, nil, "is missing"},
		{"key not there yet", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Uproot(s.Blob(s.Key("v3"), manifest.Key)) }, func(s publishtest.Subject) string { return s.Key("v3") }, "not offered to clients"},
		{"key cut", "v2-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Plant(s.Key("v2"), s.Read(s.Key("v2"))[:400]) }, func(s publishtest.Subject) string { return s.Key("v2") }, "not offered to clients"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			whole := pushed(t, row.fixture)
			plantAll(m, whole)
			s := publishtest.SubjectOf(t, m)
			if row.touched == nil {
				name := s.Find("munge")
				row.touched = func(publishtest.Subject) string { return name }
			}
			name := row.touched(s)
			row.damage(s)
			got, err := reindex.Heal(t.Context(), m, row.trust, reindex.Changes{Names: publishtest.NamesOf(whole)})
			if err != nil {
				t.Fatal(err)
			}
			var of []buildcache.Finding
			for _, f := range got[0].Findings {
				if f.File == name {
					of = append(of, f)
				}
			}
			if len(of) != 1 || !strings.Contains(of[0].Reason, row.reason) {
				t.Fatalf("findings: %v", got[0].Findings)
			}
			if row.trust == (buildcache.Trust{}) {
				if len(got[0].Findings) != 1 {
					t.Errorf("others were held up: %v", got[0].Findings)
				}
				x, err := publishtest.NewReader().Index(m.Snapshot(), publishtest.LayoutOf(row.fixture))
				if err != nil || slices.ContainsFunc(x.Offered(), func(o string) bool { return strings.HasPrefix(o, "munge/") }) == (row.reason != "not offered to clients") {
					t.Errorf("the index offers %q, %v", x.Offered(), err)
				}
			}
			plantAll(m, whole) // it arrives
			publishtest.MustHeal(t, m, name)
			if row.trust == (buildcache.Trust{}) {
				wantSpacks(t, m.Snapshot(), row.fixture)
			}
		})
	}
}

// Spack replaces an index without asking whether somebody has added to it meanwhile. When that
// is told, what it dropped comes back. An index of ours drops nothing, and is only read, unless an earlier one was put back.
func TestHealBringsBackWhatSpackDropped(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publish.Options{})
		m.Forget()
		got := publishtest.MustHeal(t, m, publishtest.PointerOf(l))
		if len(m.Mutations()) != 0 || !slices.Equal(got[0].Stale, []string{publishtest.PointerOf(l)}) {
			t.Errorf("%s: the index is ours, and %v was done: %+v", l, m.Mutations(), got)
		}
		if l == "v3" && len(m.Calls()) != 2 { // the other one lists its history
			t.Errorf("the index is ours, and it took %v", m.Calls())
		}
		clobber(publishtest.SubjectOf(t, m), l)
		got = publishtest.MustHeal(t, m, publishtest.PointerOf(l))
		if !got[0].Changed {
			t.Errorf("%s: %+v", l, got)
		}
		wantSpacks(t, m.Snapshot(), l+"-signed")
	}
}

// What Spack dropped is brought back also when one of our publishers has merged into Spack's index before anybody has looked: the pointer
// says that nobody has listed everything since.
func TestHealBringsBackWhatSpackDroppedBeforeAMerge(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	clobber(publishtest.SubjectOf(t, m), "v3")
	// A publisher that adds one package and does not list the rest.
	p, err := buildcache.V3.ReadPointer(t.Context(), m)
	publishtest.Must(t, err)
	x, err := buildcache.V3.ReadIndex(t.Context(), m, p)
	publishtest.Must(t, err)
	src := publishtest.SourceOf(t, publishtest.Original("v3-signed"), publishtest.Only("zlib").Selection)
	zlib := src.Mirrors[0].Packages[0]
	publishtest.Must(t, buildcache.V3.ReadSpec(t.Context(), m, zlib, spec.NewReader(1<<20)))
	x.Add(zlib.Spec)
	now, err := buildcache.V3.WriteIndex(t.Context(), m, p, x, history.Past{}, nil)
	publishtest.Must(t, err)
	again, err := buildcache.V3.ReadPointer(t.Context(), m)
	publishtest.Must(t, err)
	if now.Foreign != p.Digest() || again.Foreign != p.Digest() || again.Coverage.Len() != 1 {
		t.Fatalf("made of the foreign %s: %+v", p.Digest(), again)
	}
	got := publishtest.MustHeal(t, m, publishtest.PointerOf("v3"))
	if !got[0].Changed {
		t.Errorf("%+v", got)
	}
	wantSpacks(t, m.Snapshot(), "v3-signed")
	if p, err = buildcache.V3.ReadPointer(t.Context(), m); err != nil || p.Foreign != "" {
		t.Errorf("it still says that nobody has listed everything: %v", err)
	}
}

// A hash that is not that of the index is put right when it is told of.
func TestHealPutsTheHashRight(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v2-signed"), publish.Options{})
	m.Plant(layout.V2IndexHash, []byte(blob.DigestOf(nil).String()))
	if got := publishtest.MustHeal(t, m, layout.V2IndexHash); !slices.Equal(got[0].Stale, []string{layout.V2Index, layout.V2IndexHash}) {
		t.Errorf("stale: %q", got[0].Stale)
	}
	wantSpacks(t, m.Snapshot(), "v2-signed")
}

// A key is added to those that clients are told of.
func TestHealAddsKeys(t *testing.T) {
	m := publishtest.Planted(t, "v2-signed")
	two := publishtest.VerifyRing(t, "two").Fingerprints()[0]
	armored, err := os.ReadFile(publishtest.Testdata() + "keys/two.pub")
	if err != nil {
		t.Fatal(err)
	}
	m.Plant(layout.V2Key(two), armored)
	got := publishtest.MustHeal(t, m, layout.V2Key(two))
	index := string(m.Snapshot()[layout.V2KeyIndex])
	one, _ := layout.ParseV2Key(publishtest.SubjectOf(t, publishtest.Planted(t, "v2-signed")).Key("v2"))
	if !strings.Contains(index, string(one)) || !strings.Contains(index, string(two)) || !slices.Equal(got[0].Stale, []string{layout.V2KeyIndex}) {
		t.Errorf("the key index is %s, and %q are stale", index, got[0].Stale)
	}
}

// A name that is gone changes nothing: no event takes a package out of an index.
func TestHealNeverTakesOut(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publish.Options{})
		before := publishtest.IndexOf(t, m.Snapshot(), l)
		name := publishtest.SubjectOf(t, m).Find("munge")
		m.Uproot(name)
		m.Forget()
		got := publishtest.MustHeal(t, m, name)
		if len(m.Mutations()) != 0 || len(got[0].Findings) != 0 {
			t.Errorf("%s: it did %v, %+v", l, m.Mutations(), got)
		}
		after, err := publishtest.NewReader().Index(m.Snapshot(), l)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error(diff)
		}
	}
}

// What caches may still have is told: what was written, and what somebody else replaced.
func TestHealTellsWhatIsStale(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-view"), publish.Options{})
	plantAll(m, publishtest.ContentOf(t, publishtest.Original("v3-view")))
	if first := publishtest.MustHeal(t, m, publishtest.VerifyView, layout.V3KeyIndex); !slices.Equal(first[0].Stale, []string{publishtest.VerifyView, layout.V3KeyIndex}) {
		t.Errorf("stale: %q", first[0].Stale)
	}
	m.Plant(layout.V3Index, m.Snapshot()[layout.V3Index])
	// Who was told before may have told nobody.
	name := publishtest.SubjectOf(t, m).Find("munge")
	again, err := reindex.Heal(t.Context(), m, buildcache.Trust{}, reindex.Changes{Names: []string{name}, Repeated: []string{name}})
	if err != nil || !slices.Equal(again[0].Stale, []string{layout.V3Index, layout.V3KeyIndex}) {
		t.Errorf("told again: %+v, %v", again, err)
	}
	// A document that was stored again is another one, perhaps.
	m.Plant(name, m.Snapshot()[name])
	if got := publishtest.MustHeal(t, m, name, publishtest.SubjectOf(t, m).Find("zlib")); !slices.Equal(got[0].Stale, []string{name}) || got[0].Changed {
		t.Errorf("stored again: %+v", got)
	}
	m.Uproot(publishtest.SubjectOf(t, m).Tarball("munge"))
	m.Uproot(layout.V3Index) // or else nobody looks
	again, err = reindex.Heal(t.Context(), m, buildcache.Trust{}, reindex.Changes{Names: []string{name}, Repeated: []string{name}})
	if err != nil || len(again[0].Findings) != 1 || slices.Contains(again[0].Stale, layout.V3KeyIndex) {
		t.Errorf("told again of what is not whole: %+v, %v", again, err)
	}
	m = publishtest.EmptyMirror(t)
	s := pushed(t, "v3-signed")
	plantAll(m, s)
	if got := publishtest.MustHeal(t, m, publishtest.SubjectOf(t, m).Key("v3")); !slices.Contains(got[0].Stale, layout.V3KeyIndex) {
		t.Errorf("stale: %q", got[0].Stale)
	}
}

// In layout v2 a tarball is named by its package. One that is stored although the index offers it may
// be another one, and of nothing else anybody need hear. One that is new is nobody's old one, and one
// that is gone again neither.
func TestHealTellsOfTarballsThatWereReplaced(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	s := pushed(t, "v2-signed")
	plantAll(m, s)
	of := publishtest.SubjectOf(t, m)
	all := []string{of.Tarball("zlib"), of.Tarball("munge")}
	only := publishtest.EmptyMirror(t)
	only.Plant(all[0], s[all[0]])
	if got := publishtest.MustHeal(t, only, all[0]); len(got) != 1 || len(got[0].Stale) != 0 || got[0].Changed {
		t.Errorf("before there are documents: %+v", got)
	}
	if got := publishtest.MustHeal(t, m, publishtest.NamesOf(s)...); slices.ContainsFunc(got[0].Stale, isTarball) || !got[0].Changed {
		t.Errorf("along with their documents: %+v", got)
	}
	m.Plant(all[1], []byte("other bytes"))
	index := string(m.Snapshot()[layout.V2Index])
	for _, told := range []reindex.Changes{{Names: all[1:]}, {Names: all[1:], Repeated: all[1:]}} {
		got, err := reindex.Heal(t.Context(), m, buildcache.Trust{}, told)
		if err != nil || !slices.Equal(got[0].Stale, all[1:]) || got[0].Changed || len(got[0].Findings) != 0 || string(m.Snapshot()[layout.V2Index]) != index {
			t.Errorf("replaced: %+v, %v", got, err)
		}
	}
	m.Uproot(all[1])
	if got := publishtest.MustHeal(t, m, all[1]); len(got[0].Stale) != 0 {
		t.Errorf("gone: %+v", got)
	}
}

func isTarball(name string) bool { return strings.HasSuffix(name, ".spack") }

// An index that cannot be read is made anew, and one of a newer version is left alone.
func TestHealOfAnIndexThatCannotBeRead(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.Planted(t, l+"-signed")
		m.Plant(publishtest.PointerOf(l), []byte("{"))
		got := publishtest.MustHeal(t, m, publishtest.SubjectOf(t, m).Find("munge"))
		if !got[0].Changed || len(got[0].Findings) != 1 || !strings.Contains(got[0].Findings[0].Reason, "it is rebuilt") {
			t.Errorf("%s: %+v", l, got)
		}
		publishtest.WantIndex(t, m.Snapshot(), l, publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original(l+"-signed")), l))

		publishtest.PlantNewer(t, m, l)
		before := m.Snapshot()
		_, err := reindex.Heal(t.Context(), m, buildcache.Trust{}, reindex.Changes{Names: []string{publishtest.SubjectOf(t, m).Find("munge")}})
		publishtest.WantNewer(t, err)
		if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
			t.Errorf("%s: it was changed:\n%s", l, diff)
		}
	}
}

// Many who heal at once, told of overlapping parts, lose nothing.
func TestManyHealAtOnce(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		m := publishtest.EmptyMirror(t)
		s := pushed(t, fixture)
		plantAll(m, s)
		var told []string
		for _, name := range publishtest.NamesOf(s) {
			if _, ok := layout.Fixed(name); ok {
				told = append(told, name)
			}
		}
		var all sync.WaitGroup
		for i := range told {
			all.Go(func() {
				if _, err := reindex.Heal(t.Context(), m, buildcache.Trust{}, reindex.Changes{Names: []string{told[i], told[(i+1)%len(told)]}}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		wantSpacks(t, m.Snapshot(), fixture)
	}
}

// In a large mirror, healing costs what was touched: nothing is listed but its directories.
func TestHealingFewListsLittle(t *testing.T) {
	const many = 20_000
	m := publishtest.EmptyMirror(t)
	publishtest.PlantMany(t, m, many)
	s := pushed(t, "v3-unsigned")
	plantAll(m, s)
	touched := []string{publishtest.SubjectOf(t, m).Find("zlib"), publishtest.SubjectOf(t, m).Find("hwloc")}
	c := publishtest.NewCounting(m)
	m.Forget()
	got := publishtest.MustHeal(t, c, touched...)
	if c.Listed.Load() > many/100 || len(m.Calls()) > 30 {
		t.Errorf("%d names were listed of %d, in %v", c.Listed.Load(), 2*many, m.Calls())
	}
	if got[0].After != many+len(got[0].Indexed) || len(got[0].Indexed) < 2 {
		t.Errorf("healed: %+v", got)
	}
	m.Forget()
	publishtest.MustHeal(t, m, touched...)
	for _, call := range m.Calls() {
		if call.Op != mirrortest.List && call.Name != layout.V3Index {
			t.Errorf("the second time: %s", call)
		}
	}
}

// Names that are not fixed say nothing, and nobody is asked about them.
func TestHealOfNothing(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	if got := publishtest.MustHeal(t, m, "slurm.tar.gz", layout.V3Layout, layout.V3Blob(blob.DigestOf(nil))); len(got) != 0 || len(m.Calls()) != 0 {
		t.Errorf("healed: %v, by %v", got, m.Calls())
	}
}

// What cannot be asked is an error, so that whoever was told tells again.
func TestHealFailsWhereTheMirrorCannotBeAsked(t *testing.T) {
	m := publishtest.Planted(t, "v3-signed")
	for _, fault := range []mirrortest.Fault{
		mirrortest.Fail(layout.V3Index, mirrortest.Refusals[1]), mirrortest.On(mirrortest.List, mirrortest.Fail("", mirrortest.Refusals[1])),
	} {
		_, err := reindex.Heal(t.Context(), mirrortest.Break(m, fault), buildcache.Trust{}, reindex.Changes{Names: []string{publishtest.SubjectOf(t, m).Find("munge")}})
		if !errors.Is(err, mirror.ErrDenied) || !strings.HasPrefix(err.Error(), "v3 index: ") {
			t.Errorf("error is %v", err)
		}
	}
}
