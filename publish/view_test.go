package publish_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"
)

// viewIn returns the names of the packages that a view offers, and its records.
func viewIn(t testing.TB, m *mirrortest.Mem, view string) (offered []string, records map[string]index.Entry) {
	t.Helper()
	l, _ := buildcache.V3.View(view)
	p, err := l.ReadPointer(t.Context(), m)
	publishtest.Must(t, err)
	if p.Version == mirror.Absent {
		t.Fatalf("there is no view %s", view)
	}
	x, err := l.ReadIndex(t.Context(), m, p)
	publishtest.Must(t, err)
	records = make(map[string]index.Entry)
	for e := range x.Records() {
		e.Node = slices.Clone(e.Node)
		publishtest.Must(t, e.Node.Canonicalize())
		records[string(e.Hash)] = e
		if e.InBuildcache {
			offered = append(offered, e.Name)
		}
	}
	slices.Sort(offered)
	return offered, records
}

func into(views ...string) publish.Options { return publish.Options{Views: views} }

func onlyInto(view string, packages ...string) publish.Options {
	o := publishtest.Only(packages...)
	o.Views = []string{view}
	return o
}

// A view gets what is published, and what that depends on as far as the mirror holds it. A second run writes nothing, and
// needs one request more than without a view.
func TestAViewGetsWhatIsPublishedAndWhatThatDependsOn(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publishtest.Only("zlib", "gcc-runtime", "hwloc"))
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), onlyInto("2026-11", "munge", "openssl"))
	offered, _ := viewIn(t, m, "2026-11")
	if diff := cmp.Diff([]string{"gcc-runtime", "munge", "openssl", "zlib"}, offered); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b := mirrortest.Break(m)
	publishtest.MustPublish(t, b, publishtest.Original("v3-signed"), publishtest.Only("munge", "openssl"))
	without := len(b.Calls())
	b = mirrortest.Break(m)
	publishtest.MustPublish(t, b, publishtest.Original("v3-signed"), onlyInto("2026-11", "munge", "openssl"))
	if len(b.Mutations()) > 0 || len(b.Calls()) != without+1 {
		t.Errorf("the second run: %d calls, %d without a view, %v", len(b.Calls()), without, b.Mutations())
	}
	if report := publishtest.MustVerify(t, m, verify.Options{}); report.Damaged() {
		t.Errorf("%v", report.Findings)
	}
}

