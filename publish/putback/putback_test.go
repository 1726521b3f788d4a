package putback_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/putback"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/rollback"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"
)

// A scene is a mirror whose pointer was put back, from before munge was withdrawn and openssl was published.
type scene struct {
	*mirrortest.Mem
	layout  buildcache.Layout
	fixture string
	munge   spec.Hash
	earlier map[string][]byte // the pointer that is put back
	newest  int               // generation
}

// newScene makes a mirror of a newest generation: 3, or 2 where nothing came after the withdrawal.
func newScene(t *testing.T, fixture string, newest int) *scene {
	f, _ := buildcache.LayoutNamed(publishtest.LayoutOf(fixture))
	s := &scene{Mem: mirrortest.NewMem(t, mirrortest.LetBe), layout: f, fixture: fixture, earlier: make(map[string][]byte), newest: newest}
	first := []string{"munge", "gcc-runtime", "zlib", "openssl", "hwloc"}
	publishtest.MustPublish(t, s, publishtest.Original(fixture), publishtest.Only(first[:len(first)-(newest-2)]...))
	for _, name := range f.IndexNames() {
		s.earlier[name] = s.Snapshot()[name]
	}
	document := publishtest.SubjectOf(t, s.Mem).Find("munge")
	id, _ := f.ParsePackageName(document)
	s.munge = id.Hash
	_, err := s.withdrawer().Withdraw(t.Context(), []withdraw.Package{{Hash: s.munge, ID: "munge@0.5.16", Documents: []string{document}}}, "CVE-2026-1")
	publishtest.Must(t, err)
	if newest > 2 {
		publishtest.MustPublish(t, s, publishtest.Original(fixture), publishtest.Only("zlib", "hwloc"))
	}
	return s
}

func (s *scene) withdrawer() withdraw.Mirror {
	return withdraw.Mirror{Layout: s.layout, Store: s, Deleter: s}
}

func (s *scene) putBack() {
	for name, text := range s.earlier {
		s.Plant(name, text)
	}
}

// listsOfHistory is how often the history was listed.
func (s *scene) listsOfHistory() int {
	return len(slices.DeleteFunc(s.Calls(), func(c mirrortest.Call) bool {
		return c.Op != mirrortest.List || !strings.HasPrefix(c.Name, history.Dir)
	}))
}

// out checks that munge is withdrawn and not offered, that hwloc is offered, and that the pointer is one of the newest again.
func (s *scene) out(t *testing.T, what string) {
	t.Helper()
	offered := publishtest.IndexOf(t, s.Snapshot(), s.layout.Name()).Offered()
	offers := func(name string) bool {
		return slices.ContainsFunc(offered, func(o string) bool { return strings.HasPrefix(o, name+"/") })
	}
	if offers("munge") || !offers("hwloc") {
		t.Errorf("%s, %s: it offers %v", s.fixture, what, offered)
	}
	all, err := withdraw.List(t.Context(), s.layout, s)
	if err != nil || len(all) != 1 || all[0].Hash != s.munge {
		t.Errorf("%s, %s: withdrawn are %v, %v", s.fixture, what, all, err)
	}
	if found := publishtest.MustVerify(t, s, verify.Options{Deep: true}).Findings; len(found) > 0 {
		t.Errorf("%s, %s: verify: %v", s.fixture, what, found)
	}
}

