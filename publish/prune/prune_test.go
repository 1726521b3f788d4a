package prune

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// silent is a Progress that nobody watches.
type silent struct{}

func (silent) Step(string)                               {}
func (silent) Wait(time.Time, string)                    {}
func (silent) Deleted(int, int64)                        {}
func (silent) Withdrawn(context.Context, []string) error { return nil }

const day = 24 * time.Hour

// careful are the options of a prune beside others.
func careful(k Keep) Options {
	return Options{Keep: k, MinAge: day, Grace: 15 * time.Minute, Settle: 30 * time.Second}
}

// aged is a mirror that was written a month ago.
func aged(t testing.TB, fixtures ...string) *mirrortest.Mem {
	t.Helper()
	m := publishtest.Planted(t, fixtures...)
	time.Sleep(30 * day)
	return m
}

func mustPlan(t testing.TB, m Store, o Options) *Plan {
	t.Helper()
	p, err := New(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustPrune(t testing.TB, m *mirrortest.Mem, o Options) *Outcome {
	t.Helper()
	out, err := mustPlan(t, m, o).Apply(t.Context(), m, m, silent{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// hashes are those of packages of the fixtures.
func hashes(names ...string) map[spec.Hash]bool {
	all := make(map[spec.Hash]bool)
	for _, n := range names {
		all[known[n]] = true
	}
	return all
}

var known = map[string]spec.Hash{
	"munge": "7mkbpyyr2uyfmpq6apumjyhzljbzlcr5", "openssl": "dcel5brkcgunazoohxv7vevwd4gsynxe", "zlib": "hyibvwkwwrofa62pgbz2cra6xzfh7vst",
	"slurm": "uba5li5itxssmxbzougmbm23zvp2u6u5", "gcc": "fncqki5vh7avfij6qyziirfutkohx6du",
}

// packagesOf are the names of the packages that have documents, each once.
func packagesOf(s map[string][]byte) []string {
	names := make(map[string]bool)
	for name := range s {
		if id, ok := layout.ParseV3Spec(name); ok {
			names[id.Package] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// wantWhole makes sure that a client finds all that the mirror offers, and that it offers all that it has.
func wantWhole(t testing.TB, m *mirrortest.Mem) {
	t.Helper()
	s := m.Snapshot()
	if err := publishtest.NewReader().Look(s); err != nil {
		t.Error(err)
	}
	for _, l := range []string{"v3", "v2"} {
		offered := publishtest.IndexOf(t, s, l).Offered()
		documents := 0
		for name := range s {
			_, v3 := layout.ParseV3Spec(name)
			_, v2 := layout.ParseV2Spec(name)
			if l == "v3" && v3 || l == "v2" && v2 {
				documents++
			}
		}
		if len(offered) != documents {
			t.Errorf("%s offers %d packages and has %d documents", l, len(offered), documents)
		}
	}
	for name := range s {
		if strings.HasPrefix(name, ".publishers/") {
			t.Errorf("%s is left", name)
		}
	}
}

// What a rule keeps stays with all that it depends on, and everything else goes, with what only it points at.
func TestTheClosureOfWhatIsKeptStays(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v3-unsigned", "v2-signed", "v2-unsigned"} {
		t.Run(fixture, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := aged(t, fixture)
				l := publishtest.LayoutOf(fixture)
				all := publishtest.IndexOf(t, m.Snapshot(), l)
				root := spec.Hash("")
				for h, r := range all {
					if r.Spec["name"] == "munge" {
						root = h
					}
				}
				mustPrune(t, m, careful(Keep{Hashes: map[spec.Hash]bool{root: true}, Views: true}))
				wantWhole(t, m)
				left := publishtest.IndexOf(t, m.Snapshot(), l)
				if _, ok := left[root]; !ok || len(left) >= len(all) {
					t.Errorf("%d of %d packages are left", len(left), len(all))
				}
				for h, r := range left {
					if r.Spec["name"] == "slurm" {
						t.Errorf("slurm/%s is left", h)
					}
					deps, _ := r.Spec["dependencies"].([]any)
					for _, d := range deps {
						dep := spec.Hash(d.(map[string]any)["hash"].(string))
						if _, ok := left[dep]; !ok {
							t.Errorf("%v needs /%s, which has no record", r.Spec["name"], dep)
						}
						if all[dep].InBuildcache && !left[dep].InBuildcache {
							t.Errorf("%v needs /%s, which is offered no more", r.Spec["name"], dep)
						}
					}
				}
				if p := mustPlan(t, m, careful(Keep{Hashes: map[spec.Hash]bool{root: true}, Views: true})); len(p.Layouts[0].Removed()) > 0 {
					t.Errorf("a second prune would remove %v", p.Layouts[0].Removed())
				}
			})
		})
	}
}

// Without a rule only what nothing leads to goes: here the superseded indices.
func TestWithoutARuleNoPackageGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := publishtest.EmptyMirror(t)
		for _, pkg := range []string{"zlib", "openssl", "munge"} {
			publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only(pkg))
			time.Sleep(time.Minute)
		}
		before := m.Snapshot()
		time.Sleep(2 * day)
		out := mustPrune(t, m, careful(Keep{}))
		wantWhole(t, m)
		if out.Deleted.Objects == 0 {
			t.Error("no superseded index was deleted")
		}
		if diff := cmp.Diff(packagesOf(before), packagesOf(m.Snapshot())); diff != "" {
			t.Errorf("packages (-before +after):\n%s", diff)
		}
		m.Forget()
		if out := mustPrune(t, m, careful(Keep{})); out.Deleted.Objects != 0 || len(m.Mutations()) != 0 {
			t.Errorf("the second prune deletes %d objects: %v", out.Deleted.Objects, m.Mutations())
		}
	})
}

