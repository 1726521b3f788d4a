package views_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/lockfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
	"github.com/vantagecompute/slurm-factory-publish/publish/views"
)

// full is a mirror with all packages of a fixture, published by us.
func full(t testing.TB, fixture string) *mirrortest.Mem {
	t.Helper()
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original(fixture), publish.Options{})
	return m
}

func packages(t testing.TB, queries ...string) (w closure.Want) {
	t.Helper()
	for _, text := range queries {
		q, err := query.Parse(text)
		publishtest.Must(t, err)
		w.Packages = append(w.Packages, q)
	}
	return w
}

func lock(t testing.TB) (w closure.Want) {
	t.Helper()
	return locked(t, publishtest.MustRead(t, "../lockfile/testdata/v6.lock"))
}

func locked(t testing.TB, text []byte) (w closure.Want) {
	t.Helper()
	l, err := lockfile.Parse(text)
	publishtest.Must(t, err)
	w.Locks = append(w.Locks, l)
	return w
}

// change plans and applies a change.
func change(t testing.TB, s mirror.Store, c views.Change) (*views.Plan, error) {
	t.Helper()
	p, err := views.NewPlan(t.Context(), s, c)
	if err != nil {
		return nil, err
	}
	out, err := p.Apply(t.Context(), s)
	if err == nil && (out.Before != p.Before || out.After != p.After || out.Written != p.Changes) {
		t.Errorf("planned %d to %d packages, changes %t; done %d to %d, written %t", p.Before, p.After, p.Changes, out.Before, out.After, out.Written)
	}
	return p, err
}

func must(t testing.TB, s mirror.Store, c views.Change) *views.Plan {
	t.Helper()
	p, err := change(t, s, c)
	publishtest.Must(t, err)
	return p
}

// A removal that is repeated is nothing the second time, as any change.
func TestWhatWasRemovedIsNotThere(t *testing.T) {
	m := full(t, "v3-signed")
	must(t, m, views.Change{View: "site", Act: views.Set, Want: packages(t, "munge", "hwloc")})
	for i := range 2 {
		m.Forget()
		p := must(t, m, views.Change{View: "site", Act: views.Remove, Want: packages(t, "hwloc")})
		if p.Changes != (i == 0) || p.Changes != (len(m.Mutations()) > 0) {
			t.Errorf("removal %d: changes %v, %v", i+1, p.Changes, m.Mutations())
		}
	}
}

// offers returns the names of the packages that a view offers.
func offers(t testing.TB, m *mirrortest.Mem, view string) []string {
	t.Helper()
	l, _ := buildcache.V3.View(view)
	p, err := l.ReadPointer(t.Context(), m)
	publishtest.Must(t, err)
	x, err := l.ReadIndex(t.Context(), m, p)
	publishtest.Must(t, err)
	var names []string
	for e := range x.Records() {
		if e.InBuildcache {
			names = append(names, e.Name)
		}
	}
	slices.Sort(names)
	return names
}

// turned is how often the pointer of a view was replaced.
func turned(b *mirrortest.Broken, view string) (n int) {
	for _, c := range b.Mutations() {
		if c.Name == layout.V3View(view) {
			n++
		}
	}
	return n
}

var ofMunge = []string{"compiler-wrapper", "gcc", "gcc-runtime", "munge", "openssl", "zlib"}