// An earlier pointer that was put back is noticed, by verify and by all that write an index, and gives nothing again that was withdrawn. Nobody
// lists the history on the usual way.
func TestAnEarlierPointerThatWasPutBack(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed", "v3-signed by one", "v2-signed by one"} {
		fixture, one := strings.CutSuffix(fixture, " by one")
		for what, do := range map[string]func(*testing.T, *scene){
			"publish": func(t *testing.T, s *scene) {
				s.Forget()
				out := publishtest.MustPublish(t, s, publishtest.Original(fixture), publishtest.Only("munge", "zlib", "hwloc"))
				if got := publishtest.Statuses(out)["munge"]; got != publish.Withdrawn || len(publishtest.Warnings(out.Findings, "was put back")) != 1 || len(publishtest.Warnings(out.Findings, "CVE-2026-1")) != 1 {
					t.Errorf("%s: published as %q: %v", fixture, got, out.Findings)
				}
			},
			"overwrite": func(t *testing.T, s *scene) {
				o := publishtest.Only("munge", "hwloc")
				if o.IfExists = publish.Overwrite; fixture == "v2-signed" {
					o.IfExists = publish.Skip
				}
				publishtest.MustPublish(t, s, publishtest.Original(fixture), o)
			},
			"rebuild": func(t *testing.T, s *scene) {
				_, err := reindex.Rebuild(t.Context(), s, buildcache.Trust{})
				publishtest.Must(t, err)
			},
			"indexer": func(t *testing.T, s *scene) {
				all, err := reindex.Heal(t.Context(), s, buildcache.Trust{}, reindex.Changes{Names: s.layout.IndexNames()})
				publishtest.Must(t, err)
				if len(all) != 1 || !all[0].Changed || len(publishtest.Warnings(all[0].Findings, "was put back")) != 1 {
					t.Errorf("%s: %+v", fixture, all)
				}
			},
			"rollback": func(t *testing.T, s *scene) {
				plan, err := rollback.NewPlan(t.Context(), rollback.Mirror{Layout: s.layout, Store: s}, rollback.Target{Generation: s.newest})
				if !s.layout.NamesContent() { // which keeps no earlier index
					if err == nil || !strings.Contains(err.Error(), "is not known") {
						t.Errorf("%v", err)
					}
					_, err = reindex.Rebuild(t.Context(), s, buildcache.Trust{})
					publishtest.Must(t, err)
					return
				}
				publishtest.Must(t, err)
				_, err = plan.Apply(t.Context())
				publishtest.Must(t, err)
			},
		} {
			s := newScene(t, fixture, 3)
			if one {
				s = newScene(t, fixture, 2)
			}
			s.out(t, "before")
			s.putBack()
			if r := publishtest.MustVerify(t, s, verify.Options{}); !r.Repair.Index || !slices.ContainsFunc(r.Findings, func(f buildcache.Finding) bool {
				return f.Severity == buildcache.Error && strings.Contains(f.Reason, fmt.Sprintf("of generation 1, and there are records up to generation %d: an earlier pointer was put back", s.newest))
			}) {
				t.Errorf("%s: verify says %v, %+v", fixture, r.Findings, r.Repair)
			}
			if r := publishtest.MustVerify(t, s, verify.Options{}); len(r.Repair.Publish) > 0 || !slices.ContainsFunc(r.Findings, func(f buildcache.Finding) bool {
				return f.Severity == buildcache.Error && strings.Contains(f.Reason, "it offers munge@0.5.16/")
			}) {
				t.Errorf("%s: verify says %v, %+v", fixture, r.Findings, r.Repair)
			}
			if all, err := withdraw.List(t.Context(), s.layout, s); err != nil || len(all) != 1 || all[0].Hash != s.munge {
				t.Errorf("%s: withdrawn are %v, %v", s.fixture, all, err)
			}
			do(t, s)
			s.out(t, what)
			if p, err := buildcache.PointerForUpdate(t.Context(), s.layout, s); err != nil || p.Generation != s.newest+2 || p.Recalled {
				t.Errorf("%s, %s: it is of generation %d, %v", fixture, what, p.Generation, err)
			}
		}
	}
}

// Nothing is said of a pointer beside which a publisher has died, or that others replace meanwhile, and publishing twice does not list the history.
func TestAPointerThatWasNotPutBack(t *testing.T) {
	s := newScene(t, "v3-signed", 3)
	was, err := buildcache.PointerForUpdate(t.Context(), s.layout, s)
	publishtest.Must(t, err)
	r := history.Record{Generation: was.Generation + 1, ID: history.NewID(was.Generation+1, was.Parent(), "of a publisher that died")}
	publishtest.Must(t, history.Write(t.Context(), s, s.layout.IndexID(), &r))
	s.Forget()
	publishtest.MustPublish(t, s, publishtest.Original("v3-signed"), publishtest.Only("zlib", "hwloc"))
	publishtest.MustPublish(t, s, publishtest.Original("v3-signed"), publishtest.Only("zlib", "hwloc", "slurm"))
	if n := s.listsOfHistory(); n > 0 {
		t.Errorf("the history was listed %d times", n)
	}
	publishtest.MustPublish(t, s, publishtest.Original("v3-signed"), publish.Options{})
	now, err := buildcache.PointerForUpdate(t.Context(), s.layout, s)
	publishtest.Must(t, err)
	for _, p := range []*buildcache.Pointer{was, now} {
		if found, err := putback.Look(t.Context(), s.layout, s, p); found != nil || err != nil {
			t.Errorf("generation %d: %v, %v", p.Generation, found, err)
		}
	}
}

