package rollback_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/rollback"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"
)

var fixtures = []string{"v3-signed", "v2-signed"}

func layoutOf(fixture string) buildcache.Layout {
	f, _ := buildcache.LayoutNamed(publishtest.LayoutOf(fixture))
	return f
}

// steps are what is published one after the other, each with what it depends on.
var steps = [][]string{{"zlib"}, {"zlib", "gcc-runtime"}, {"zlib", "gcc-runtime", "openssl"}, {"zlib", "gcc-runtime", "openssl", "munge"}}

func grown(t *testing.T, fixture string) *mirrortest.Mem {
	m := publishtest.EmptyMirror(t)
	for _, names := range steps {
		publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only(names...))
	}
	return m
}

func rollTo(t *testing.T, fixture string, s mirror.Store, to rollback.Target) (*rollback.Plan, reindex.Result, error) {
	plan, err := rollback.NewPlan(t.Context(), rollback.Mirror{Layout: layoutOf(fixture), Store: s}, to)
	if err != nil {
		return nil, reindex.Result{}, err
	}
	r, err := plan.Apply(t.Context())
	return plan, r, err
}

func offered(t *testing.T, m *mirrortest.Mem, fixture string) []string {
	return publishtest.IndexOf(t, m.Snapshot(), publishtest.LayoutOf(fixture)).Offered()
}

// A rollback is a new generation with the older content in another document, in one switch, and the mirror is whole.
func TestARollbackIsANewGeneration(t *testing.T) {
	for _, fixture := range fixtures {
		f := layoutOf(fixture)
		m := grown(t, fixture)
		seen := map[string]bool{}
		look := func() string {
			p, err := f.ReadPointer(t.Context(), m)
			publishtest.Must(t, err)
			if seen[p.Digest()] {
				t.Errorf("%s: an index is named again", fixture)
			}
			seen[p.Digest()] = true
			publishtest.Must(t, publishtest.NewReader().Look(m.Snapshot()))
			if found := publishtest.MustVerify(t, m, verify.Options{Deep: true}).Findings; len(found) > 0 {
				t.Errorf("verify: %v", found)
			}
			return p.Digest()
		}
		look()
		for i, row := range []struct{ to, packages int }{{2, 2}, {4, 4}, {1, 1}, {3, 3}, {4, 4}, {2, 2}} {
			m.Forget()
			plan, r, err := rollTo(t, fixture, m, rollback.Target{Generation: row.to})
			publishtest.Must(t, err)
			if r.After != row.packages || len(offered(t, m, fixture)) != row.packages || !r.Written {
				t.Errorf("%s, to %d: %+v %v", fixture, row.to, plan, offered(t, m, fixture))
			}
			swaps := slices.DeleteFunc(m.Mutations(), func(c mirrortest.Call) bool { return c.Name != f.IndexNames()[0] })
			if len(swaps) != 1 {
				t.Errorf("%d switches", len(swaps))
			}
			look()
			if p, _ := f.ReadPointer(t.Context(), m); p.Generation != 5+i {
				t.Errorf("generation %d", p.Generation)
			}
			m.Forget()
			if _, r, err = rollTo(t, fixture, m, rollback.Target{Generation: row.to}); err != nil || r.Written || len(m.Mutations()) > 0 {
				t.Errorf("the same again: %+v %v %v", r, err, m.Mutations())
			}
		}
		// Without a target it is the one before.
		if _, _, err := rollTo(t, fixture, m, rollback.Target{}); err != nil || len(offered(t, m, fixture)) != 4 {
			t.Errorf("%v %v", err, offered(t, m, fixture))
		}
		for _, to := range []rollback.Target{{Generation: 99}, {Time: time.Now().Add(-time.Hour)}} {
			if _, _, err := rollTo(t, fixture, m, to); !errors.Is(err, rollback.ErrNone) {
				t.Errorf("%v: %v", to, err)
			}
		}
	}
}