// A view offers what was selected and what that depends on, build dependencies included, as far as the mirror holds it. A
// change that changes nothing writes nothing, and each leaves a mirror in which nothing is wrong.
func TestAViewOffersWhatWasAskedFor(t *testing.T) {
	m := full(t, "v3-signed")
	for _, step := range []struct {
		name   string
		change views.Change
		want   []string
	}{
		{"set", views.Change{View: "site", Act: views.Set, Want: packages(t, "munge")}, ofMunge},
		{"a lock file", views.Change{View: "locked", Act: views.Set, Want: lock(t)}, ofMunge},
		{"add", views.Change{View: "site", Act: views.Add, Want: packages(t, "libevent")}, append([]string{"libevent"}, ofMunge...)},
		{"add to nothing", views.Change{View: "new/one", Act: views.Add, Want: packages(t, "gcc-runtime")}, []string{"gcc", "gcc-runtime"}},
		{"remove", views.Change{View: "site", Act: views.Remove, Want: packages(t, "libevent")}, ofMunge},
		{"remove what only builds need", views.Change{View: "site", Act: views.Remove, Want: packages(t, "gcc", "compiler-wrapper")}, []string{"gcc-runtime", "munge", "openssl", "zlib"}},
		{"alias", views.Change{View: "current", Act: views.Set, From: "locked"}, ofMunge},
		{"alias moves", views.Change{View: "current", Act: views.Set, From: "new/one"}, []string{"gcc", "gcc-runtime"}},
		{"empty", views.Change{View: "site", Act: views.Set}, nil},
	} {
		t.Run(step.name, func(t *testing.T) {
			b := mirrortest.Break(m)
			must(t, b, step.change)
			want := slices.Clone(step.want)
			slices.Sort(want)
			if diff := cmp.Diff(want, offers(t, m, step.change.View)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := turned(b, step.change.View); n != 1 {
				t.Errorf("the pointer was replaced %d times", n)
			}
			if v := publishtest.MustVerify(t, m, verify.Options{Views: []string{step.change.View}}); v.Damaged() || len(publishtest.Warnings(v.Findings, "")) > 0 {
				t.Errorf("%v", v.Findings)
			}
			if step.change.Act == views.Remove {
				return // which finds nothing the second time
			}
			m.Forget()
			if p := must(t, m, step.change); p.Changes || len(m.Mutations()) > 0 {
				t.Errorf("the second time: %v", m.Mutations())
			}
		})
	}
}

// What is asked for and cannot be is refused, with nothing written.
func TestChangesOfViewsThatAreRefused(t *testing.T) {
	m := full(t, "v3-signed")
	must(t, m, views.Change{View: "site", Act: views.Set, Want: packages(t, "munge")})
	m.Plant(layout.V3View("broken"), []byte("{}"))
	m.Forget()
	old := full(t, "v2-signed")
	for _, row := range []struct {
		change views.Change
		is     error
		says   string
	}{
		{views.Change{View: "../site", Act: views.Set}, nil, "name of a view"},
		{views.Change{View: "x", Act: views.Set, From: "a b"}, nil, "name of a view"},
		{views.Change{View: "x", Act: views.Set, From: "gone"}, views.ErrNoView, "gone"},
		{views.Change{View: "x", Act: views.Set, Want: packages(t, "munge", "mungee")}, views.ErrNothing, "mungee"},
		{views.Change{View: "site", Act: views.Remove, Want: packages(t, "mungee")}, views.ErrNothing, "mungee"},
		{views.Change{View: "site", Act: views.Remove, Want: packages(t, "zlib")}, views.ErrNeeded, "munge@0.5.16"},
		{views.Change{View: "gone", Act: views.Remove, Want: packages(t, "zlib")}, views.ErrNoView, "gone"},
		{views.Change{View: "broken", Act: views.Add, Want: packages(t, "zlib")}, nil, "publish view set"},
		{views.Change{View: "x", Act: views.Set, From: "broken"}, nil, "broken"},
	} {
		_, err := change(t, m, row.change)
		if err == nil || row.is != nil && !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%+v: %v", row.change, err)
		}
	}
	if _, err := change(t, old, views.Change{View: "site", Act: views.Set, Want: packages(t, "munge")}); !errors.Is(err, views.ErrLayout) {
		t.Errorf("layout v2: %v", err)
	}
	if _, err := change(t, publishtest.EmptyMirror(t), views.Change{View: "site", Act: views.Set}); !errors.Is(err, buildcache.ErrNoMirror) {
		t.Errorf("no mirror: %v", err)
	}
	if len(m.Mutations()) > 0 {
		t.Errorf("written: %v", m.Mutations())
	}
	must(t, m, views.Change{View: "broken", Act: views.Set, Want: packages(t, "zlib")}) // which is how it is mended
}