// A pointer that was put back by one generation was stored after the record of the newer one; that of a publisher that died was stored before.
func TestAPublishThatWasPutBackByOne(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t, fixture, 2)
			look := func() *putback.Finding {
				p, err := buildcache.PointerForUpdate(t.Context(), s.layout, s)
				publishtest.Must(t, err)
				found, err := putback.Look(t.Context(), s.layout, s, p)
				publishtest.Must(t, err)
				return found
			}
			for _, name := range s.layout.IndexNames() {
				s.earlier[name] = s.Snapshot()[name]
			}
			time.Sleep(time.Hour)
			b := mirrortest.Break(s, mirrortest.Drop(s.layout.IndexNames()[0]))
			if _, err := publishtest.PublishTo(t, b, publishtest.Original(fixture), publishtest.Only("zlib", "slurm")); err == nil {
				t.Fatal("the publisher did not die")
			}
			time.Sleep(time.Hour)
			if found := look(); found != nil {
				t.Errorf("%s: of a publisher that died: %v", fixture, found)
			}
			publishtest.MustPublish(t, s, publishtest.Original(fixture), publishtest.Only("zlib", "slurm"))
			time.Sleep(time.Minute)
			s.putBack()
			if found := look(); found == nil || found.Generation != 2 || found.Newest != 3 {
				t.Errorf("%s: put back by one: %v", fixture, found)
			}
		})
	}
}

// Verify reports a view whose pointer was put back. The next publish into the view takes out what the mirror has withdrawn, also if the history is
// gone.
func TestAnEarlierPointerOfAViewThatWasPutBack(t *testing.T) {
	const name = "site"
	view, _ := buildcache.V3.View(name)
	for _, later := range []bool{false, true} {
		s := &scene{Mem: mirrortest.NewMem(t, mirrortest.LetBe), layout: buildcache.V3}
		into := func(packages ...string) {
			o := publishtest.Only(packages...)
			o.Views = []string{name}
			publishtest.MustPublish(t, s, publishtest.Original("v3-signed"), o)
		}
		into("munge", "gcc-runtime", "openssl")
		pointer := view.IndexNames()[0]
		earlier := s.Snapshot()[pointer]
		document := publishtest.SubjectOf(t, s.Mem).Find("munge")
		id, _ := s.layout.ParsePackageName(document)
		_, err := s.withdrawer().Withdraw(t.Context(), []withdraw.Package{{Hash: id.Hash, ID: "munge@0.5.16", Documents: []string{document}}}, "CVE-2026-1")
		publishtest.Must(t, err)
		s.Plant(pointer, earlier)
		has := func(reason string) bool {
			return slices.ContainsFunc(publishtest.MustVerify(t, s, verify.Options{}).Findings, func(f buildcache.Finding) bool {
				return f.Severity == buildcache.Error && f.File == pointer && strings.Contains(f.Reason, reason)
			})
		}
		if !has("the view site is of generation 1, and") || !has("publish rollback --view site --to 2 ") || has("publish index") {
			t.Errorf("verify says %v", publishtest.MustVerify(t, s, verify.Options{}).Findings)
		}
		if !has("there are records up to generation 2") || !has("it offers munge@0.5.16/7mkbpyy, but it was withdrawn") {
			t.Errorf("verify says %v", publishtest.MustVerify(t, s, verify.Options{}).Findings)
		}
		if later { // a publisher of another release has gone on from there
			for name := range s.Snapshot() {
				if strings.HasPrefix(name, history.DirOf(view.IndexID())) {
					s.Uproot(name)
				}
			}
		}
		into("munge", "gcc-runtime", "openssl")
		if found := publishtest.MustVerify(t, s, verify.Options{Deep: true}).Findings; len(found) > 0 {
			t.Errorf("verify: %v", found)
		}
		p, err := view.ReadPointer(t.Context(), s)
		publishtest.Must(t, err)
		if x, err := view.ReadIndex(t.Context(), s, p); err != nil || x.Has(id.Hash) || x.Offered() == 0 {
			t.Errorf("it offers %v, %v", x, err)
		}
	}
}

// What has a tombstone is withdrawn, although neither the pointer nor the history says so any more, such as after a publisher has gone on from an
// earlier pointer without a record.
func TestWhatHasATombstoneIsNotPublished(t *testing.T) {
	for _, o := range []publish.Options{{}, {IfExists: publish.Overwrite}} {
		s := newScene(t, "v3-signed", 2)
		s.putBack()
		for name := range s.Snapshot() {
			if strings.HasPrefix(name, history.Dir) {
				s.Uproot(name)
			}
		}
		out := publishtest.MustPublish(t, s, publishtest.Original(s.fixture), o)
		if got := publishtest.Statuses(out)["munge"]; got != publish.Withdrawn || len(publishtest.Warnings(out.Findings, "it is not published until")) != 1 {
			t.Errorf("published as %q: %v", got, out.Findings)
		}
		s.out(t, "published")
	}
}