// What a rollback took out is brought back by no healing, no indexer and no rebuild, and by a publish that does not have it; it is by one
// that has it.
func TestNothingUndoesARollbackByItself(t *testing.T) {
	for _, fixture := range fixtures {
		m := grown(t, fixture)
		_, _, err := rollTo(t, fixture, m, rollback.Target{Generation: 2})
		publishtest.Must(t, err)
		for round := range 2 {
			m.Forget() // the first rebuild drops records that nothing needs
			publishtest.MustHeal(t, m, publishtest.NamesOf(m.Snapshot())...)
			_, err = reindex.Rebuild(t.Context(), m, buildcache.Trust{})
			publishtest.Must(t, err)
			publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("zlib"))
			if got := offered(t, m, fixture); len(got) != 2 {
				t.Errorf("%s, round %d: offered are %v", fixture, round, got)
			}
		}
		if len(m.Mutations()) > 0 {
			t.Errorf("%s: nothing is to be done, and it did %v", fixture, m.Mutations())
		}
		publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("zlib", "gcc-runtime", "openssl"))
		if got := offered(t, m, fixture); len(got) != 3 {
			t.Errorf("%s, published again: %v", fixture, got)
		}
		_, err = reindex.RebuildEverything(t.Context(), m, buildcache.Trust{})
		publishtest.Must(t, err)
		if got := offered(t, m, fixture); len(got) != 4 {
			t.Errorf("%s, all that is there: %v", fixture, got)
		}
	}
}

// A rollback names nothing that is gone.
func TestARollbackRefusesWhatIsGone(t *testing.T) {
	for _, fixture := range fixtures {
		for _, what := range []string{"document", "tarball"} {
			m := grown(t, fixture)
			document := publishtest.SubjectOf(t, m).Find("munge")
			gone := document
			if what == "tarball" {
				gone = publishtest.SubjectOf(t, m).Tarball("munge")
			}
			_, _, err := rollTo(t, fixture, m, rollback.Target{Generation: 3})
			publishtest.Must(t, err)
			m.Uproot(gone)
			before := m.Snapshot()
			plan, _, err := rollTo(t, fixture, m, rollback.Target{Generation: 4})
			var found *buildcache.FindingsError
			if !errors.As(err, &found) || len(plan.Missing) != 1 || !strings.Contains(plan.Missing[0].String(), "munge") {
				t.Errorf("%s, without its %s: %v", fixture, what, err)
			}
			if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
				t.Errorf("refused, and done:\n%s", diff)
			}
		}
	}
}

// What is about to be deleted, or was since the plan was made, does not come back.
func TestARollbackBesideAPrune(t *testing.T) {
	for _, fixture := range fixtures {
		m := grown(t, fixture)
		_, _, err := rollTo(t, fixture, m, rollback.Target{Generation: 3})
		publishtest.Must(t, err)
		plan, err := rollback.NewPlan(t.Context(), rollback.Mirror{Layout: layoutOf(fixture), Store: m}, rollback.Target{Generation: 4})
		publishtest.Must(t, err)
		_, err = notice.Give(t.Context(), m, "run", time.Second, false)
		publishtest.Must(t, err)
		before := m.Snapshot()
		if _, err := plan.Apply(t.Context()); !errors.Is(err, notice.ErrAtWork) {
			t.Errorf("%s: %v", fixture, err)
		}
		if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
			t.Errorf("refused, and done:\n%s", diff)
		}
		m.Uproot(notice.Name)
		m.Uproot(publishtest.SubjectOf(t, m).Tarball("munge"))
		before = m.Snapshot()
		if _, err := plan.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "munge") {
			t.Errorf("%s, pruned since: %v", fixture, err)
		}
		if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
			t.Errorf("%s: what was pruned is offered:\n%s", fixture, diff)
		}
	}
}