// A view never offers what is not there, whatever the index says, and offers what was pushed without an index.
func TestAViewOffersOnlyWhatIsThere(t *testing.T) {
	m := full(t, "v3-signed")
	publishtest.SubjectOf(t, m).Uproot(publishtest.SubjectOf(t, m).Find("openssl"))
	p := must(t, m, views.Change{View: "site", Act: views.Set, Want: packages(t, "munge")})
	if slices.Contains(offers(t, m, "site"), "openssl") || len(p.Findings) != 1 || !strings.Contains(p.Findings[0].Reason, "not there") {
		t.Errorf("%v, %v", offers(t, m, "site"), p.Findings)
	}
	m = full(t, "v3-signed")
	publishtest.SubjectOf(t, m).Reindex(layout.V3Index, func(in publishtest.Installs) {
		_, r := in.Of("munge")
		r["in_buildcache"] = false
	})
	must(t, m, views.Change{View: "site", Act: views.Set, Want: lock(t)})
	if !slices.Contains(offers(t, m, "site"), "munge") {
		t.Errorf("%v", offers(t, m, "site"))
	}
}

// A lock file of which the mirror lacks a root, or without packages, changes no view: it never empties one. What a root needs may be elsewhere.
func TestALockFileThatTheMirrorDoesNotHold(t *testing.T) {
	const ghost, other = "gggggggggggggggggggggggggggggggg", "oooooooooooooooooooooooooooooooo"
	of := func(roots, specs string) closure.Want {
		return locked(t, []byte(`{"_meta":{"file-type":"spack-lockfile","lockfile-version":6},"roots":[`+roots+`],"concrete_specs":{`+specs+`}}`))
	}
	node := func(hash, name, needs string) string {
		if needs != "" {
			needs = `,"dependencies":[{"name":"x","hash":"` + needs + `","parameters":{"deptypes":["link"]}}]`
		}
		return `"` + hash + `":{"name":"` + name + `","version":"1","hash":"` + hash + `"` + needs + `}`
	}
	root := func(hash string) string { return `{"hash":"` + hash + `","spec":"x"}` }
	m := full(t, "v3-signed")
	must(t, m, views.Change{View: "site", Act: views.Set, Want: packages(t, "munge")})
	id, _ := layout.ParseV3Spec(publishtest.SubjectOf(t, m).Find("munge"))
	munge := string(id.Hash)
	m.Forget()
	absent := of(root(ghost), node(ghost, "ghost", ""))
	half := of(root(ghost)+","+root(munge), node(ghost, "ghost", "")+","+node(munge, "munge", ""))
	empty := of("", "")
	for _, row := range []struct {
		act  views.Act
		want closure.Want
		is   error
		says string
	}{
		{views.Set, absent, views.ErrLacking, "ghost@1/ggggggg"}, {views.Add, absent, views.ErrLacking, "ghost@1/ggggggg"}, {views.Remove, absent, views.ErrNothing, "lock file"},
		{views.Set, half, views.ErrLacking, "ghost@1/ggggggg"}, {views.Add, half, views.ErrLacking, "ghost@1/ggggggg"},
		{views.Set, empty, views.ErrNothing, "lock file"}, {views.Add, empty, views.ErrNothing, "lock file"}, {views.Remove, empty, views.ErrNothing, "lock file"},
	} {
		if _, err := change(t, m, views.Change{View: "site", Act: row.act, Want: row.want}); !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want %v", row.act, err, row.is)
		}
	}
	if len(m.Mutations()) > 0 {
		t.Errorf("written: %v", m.Mutations())
	}
	p := must(t, m, views.Change{View: "other", Act: views.Set, Want: of(root(munge), node(munge, "munge", other)+","+node(other, "elsewhere", ""))})
	if !slices.Contains(offers(t, m, "other"), "munge") || len(p.Findings) != 1 || !strings.Contains(p.Findings[0].Reason, "elsewhere@1") {
		t.Errorf("%v, %v", offers(t, m, "other"), p.Findings)
	}
	must(t, m, views.Change{View: "site", Act: views.Remove, Want: half})
	if slices.Contains(offers(t, m, "site"), "munge") {
		t.Error("munge is still offered")
	}
}

