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
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
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