// A rollback that dies at any request leaves the index of before or the one of after, and is completed by repeating it.
func TestARollbackIsKilledAtEveryRequest(t *testing.T) {
	for _, fixture := range fixtures {
		for k, done := 1, false; !done; k++ {
			m := grown(t, fixture)
			_, _, err := rollTo(t, fixture, mirrortest.Break(m, mirrortest.Kill(k)), rollback.Target{Generation: 2})
			done = err == nil
			if n := len(offered(t, m, fixture)); n != 2 && n != 4 {
				t.Errorf("%s, killed at %d: %d packages", fixture, k, n)
			}
			publishtest.Must(t, publishtest.NewReader().Look(m.Snapshot()))
			_, _, err = rollTo(t, fixture, m, rollback.Target{Generation: 2})
			publishtest.Must(t, err)
			if n := len(offered(t, m, fixture)); n != 2 {
				t.Errorf("%s, killed at %d and repeated: %d packages", fixture, k, n)
			}
		}
	}
}

// Where Spack has replaced the index in between, records do not tell what was offered: the earlier index does, and without it
// nothing is guessed.
func TestARollbackBehindAnotherProgram(t *testing.T) {
	m := grown(t, "v3-signed")
	p, err := buildcache.V3.ReadPointer(t.Context(), m)
	publishtest.Must(t, err)
	blobs, _ := buildcache.V3.BlobName(p.Refs[0].Digest)
	publishtest.PlantIndex(t, m, `{"database":{"version":"8","installs":{}}}`)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	n := len(offered(t, m, "v3-signed"))
	if _, _, err = rollTo(t, "v3-signed", m, rollback.Target{Generation: 4}); err != nil || len(offered(t, m, "v3-signed")) != 4 || n == 4 {
		t.Errorf("%v: %v", err, offered(t, m, "v3-signed"))
	}
	m.Uproot(blobs)
	if _, _, err = rollTo(t, "v3-signed", m, rollback.Target{Generation: 4}); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("it was guessed: %v", err)
	}
}

// Packages that others publish while a rollback is under way are not taken out by it.
func TestARollbackBesidePublishers(t *testing.T) {
	m := grown(t, "v3-signed")
	plan, err := rollback.NewPlan(t.Context(), rollback.Mirror{Layout: buildcache.V3, Store: m}, rollback.Target{Generation: 1})
	publishtest.Must(t, err)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	more := len(offered(t, m, "v3-signed")) - 4
	r, err := plan.Apply(t.Context())
	publishtest.Must(t, err)
	if r.After != 1+more || more == 0 {
		t.Errorf("%d are left, %d are of others", r.After, more)
	}
}

// The times of records choose a generation.
func TestARollbackToATime(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	f := buildcache.V3
	for i, names := range steps[:3] {
		publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publishtest.Only(names...))
		p, err := f.ReadPointer(t.Context(), m)
		publishtest.Must(t, err)
		r, err := history.Read(t.Context(), m, f.IndexID(), p.Generation, p.Record)
		publishtest.Must(t, err)
		r.Time = time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC)
		publishtest.Must(t, history.Write(t.Context(), m, f.IndexID(), r))
	}
	_, _, err := rollTo(t, "v3-signed", m, rollback.Target{Time: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)})
	publishtest.Must(t, err)
	if n := len(offered(t, m, "v3-signed")); n != 2 {
		t.Errorf("%d packages", n)
	}
}

// A rollback lists documents, and content only of what comes back.
func TestARollbackListsNoContent(t *testing.T) {
	m := grown(t, "v3-signed")
	b := mirrortest.Break(m)
	b.AfterEach(func(c mirrortest.Call) {
		if c.Op == mirrortest.List && c.Name == layout.V3Blobs {
			t.Errorf("%v", c)
		}
	})
	_, out, err := rollTo(t, "v3-signed", b, rollback.Target{Generation: 1})
	if err != nil || !out.Written {
		t.Errorf("%+v, %v", out, err)
	}
}