// A view does not come to offer what is about to be deleted. Taking packages out needs no wait.
func TestAViewIsNotExtendedBesideAPrune(t *testing.T) {
	m := full(t, "v3-signed")
	must(t, m, views.Change{View: "site", Act: views.Set, Want: packages(t, "munge")})
	_, err := notice.Give(t.Context(), m, "run", time.Second, false)
	publishtest.Must(t, err)
	if _, err := change(t, m, views.Change{View: "site", Act: views.Add, Want: packages(t, "slurm")}); !errors.Is(err, notice.ErrAtWork) {
		t.Errorf("add: %v", err)
	}
	must(t, m, views.Change{View: "site", Act: views.Remove, Want: packages(t, "munge")})
	if slices.Contains(offers(t, m, "site"), "munge") {
		t.Error("munge is still offered")
	}
}

// Writers of one view at once lose nothing: what each has added is in the view.
func TestWritersOfOneViewLoseNothing(t *testing.T) {
	m := full(t, "v3-signed")
	adds := []string{"zlib", "munge", "openssl", "hwloc", "libevent", "pmix", "gcc", "gcc-runtime"}
	var g sync.WaitGroup
	for i := range 48 {
		g.Go(func() {
			p, err := views.NewPlan(t.Context(), m, views.Change{View: "site", Act: views.Add, Want: packages(t, adds[i%len(adds)])})
			if err == nil {
				_, err = p.Apply(t.Context(), m)
			}
			if err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	g.Wait()
	alone := full(t, "v3-signed")
	must(t, alone, views.Change{View: "site", Act: views.Set, Want: packages(t, adds...)})
	if diff := cmp.Diff(offers(t, alone, "site"), offers(t, m, "site")); diff != "" {
		t.Errorf("(-one writer +48):\n%s", diff)
	}
}

// Whatever fails at whatever call of a change: clients of the view find the old one or the new one, and the next run makes
// what an undisturbed one does.
func TestEveryFaultAtEveryCallOfAChange(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 5
	}
	for name, c := range map[string]views.Change{
		"set":    {View: "site", Act: views.Set, Want: packages(t, "slurm")},
		"add":    {View: "site", Act: views.Add, Want: packages(t, "hwloc")},
		"remove": {View: "site", Act: views.Remove, Want: packages(t, "munge")},
		"alias":  {View: "site", Act: views.Set, From: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scene := func() *mirrortest.Mem {
				m := full(t, "v3-signed")
				must(t, m, views.Change{View: "site", Act: views.Set, Want: packages(t, "munge")})
				must(t, m, views.Change{View: "other", Act: views.Set, Want: packages(t, "zlib")})
				return m
			}
			m := scene()
			before := fmt.Sprint(offers(t, m, "site"))
			b := mirrortest.Break(m)
			must(t, b, c)
			calls, after, want := len(b.Calls()), fmt.Sprint(offers(t, m, "site")), publishtest.Settled(t, m.Snapshot())
			for fault, f := range map[string]func(k int) mirrortest.Fault{
				"lost":     func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Drop("")) },
				"lied":     func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Lie("")) },
				"too late": func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Conflict("")) },
				"denied":   func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Fail("", mirrortest.Refusals[1])) },
				"cut":      func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Cut("", 1)) },
				"killed":   mirrortest.Kill,
			} {
				for k := 1; k <= calls && !t.Failed(); k += step {
					m := scene()
					b := mirrortest.Break(m, f(k))
					p, err := views.NewPlan(t.Context(), b, c)
					if err == nil {
						_, err = p.Apply(t.Context(), b)
					}
					is := fmt.Sprint(offers(t, m, "site"))
					if is != before && is != after || err == nil && is != after {
						t.Errorf("%s at call %d: %v, clients see %s", fault, k, err, is)
					}
					if c.Act == views.Remove && is == after {
						continue
					}
					must(t, m, c)
					if diff := mirrortest.Diff(want, publishtest.Settled(t, m.Snapshot())); diff != "" {
						t.Errorf("%s at call %d, after the second run:\n%s", fault, k, diff)
					}
				}
			}
		})
	}
}