// A view wants nothing that the mirror does not get: it offers what that holds of what was asked for, as the plan says.
func TestAViewGetsWhatTheMirrorHolds(t *testing.T) {
	without := func(packages ...string) []string {
		all := []string{"compiler-wrapper", "gcc", "gcc-runtime", "hwloc", "libevent", "munge", "openmpi", "openssl", "pmix", "slurm", "zlib"}
		return slices.DeleteFunc(all, func(name string) bool { return slices.Contains(packages, name) })
	}
	munge := func(t *testing.T, recipe string) string { // another build of it
		dir := publishtest.Copied(t, "v3-unsigned")
		publishtest.AddRecipe(t, dir, "munge", "class Munge(AutotoolsPackage):\n    "+recipe+"\n")
		return dir
	}
	for name, row := range map[string]struct {
		status publish.Status // of munge
		scene  func(t *testing.T, m *mirrortest.Mem, o *publish.Options) (dir string)
		want   []string
	}{
		"an upstream mirror has it": {publish.Upstream, func(t *testing.T, _ *mirrortest.Mem, o *publish.Options) string {
			upstream := publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, upstream, publishtest.Original("v3-unsigned"), publishtest.Only("gcc-runtime", "zlib", "munge"))
			o.Upstream = beside(t, upstream).Upstream
			return publishtest.Original("v3-unsigned")
		}, without("gcc-runtime", "zlib", "munge")},
		"an upstream mirror has it, and so has the mirror": {publish.Unchanged, func(t *testing.T, m *mirrortest.Mem, o *publish.Options) string {
			publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("gcc-runtime", "zlib", "munge"))
			o.Upstream = beside(t, m).Upstream
			return publishtest.Original("v3-unsigned")
		}, without()},
		"it goes elsewhere": {publish.Routed, func(t *testing.T, _ *mirrortest.Mem, o *publish.Options) string {
			o.Licences, o.Route = &licence.Rules{}, true
			return munge(t, "redistribute(source=False, binary=False)")
		}, without("munge", "openmpi", "slurm")},
		"it may not be published": {publish.Rejected, func(t *testing.T, _ *mirrortest.Mem, o *publish.Options) string {
			o.Licences, o.KeepGoing = &licence.Rules{}, true
			return munge(t, "redistribute(source=False, binary=False)")
		}, without("munge", "openmpi", "slurm")},
		"it is there with another content": {publish.Skipped, func(t *testing.T, m *mirrortest.Mem, _ *publish.Options) string {
			publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("munge"))
			return munge(t, `license("MIT")`)
		}, without()},
		"it was withdrawn, and pruned": {publish.Withdrawn, func(t *testing.T, m *mirrortest.Mem, _ *publish.Options) string {
			publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("munge"))
			munge := publishtest.SubjectOf(t, m)
			document := munge.Find("munge")
			content := munge.Blob(document, manifest.Tarball)
			id, _ := buildcache.V3.ParsePackageName(document)
			_, err := withdraw.Mirror{Layout: buildcache.V3, Store: m, Deleter: m}.Withdraw(t.Context(), []withdraw.Package{{Hash: id.Hash, Documents: []string{document}}}, "CVE-2026-1")
			publishtest.Must(t, err)
			info, err := m.Stat(t.Context(), content)
			publishtest.Must(t, err)
			publishtest.Must(t, m.Delete(t.Context(), content, info.Version))
			return publishtest.Original("v3-unsigned")
		}, without("munge")},
	} {
		t.Run(name, func(t *testing.T) {
			m, o := publishtest.EmptyMirror(t), into("site")
			dir := row.scene(t, m, &o)
			p := publishtest.MustPlan(t, m, dir, o)
			out, err := p.Apply(t.Context(), publishtest.Ignored{})
			if o.KeepGoing == (err == nil) || publishtest.Statuses(out)["munge"] != row.status {
				t.Errorf("munge %s: %v", publishtest.Statuses(out)["munge"], err)
			}
			offered, _ := viewIn(t, m, "site")
			if diff := cmp.Diff(row.want, offered); diff != "" {
				t.Errorf("the view (-want +got):\n%s", diff)
			}
			planned, got := p.Mirrors[0].Views[0].Index, out.Mirrors[0].Views[0].Index
			if planned.After != len(row.want) || got.After != len(row.want) {
				t.Errorf("planned %d, reported %d, want %d", planned.After, got.After, len(row.want))
			}
			for _, s := range out.Mirrors[0].Expectations() {
				index, err := s.Layout.ReadPointer(t.Context(), m)
				publishtest.Must(t, err)
				x, err := s.Layout.ReadIndex(t.Context(), m, index)
				publishtest.Must(t, err)
				for _, h := range s.Packages {
					if !x.Has(h) {
						t.Errorf("clients of the view %q are to see %s", s.Layout.ViewName(), h)
					}
				}
			}
			if report := publishtest.MustVerify(t, m, verify.Options{}); report.Damaged() {
				t.Errorf("%v", report.Findings)
			}
			m.Forget()
			_, _ = publishtest.PublishTo(t, m, dir, o)
			if len(m.Mutations()) > 0 {
				t.Errorf("the second run: %v", m.Mutations())
			}
		})
	}
}

// What a copy did not read, because the mirror offers it, is not stored when it is gone while the view is made.
func TestAViewOfWhatIsDeletedMeanwhile(t *testing.T) {
	from, to := publishtest.Planted(t, "v3-unsigned"), publishtest.EmptyMirror(t)
	mustCopy(t, from, to, closureOf(t, "munge"))
	p, err := planCopy(t.Context(), from, to, closureOf(t, "munge"), into("site"))
	publishtest.Must(t, err)
	info, err := to.Stat(t.Context(), publishtest.SubjectOf(t, to).Find("munge"))
	publishtest.Must(t, err)
	publishtest.Must(t, to.Delete(t.Context(), info.Name, info.Version))
	_, err = p.Apply(t.Context(), publishtest.Ignored{})
	if _, there := to.Snapshot()[info.Name]; there || err == nil || !strings.Contains(err.Error(), info.Name+" was deleted") {
		t.Errorf("it is there: %t, %v", there, err)
	}
}

// What the mirror lists and does not give is not left out of a view, which no later run would mend.
func TestAViewLacksNothingThatCouldNotBeRead(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	openssl := publishtest.SubjectOf(t, m)
	for _, name := range []string{openssl.Find("openssl"), openssl.Blob(openssl.Find("openssl"), manifest.Spec)} {
		m.Forget()
		gone := mirrortest.Break(m, mirrortest.Nth(1, mirrortest.Fail(name, mirror.ErrNotExist)))
		_, err := publishtest.PublishTo(t, gone, publishtest.Original("v3-signed"), onlyInto("site", "munge"))
		if !errors.Is(err, mirror.ErrNotExist) || !strings.Contains(err.Error(), "openssl") || len(m.Mutations()) > 0 {
			t.Errorf("%v, %v", err, m.Mutations())
		}
	}
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), onlyInto("site", "munge"))
	if offered, _ := viewIn(t, m, "site"); !slices.Contains(offered, "openssl") {
		t.Errorf("offered: %v", offered)
	}
}