// A damaged record in between is no reason to refuse a rollback: what was offered before it is read from the earlier index. Where that is gone as well,
// the record is named, and no other program.
func TestARollbackBehindADamagedRecord(t *testing.T) {
	const fixture = "v3-signed"
	m := grown(t, fixture)
	p, err := buildcache.V3.ReadPointer(t.Context(), m)
	publishtest.Must(t, err)
	var second string
	publishtest.Must(t, history.Chain(t.Context(), m, p.Head(buildcache.V3), func(e history.Entry) bool {
		if e.Generation == 3 {
			m.Plant(history.Name("v3", 3, e.ID), []byte("{"))
		}
		if e.Generation == 2 {
			second = e.Digest
		}
		return true
	}))
	for to, packages := range map[int]int{1: 1, 2: 2, 3: 3} {
		if _, _, err := rollTo(t, fixture, m, rollback.Target{Generation: to}); err != nil || len(offered(t, m, fixture)) != packages {
			t.Errorf("to %d: %v, %v", to, err, offered(t, m, fixture))
		}
	}
	publishtest.Must(t, publishtest.NewReader().Look(m.Snapshot()))
	digest, err := blob.ParseDigest(second)
	publishtest.Must(t, err)
	name, _ := buildcache.V3.BlobName(digest)
	m.Uproot(name)
	want := "the record of generation 3 is damaged, and its index " + name + " is gone"
	if _, _, err := rollTo(t, fixture, m, rollback.Target{Generation: 2}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("without the earlier index: %v", err)
	}
}

// What a rollback took out stays out when the pointer of the index is removed and the index is made again.
func TestARollbackOutlivesThePointer(t *testing.T) {
	for _, fixture := range fixtures {
		for what, again := range map[string]func(m *mirrortest.Mem){
			"publish index": func(m *mirrortest.Mem) {
				_, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{})
				publishtest.Must(t, err)
			},
			"a publish": func(m *mirrortest.Mem) {
				publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("zlib"))
			},
		} {
			m := grown(t, fixture)
			_, _, err := rollTo(t, fixture, m, rollback.Target{Generation: 2})
			publishtest.Must(t, err)
			m.Uproot(layoutOf(fixture).IndexNames()[0])
			again(m)
			if got := offered(t, m, fixture); len(got) != 2 {
				t.Errorf("%s, %s: offered are %v", fixture, what, got)
			}
		}
	}
}

// A withdrawal that is undone does not undo a rollback that took the package out, whichever came first.
func TestAnUndoneWithdrawalDoesNotUndoARollback(t *testing.T) {
	for _, fixture := range fixtures {
		for _, first := range []string{"withdrawal", "rollback"} {
			m := grown(t, fixture)
			w := withdraw.Mirror{Layout: layoutOf(fixture), Store: m, Deleter: m}
			back := func() {
				_, _, err := rollTo(t, fixture, m, rollback.Target{Generation: 2})
				publishtest.Must(t, err)
			}
			if first == "rollback" {
				back()
			}
			_, err := w.Withdraw(t.Context(), []withdraw.Package{munge(t, m, fixture)}, "CVE-2026-1")
			publishtest.Must(t, err)
			if first == "withdrawal" {
				back()
			}
			all, err := w.Undoable(t.Context())
			publishtest.Must(t, err)
			out, err := w.Undo(t.Context(), all)
			publishtest.Must(t, err)
			if got := offered(t, m, fixture); len(got) != 2 || len(all) != 1 || !strings.Contains(out.Lost[all[0].Hash], "rollback") {
				t.Errorf("%s, %s first: offered are %v; %+v", fixture, first, got, out)
			}
			publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("zlib", "gcc-runtime", "openssl", "munge"))
			if got := offered(t, m, fixture); len(got) != 4 {
				t.Errorf("%s, %s first: published again, offered are %v", fixture, first, got)
			}
		}
		// A withdrawal that was there already in the generation that is brought back is undone as usual.
		m := grown(t, fixture)
		w := withdraw.Mirror{Layout: layoutOf(fixture), Store: m, Deleter: m}
		_, err := w.Withdraw(t.Context(), []withdraw.Package{munge(t, m, fixture)}, "CVE-2026-1")
		publishtest.Must(t, err)
		publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("hwloc"))
		_, _, err = rollTo(t, fixture, m, rollback.Target{})
		publishtest.Must(t, err)
		all, err := w.Undoable(t.Context())
		publishtest.Must(t, err)
		_, err = w.Undo(t.Context(), all)
		publishtest.Must(t, err)
		if got := offered(t, m, fixture); len(got) != 4 {
			t.Errorf("%s: offered are %v", fixture, got)
		}
	}
}