// What the index offers is read before a view offers it: a document that is of no use, or is that of another package, is left out by its name.
func TestADocumentThatIsOfNoUseGetsIntoNoView(t *testing.T) {
	for what, content := range map[string]func(m *mirrortest.Mem) []byte{
		"garbage": func(*mirrortest.Mem) []byte { return []byte("garbage") },
		"another package": func(m *mirrortest.Mem) []byte {
			return m.Snapshot()[publishtest.SubjectOf(t, m).Find("zlib")]
		},
	} {
		for _, act := range []views.Act{views.Set, views.Add} {
			m := full(t, "v3-signed")
			name := publishtest.SubjectOf(t, m).Find("munge")
			bad := content(m)
			m.Uproot(name)
			m.Plant(name, bad)
			p := must(t, m, views.Change{View: "site", Act: act, Want: packages(t, "slurm")})
			if got := offers(t, m, "site"); slices.Contains(got, "munge") || !slices.Contains(got, "slurm") {
				t.Errorf("%s, %s: %v", what, act, got)
			}
			if len(p.Findings) != 1 || p.Findings[0].File != name || !strings.HasPrefix(p.Findings[0].Reason, "it is left out: ") {
				t.Errorf("%s, %s: %v", what, act, p.Findings)
			}
		}
	}
}

// What was asked for by name is in the view afterwards, or the change is refused and nothing is written. A package that only another one depends on is
// left out with a warning.
func TestAPackageThatWasNamedIsNotLeftOut(t *testing.T) {
	for what, damage := range map[string]func(s publishtest.Subject, name string){
		"garbage":      func(s publishtest.Subject, name string) { s.Uproot(name); s.Plant(name, []byte("garbage")) },
		"gone":         func(s publishtest.Subject, name string) { s.Uproot(name) },
		"without spec": func(s publishtest.Subject, name string) { s.Uproot(s.Blob(name, manifest.Spec)) },
		"no tarball":   func(s publishtest.Subject, name string) { s.Uproot(s.Blob(name, manifest.Tarball)) },
	} {
		m := full(t, "v3-signed")
		damage(publishtest.SubjectOf(t, m), publishtest.SubjectOf(t, m).Find("openssl"))
		m.Forget()
		for _, act := range []views.Act{views.Set, views.Add} {
			for by, want := range map[string]closure.Want{"a query": packages(t, "zlib", "openssl"), "a lock file": lock(t)} {
				_, err := change(t, m, views.Change{View: "site", Act: act, Want: want})
				if !errors.Is(err, views.ErrLacking) || !strings.Contains(err.Error(), "openssl@3.4.1/dcel5br: ") {
					t.Errorf("%s, %s by %s: %v", what, act, by, err)
				}
			}
		}
		if len(m.Mutations()) > 0 {
			t.Errorf("%s: written: %v", what, m.Mutations())
		}
		p := must(t, m, views.Change{View: "site", Act: views.Set, Want: packages(t, "munge")})
		if got := offers(t, m, "site"); slices.Contains(got, "openssl") || !slices.Contains(got, "munge") || len(p.Findings) != 1 {
			t.Errorf("%s: %v, %v", what, got, p.Findings)
		}
	}
}