// Objects that a prune does not know are left alone, wherever they are.
func TestUnknownObjectsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mirrortest.NewMem(t, mirrortest.WriteOnce)
		if err := m.PlantFS(publishtestFS("v3-unsigned")); err != nil {
			t.Fatal(err)
		}
		strange := []string{
			"index.html", "catalog/index.html", "notes.json", "_publish/x.json", ".history/v3/_/0000000001-a.json", ".promotions/0123456789abcdef0123456789abcdef.json",
			"blobs/sha256/notes.json", "blobs/sha256/00/short", "blobs/other/x", "blobs-x/y", "blobs/sha256/ab/" + strings.Repeat("A", 64),
			"v3/history.json", "v3/manifests/spec/notes.json", "v3/manifests/spec/zlib/readme", "v3/manifests/index/index.history.json",
			"build_cache/x.tar", "build_cache/linux/gcc/p/name.spack", "spack.yaml", ".publish/a", "other/blobs/sha256/ab/" + strings.Repeat("a", 64),
			"blobs/sha256/cd/ab" + strings.Repeat("a", 62), // in the wrong directory
		}
		for _, name := range strange {
			m.Plant(name, []byte("mine"))
		}
		time.Sleep(400 * day)
		mustPrune(t, m, careful(Keep{Versions: 1, Hashes: hashes("zlib")}))
		s := m.Snapshot()
		for _, name := range strange {
			if s[name] == nil {
				t.Errorf("%s is gone", name)
			}
		}
	})
}