// A package that was there already gets into a view without being sent again.
func TestAViewGetsWhatIsThereAlready(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	p := publishtest.MustPlan(t, m, publishtest.Original("v3-signed"), into("a/b", "c"))
	if !p.Changes() || len(p.Mirrors[0].Views) != 2 || !slices.Contains(p.Stale(), layout.V3View("a/b")) {
		t.Errorf("planned: %+v", p.Mirrors[0].Views)
	}
	stored := len(m.Stored())
	out := publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), into("a/b", "c"))
	for _, name := range m.Stored()[stored:] {
		if !strings.HasPrefix(name, layout.V3Indices) && !strings.HasPrefix(name, layout.V3Blobs) && !strings.HasPrefix(name, history.Dir) {
			t.Errorf("stored again: %s", name)
		}
	}
	for _, v := range out.Mirrors[0].Views {
		if v.Index.Before != 0 || v.Index.After != 11 || !v.Index.Written {
			t.Errorf("%+v", v)
		}
	}
	if !slices.Equal(out.Stale, []string{layout.V3View("a/b"), layout.V3View("c")}) {
		t.Errorf("stale: %v", out.Stale)
	}
}

// The views of a source are published with it, and are what Spack made there.
func TestViewsOfASourceArePublished(t *testing.T) {
	from := publishtest.Planted(t, "v3-view")
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-view"), publish.Options{})
	_, want := viewIn(t, from, "site/login")
	_, got := viewIn(t, m, "site/login")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-spack +ours):\n%s", diff)
	}
	m.Forget()
	publishtest.MustPublish(t, m, publishtest.Original("v3-view"), publish.Options{})
	if len(m.Mutations()) > 0 {
		t.Errorf("the second run: %v", m.Mutations())
	}
	// Of what is left out, a view has nothing.
	m = publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-view"), publishtest.Only("openssl", "zlib"))
	if offered, _ := viewIn(t, m, "site/login"); !slices.Equal(offered, []string{"openssl"}) {
		t.Errorf("offered: %v", offered)
	}
	o := beside(t, m) // and nothing of what an upstream mirror has
	m = publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-view"), o)
	if offered, _ := viewIn(t, m, "site/login"); slices.Contains(offered, "openssl") || len(offered) != 2 {
		t.Errorf("beside an upstream mirror: %v", offered)
	}
}

// Layout v2 has no views, so a publish into one is refused before anything is written.
func TestAViewOfLayoutV2IsRefused(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	out, err := publishtest.PublishTo(t, m, publishtest.Original("v2-signed"), into("site"))
	if err == nil || len(m.Snapshot()) > 0 {
		t.Errorf("%v, %d objects", err, len(m.Snapshot()))
	}
	if len(out.Findings) != 1 || !strings.Contains(out.Findings[0].Reason, "layout v2 has no views") {
		t.Errorf("%v", out.Findings)
	}
}

// A package whose content is bad is in no view, and no view names what depends on it.
func TestABadPackageIsInNoView(t *testing.T) {
	dir := publishtest.Copied(t, "v3-signed")
	publishtest.FlipFile(t, publishtest.ContentFile(t, dir, "munge"))
	m := publishtest.EmptyMirror(t)
	o := into("site")
	o.KeepGoing = true
	if _, err := publishtest.PublishTo(t, m, dir, o); err == nil {
		t.Error("no error")
	}
	offered, _ := viewIn(t, m, "site")
	if slices.Contains(offered, "munge") || slices.Contains(offered, "slurm") || !slices.Contains(offered, "zlib") {
		t.Errorf("offered: %v", offered)
	}
}

// A damaged view stops no publish that was not asked to add to it, and with KeepGoing none: the rest is published, other views included, and it is said how
// to mend the view.
func TestADamagedViewStopsNothingElse(t *testing.T) {
	pointer := layout.V3View("site/login")
	for _, row := range []struct {
		name     string
		views    []string
		keep     bool
		stops    bool
		severity buildcache.Severity
	}{
		{"a view of the source", []string{"other"}, false, false, buildcache.Warning},
		{"that was asked for", []string{"other", "site/login"}, false, true, buildcache.Error},
		{"that was asked for, with KeepGoing", []string{"site/login", "other"}, true, false, buildcache.Error},
	} {
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original("v3-view"), publishtest.Only("zlib"))
		m.Plant(pointer, []byte("{"))
		before := m.Snapshot()
		o := into(row.views...)
		o.KeepGoing = row.keep
		out, err := publishtest.PublishTo(t, m, publishtest.Original("v3-view"), o)
		if (err != nil) != (row.severity == buildcache.Error) {
			t.Errorf("%s: %v", row.name, err)
		}
		if len(out.Findings) != 1 || out.Findings[0].Severity != row.severity || !strings.HasSuffix(out.Findings[0].File, pointer) || !strings.Contains(out.Findings[0].Reason, "`publish view set` makes it again") {
			t.Errorf("%s: %v", row.name, out.Findings)
		}
		if row.stops {
			if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
				t.Errorf("%s: it was refused, and changed:\n%s", row.name, diff)
			}
			continue
		}
		if offered, _ := viewIn(t, m, "other"); len(offered) == 0 || out.Mirrors[0].Index.After != len(offered) {
			t.Errorf("%s: %d packages, of them in the other view: %v", row.name, out.Mirrors[0].Index.After, offered)
		}
		if string(m.Snapshot()[pointer]) != "{" {
			t.Errorf("%s: the view was replaced", row.name)
		}
	}
}