// Whatever is wrong with a view: verify says that it is to be set again, which mends it, and a publish into it is refused.
func TestADamagedViewIsSetAgain(t *testing.T) {
	name := layout.V3View("site")
	for what, damage := range map[string]func(s publishtest.Subject){
		"no manifest":     func(s publishtest.Subject) { s.Plant(name, []byte("{")) },
		"an old manifest": func(s publishtest.Subject) { s.Plant(name, []byte(`{"version":2,"data":[]}`)) },
		"its blob is gone": func(s publishtest.Subject) {
			s.Uproot(s.Blob(name, manifest.Index))
		},
		"its blob is another": func(s publishtest.Subject) { s.Flip(s.Blob(name, manifest.Index)) },
		"a record is gone": func(s publishtest.Subject) {
			s.Reindex(name, func(in publishtest.Installs) {
				h, _ := in.Of("openssl")
				delete(in, h)
			})
		},
	} {
		m := full(t, "v3-signed")
		c := views.Change{View: "site", Act: views.Set, Want: packages(t, "munge")}
		must(t, m, c)
		damage(publishtest.SubjectOf(t, m))
		v := publishtest.MustVerify(t, m, verify.Options{})
		if !v.Damaged() || !slices.Equal(v.Repair.Views, []string{"site"}) || v.Repair.Index {
			t.Errorf("%s: %+v, %v", what, v.Repair, v.Findings)
		}
		m.Forget()
		_, err := publishtest.PublishTo(t, m, publishtest.Original("v3-signed"), publish.Options{Views: []string{"site"}})
		if err == nil || strings.Count(err.Error(), "the view site is damaged") != 1 || !strings.Contains(err.Error(), "publish view set") || len(m.Mutations()) > 0 {
			t.Errorf("%s: publish: %v, %v", what, err, m.Mutations())
		}
		for _, name := range v.Repair.Remove {
			publishtest.SubjectOf(t, m).Uproot(name)
		}
		must(t, m, c)
		if v := publishtest.MustVerify(t, m, verify.Options{Deep: true}); len(v.Findings) > 0 {
			t.Errorf("%s: %v", what, v.Findings)
		}
	}
}

// A view of a newer version is left as it is, by every change and by a publish, and is no reason to make anything again.
func TestAViewOfANewerVersion(t *testing.T) {
	name := layout.V3View("site")
	for what, plant := range map[string]func(s publishtest.Subject){
		"of the manifest": func(s publishtest.Subject) { s.Plant(name, []byte(`{"version":4,"data":[]}`)) },
		"of the index": func(s publishtest.Subject) {
			s.Point(name, manifest.IndexType(index.V8), []byte(`{"database":{"version":"99","installs":{}}}`))
		},
	} {
		m := full(t, "v3-signed")
		plant(publishtest.SubjectOf(t, m))
		m.Forget()
		for _, c := range []views.Change{
			{View: "site", Act: views.Set}, {View: "site", Act: views.Set, Want: packages(t, "zlib")}, {View: "other", Act: views.Set, From: "site"},
			{View: "site", Act: views.Add, Want: packages(t, "zlib")}, {View: "site", Act: views.Remove, Want: packages(t, "zlib")},
		} {
			_, err := change(t, m, c)
			publishtest.WantNewer(t, err)
		}
		_, err := publishtest.PublishTo(t, m, publishtest.Original("v3-signed"), publish.Options{Views: []string{"site"}})
		publishtest.WantNewer(t, err)
		if len(m.Mutations()) > 0 {
			t.Errorf("%s: written: %v", what, m.Mutations())
		}
		v := publishtest.MustVerify(t, m, verify.Options{})
		if v.Repair.Needed() || !slices.ContainsFunc(v.Findings, func(f buildcache.Finding) bool {
			return f.File == name && strings.Contains(f.Reason, "update this program")
		}) {
			t.Errorf("%s: %+v, %v", what, v.Repair, v.Findings)
		}
		m.Plant(layout.V3Index, []byte("{")) // which the view does not keep from being made again
		if v := publishtest.MustVerify(t, m, verify.Options{}); !v.Repair.Index {
			t.Errorf("%s: %+v", what, v.Repair)
		}
		m.Plant(layout.V3Index, []byte(`{"version":4,"data":[]}`)) // the same of the whole mirror
		_, err = publishtest.PublishTo(t, m, publishtest.Original("v3-signed"), publish.Options{})
		publishtest.WantNewer(t, err)
	}
}