// Where a document cannot be read, nothing that it may point at is deleted.
func TestWhatCannotBeReadProtectsAllContent(t *testing.T) {
	for name, text := range map[string]string{
		"v3/manifests/spec/zlib/zlib-9-" + strings.Repeat("a", 32) + ".spec.manifest.json": "{",
		"v3/manifests/other/new.manifest.json":                                             `{"version":4}`,
		"v3/manifests/index/site/index.manifest.json":                                      "no manifest",
		"v3/manifests/key/" + strings.Repeat("A", 40) + ".key.manifest.json":               "",
		"v3/manifests/spec/x/x-1-" + strings.Repeat("b", 32) + ".spec.manifest.json":       `{"version":3,"data":[{"contentLength":1,"mediaType":"a","compression":"none","checksumAlgorithm":"sha512","checksum":"00"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := aged(t, "v3-unsigned")
				m.Plant(name, []byte(text))
				orphan := plantOrphan(m, "orphan")
				time.Sleep(2 * day)
				p := mustPlan(t, m, careful(Keep{}))
				if p.Layouts[0].Content.Objects != 0 || !buildcache.Failed(p.Findings) {
					t.Errorf("%d blobs would go, %v", p.Layouts[0].Content.Objects, p.Findings)
				}
				if _, err := p.Apply(t.Context(), m, m, silent{}); err != nil {
					t.Fatal(err)
				}
				if m.Snapshot()[orphan] == nil {
					t.Error("the orphan was deleted")
				}
			})
		})
	}
}

// Where an index cannot be read, no package is deleted: it is not known what packages depend on.
func TestAnIndexThatCannotBeReadKeepsAllPackages(t *testing.T) {
	q, err := query.Parse("zlib")
	if err != nil {
		t.Fatal(err)
	}
	for what, damage := range map[string]func(*mirrortest.Mem){
		"the pointer is junk": func(m *mirrortest.Mem) { m.Plant(layout.V3Index, []byte("junk")) },
		"the index is gone":   func(m *mirrortest.Mem) { m.Uproot(publishtest.PointsAt(t, m.Snapshot(), layout.V3Index)[0]) },
		"the index is damaged": func(m *mirrortest.Mem) {
			m.Plant(publishtest.PointsAt(t, m.Snapshot(), layout.V3Index)[0], []byte("{}"))
		},
		"a newer Spack's index": func(m *mirrortest.Mem) {
			text := strings.ReplaceAll(string(m.Snapshot()[layout.V3Index]), "db.v8", "db.v99")
			m.Plant(layout.V3Index, []byte(text))
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := aged(t, "v3-unsigned")
				damage(m)
				before := packagesOf(m.Snapshot())
				for _, k := range []Keep{{Hashes: hashes("zlib")}, {Roots: []Root{{q, "zlib"}}}, {Newer: day}} {
					p := mustPlan(t, m, careful(k))
					if len(p.Layouts[0].Removed()) > 0 || !buildcache.Failed(p.Findings) {
						t.Errorf("%d packages would go, %v", len(p.Layouts[0].Removed()), p.Findings)
					}
					if _, err := p.Apply(t.Context(), m, m, silent{}); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(before, packagesOf(m.Snapshot())); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func plantOrphan(m *mirrortest.Mem, content string) string {
	name := layout.V3Blob(blob.DigestOf([]byte(content)))
	m.Plant(name, []byte(content))
	return name
}

// What is young stays, whatever the rules say.
func TestWhatIsYoungStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		old := plantOrphan(m, "old")
		time.Sleep(day)
		young := plantOrphan(m, "young")
		time.Sleep(day - 20*time.Minute)
		mustPrune(t, m, careful(Keep{}))
		s := m.Snapshot()
		if s[old] != nil || s[young] == nil {
			t.Errorf("old %t, young %t", s[old] != nil, s[young] != nil)
		}
	})
}

// Each rule keeps what it says.
func TestRulesOfKeeping(t *testing.T) {
	q, err := query.Parse("openssl")
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		keep Keep
		want string
	}{
		"newer":    {Keep{Newer: 60 * day}, "all"},
		"older":    {Keep{Newer: 3 * day}, ""},
		"versions": {Keep{Versions: 1}, "all"},
		"root":     {Keep{Roots: []Root{{q, "openssl"}}}, "compiler-wrapper gcc gcc-runtime openssl zlib"},
		"list":     {Keep{Hashes: hashes("zlib")}, "compiler-wrapper gcc gcc-runtime zlib"},
		"unknown":  {Keep{Hashes: map[spec.Hash]bool{spec.Hash(strings.Repeat("a", 32)): true}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := aged(t, "v3-unsigned")
				want := row.want
				if want == "all" {
					want = strings.Join(packagesOf(m.Snapshot()), " ")
				}
				o := careful(row.keep)
				o.AllowEmpty = true
				mustPrune(t, m, o)
				wantWhole(t, m)
				if got := strings.Join(packagesOf(m.Snapshot()), " "); got != want {
					t.Errorf("left: %s\nwant: %s", got, want)
				}
			})
		})
	}
}

// Rules that keep nothing are taken for a mistake.
func TestRulesThatKeepNothingAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		_, err := New(t.Context(), m, careful(Keep{Newer: day}))
		if empty := (*EmptyError)(nil); !errors.As(err, &empty) {
			t.Errorf("%v", err)
		}
	})
}

// A view keeps what it offers; without that rule it offers what is deleted no more.
func TestViewsKeepWhatTheyOffer(t *testing.T) {
	for _, keep := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m := aged(t, "v3-view")
			o := careful(Keep{Hashes: map[spec.Hash]bool{spec.Hash(strings.Repeat("a", 32)): true}, Views: keep})
			o.AllowEmpty = true
			mustPrune(t, m, o)
			s := m.Snapshot()
			if err := publishtest.NewReader().Look(s); err != nil {
				t.Error(err)
			}
			if got := len(packagesOf(s)); keep != (got > 0) {
				t.Errorf("keep views %t: %d packages are left", keep, got)
			}
			v := publishtest.MustVerify(t, m, verifyAll)
			for _, f := range v.Findings {
				if f.Severity == buildcache.Error {
					t.Errorf("keep views %t: %v", keep, f)
				}
			}
		})
	}
}

// A client that has read an index finds all that it names for as long as the grace period, whenever it has begun.
func TestAReaderOfAnOlderIndexMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		o := careful(Keep{Hashes: hashes("zlib")})
		p := mustPlan(t, m, o)
		type generation struct {
			until time.Time
			names []string
		}
		var read []generation
		watched := mirrortest.Break(m)
		watched.AfterEach(func(c mirrortest.Call) {
			s := m.Snapshot()
			read = slices.DeleteFunc(read, func(g generation) bool { return !time.Now().Before(g.until) })
			for _, g := range read {
				for _, name := range g.names {
					if s[name] == nil {
						t.Errorf("after %v, %s is gone, which a client needs until %v", c, name, g.until)
					}
				}
			}
			var names []string
			for h := range publishtest.IndexOf(t, s, "v3") {
				for name := range s {
					if id, ok := layout.ParseV3Spec(name); ok && id.Hash == h {
						names = append(append(names, name), publishtest.PointsAt(t, s, name)...)
					}
				}
			}
			read = append(read, generation{time.Now().Add(o.Grace), names})
		})
		if _, err := p.Apply(t.Context(), watched, watched, silent{}); err != nil {
			t.Fatal(err)
		}
		wantWhole(t, m)
	})
}

// A plan is a plan: making it changes nothing.
func TestAPlanOnlyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned", "v2-unsigned")
		m.Forget()
		o := careful(Keep{Hashes: hashes("zlib")})
		o.AllowEmpty = true // in layout v2
		p := mustPlan(t, m, o)
		if len(m.Mutations()) != 0 {
			t.Errorf("it made %v", m.Mutations())
		}
		objects, bytes := p.Objects()
		before := m.Snapshot()
		out, err := p.Apply(t.Context(), m, m, silent{})
		if err != nil {
			t.Fatal(err)
		}
		if out.Deleted.Objects != objects || out.Deleted.Bytes != bytes || out.Spared != 0 {
			t.Errorf("planned %d objects of %d bytes, done %+v", objects, bytes, out)
		}
		after := m.Snapshot()
		for name := range before {
			if after[name] == nil {
				objects--
			}
		}
		if objects != 0 {
			t.Errorf("%d objects more were planned than are gone", objects)
		}
	})
}

// An object that changes between the plan and its deletion stays.
func TestWhatHasChangedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-signed")
		p := mustPlan(t, m, careful(Keep{Hashes: hashes("zlib")}))
		var name string
		for _, n := range p.Layouts[0].Removed() {
			if strings.Contains(n, "/munge/") {
				name = n
			}
		}
		unsigned := publishtest.Planted(t, "v3-unsigned").Snapshot()[name]
		m.Plant(name, unsigned)
		points := publishtest.PointsAt(t, m.Snapshot(), name)
		if _, err := p.Apply(t.Context(), m, m, silent{}); err != nil {
			t.Fatal(err)
		}
		s := m.Snapshot()
		if s[name] == nil {
			t.Errorf("%s was deleted although it was replaced", name)
		}
		for _, n := range points {
			if s[n] == nil {
				t.Errorf("%s was deleted, at which %s points", n, name)
			}
		}
	})
}

var _ mirror.Store