// What is copied into a view is in it, or is refused: also what TO has already, and of which it has a damaged document.
func TestACopyIntoAView(t *testing.T) {
	from, to := publishtest.Planted(t, "v3-signed"), publishtest.EmptyMirror(t)
	mustCopy(t, from, to, closureOf(t, "munge"))
	name := publishtest.SubjectOf(t, to).Find("openssl")
	to.Uproot(name)
	to.Plant(name, []byte("garbage"))
	for _, what := range []string{"openssl", "munge"} {
		p, err := planCopy(t.Context(), from, to, closureOf(t, what), into("site"))
		publishtest.Must(t, err)
		if !p.Blocked() || len(p.Findings) != 1 || !strings.Contains(p.Findings[0].Reason, "it is not in the view site: ") {
			t.Errorf("%s: %v", what, p.Findings)
		}
	}
}

// Publishers that write one view at once lose nothing, and all make the same view.
func TestPublishersOfOneViewLoseNothing(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	packages := []string{"zlib", "munge", "openssl", "hwloc", "libevent", "pmix", "slurm", "gcc", "gcc-runtime", "compiler-wrapper"}
	var g sync.WaitGroup
	for i := range 48 {
		g.Go(func() {
			publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), onlyInto("site", packages[i%len(packages)]))
		})
	}
	g.Wait()
	_, got := viewIn(t, m, "site")
	alone := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, alone, publishtest.Original("v3-signed"), onlyInto("site", packages...))
	_, want := viewIn(t, alone, "site")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-one publisher +48):\n%s", diff)
	}
	if report := publishtest.MustVerify(t, m, verify.Options{}); report.Damaged() {
		t.Errorf("%v", report.Findings)
	}
}

// Whatever fails at whatever call of a publish into a view: the view is whole at every moment, and the next run ends where an
// undisturbed one does.
func TestEveryFaultAtEveryCallOfAView(t *testing.T) {
	scene := func() (*mirrortest.Mem, string, publish.Options) {
		m, dir, o := publishtest.Scene(t, "v3")
		o.Views = []string{"site"}
		return m, dir, o
	}
	m, dir, o := scene()
	b := mirrortest.Break(m)
	publishtest.MustPublish(t, b, dir, o)
	calls, changes := len(b.Calls()), len(b.Mutations())
	want := publishtest.Settled(t, m.Snapshot())
	for name, row := range map[string]struct {
		calls int
		fault func(k int) mirrortest.Fault
	}{
		"lost on its way": {changes, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Drop("")) }},
		"answer lost":     {changes, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Lie("")) }},
		"too late":        {changes, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Conflict("")) }},
		"denied":          {calls, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Fail("", mirrortest.Refusals[1])) }},
		"killed":          {calls, mirrortest.Kill},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for k := 1; k <= row.calls && !t.Failed(); k++ {
				m, dir, o := scene()
				b := mirrortest.Break(m, row.fault(k))
				b.AfterEach(func(c mirrortest.Call) {
					if !c.Op.Mutates() {
						return
					}
					if _, ok := m.Snapshot()[layout.V3View("site")]; ok {
						viewIsWhole(t, m)
					}
				})
				_, _ = publishtest.PublishTo(t, b, dir, o)
				if _, err := publishtest.PublishTo(t, m, dir, o); err != nil {
					t.Errorf("fault %d: second run: %v", k, err)
				}
				if diff := mirrortest.Diff(want, publishtest.Settled(t, m.Snapshot())); diff != "" {
					t.Errorf("fault %d, after the second run:\n%s", k, diff)
				}
			}
		})
	}
}

// viewIsWhole checks that everything that the view offers is there.
func viewIsWhole(t testing.TB, m *mirrortest.Mem) {
	_, records := viewIn(t, m, "site")
	there := make(map[string]bool)
	for name := range m.Snapshot() {
		if id, ok := buildcache.V3.ParsePackageName(name); ok {
			there[string(id.Hash)] = true
		}
	}
	for h, e := range records {
		if e.InBuildcache && !there[h] {
			t.Errorf("the view offers %s, which is not there", e.Name)
		}
	}
}