func munge(t *testing.T, m *mirrortest.Mem, fixture string) withdraw.Package {
	t.Helper()
	for name := range m.Snapshot() {
		if id, ok := layoutOf(fixture).ParsePackageName(name); ok && strings.Contains(name, "munge-") {
			return withdraw.Package{Hash: id.Hash, ID: "munge@0.5.16", Documents: []string{name}}
		}
	}
	t.Fatal("there is no munge")
	return withdraw.Package{}
}

// A rollback reads the index once, and again only if it has changed since it was planned.
func TestARollbackReadsTheIndexOnce(t *testing.T) {
	for _, fixture := range fixtures {
		for _, meanwhile := range []int{0, 1} {
			f, m := layoutOf(fixture), grown(t, fixture)
			b, reads := mirrortest.Break(m), 0
			b.AfterEach(func(c mirrortest.Call) {
				// To go back to the first generation takes no other content.
				if c.Op == mirrortest.Open && (f.NamesContent() && f.IsPayload(c.Name) || !f.NamesContent() && c.Name == f.IndexNames()[0]) {
					reads++
				}
			})
			plan, err := rollback.NewPlan(t.Context(), rollback.Mirror{Layout: f, Store: b}, rollback.Target{Generation: 1})
			publishtest.Must(t, err)
			if meanwhile > 0 {
				publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("hwloc"))
			}
			out, err := plan.Apply(t.Context())
			if err != nil || !out.Written || reads != 1+meanwhile || len(offered(t, m, fixture)) != 1+meanwhile {
				t.Errorf("%s, %d publishers meanwhile: %+v, %v: the index was read %d times, and offers %v", fixture, meanwhile, out, err, reads, offered(t, m, fixture))
			}
		}
	}
}

// An index goes back to each of 20 generations, which came about by publishers and rollbacks, and each time everything that it offers can be read and is
// what was offered then.
func TestEachOfTwentyGenerationsIsReadWhole(t *testing.T) {
	more := [][]string{{"hwloc"}, {"libevent", "openssl"}, {"pmix", "hwloc", "libevent"}, {"slurm", "munge", "pmix"}}
	for _, fixture := range fixtures {
		f, m := layoutOf(fixture), publishtest.EmptyMirror(t)
		var then [][]string // what each generation offered
		note := func() {
			p, err := f.ReadPointer(t.Context(), m)
			publishtest.Must(t, err)
			if then = append(then, offered(t, m, fixture)); p.Generation != len(then) {
				t.Fatalf("%s: generation %d, want %d", fixture, p.Generation, len(then))
			}
		}
		for _, names := range slices.Concat(steps, more) {
			publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only(names...))
			note()
		}
		for i := 0; len(then) < 20; i++ {
			if i%2 == 0 {
				_, _, err := rollTo(t, fixture, m, rollback.Target{Generation: 1 + 5*i%len(then)})
				publishtest.Must(t, err)
			} else {
				publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only(more[i/2%len(more)]...))
			}
			note()
		}
		for i := range 20 {
			to := 1 + 7*i%20
			_, _, err := rollTo(t, fixture, m, rollback.Target{Generation: to})
			publishtest.Must(t, err)
			if got := offered(t, m, fixture); !slices.Equal(got, then[to-1]) {
				t.Errorf("%s, to generation %d: it offers %v, want %v", fixture, to, got, then[to-1])
			}
			publishtest.Must(t, publishtest.NewReader().Look(m.Snapshot()))
			if found := publishtest.MustVerify(t, m, verify.Options{Deep: true}).Findings; len(found) > 0 {
				t.Errorf("%s, to generation %d: verify: %v", fixture, to, found)
			}
		}
	}
}
