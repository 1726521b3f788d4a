package prune

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/rollback"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"
)

// A publisher publishes one package of a mirror, and stops once: before the nth call of a kind of call, until it is let go.
type held struct {
	*mirrortest.Mem
	before func(mirrortest.Call) bool
	once   sync.Once
	there  chan struct{}
	goOn   chan struct{}
}

func (h *held) wait(op mirrortest.Op, name string) {
	if h.before(mirrortest.Call{Op: op, Name: name}) {
		h.once.Do(func() {
			close(h.there)
			<-h.goOn
		})
	}
}

func (h *held) Create(ctx context.Context, u mirror.Upload) error {
	h.wait(mirrortest.Create, u.Name)
	return h.Mem.Create(ctx, u)
}

func (h *held) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	h.wait(mirrortest.Swap, u.Name)
	return h.Mem.Swap(ctx, u, was)
}

func isDocument(c mirrortest.Call) bool {
	_, ok := layout.ParseV3Spec(c.Name)
	return ok
}

// zlibKept publishes zlib and munge, and returns a rule that keeps zlib.
func zlibKept(t *testing.T, m *mirrortest.Mem, fixture string) (dir string, f buildcache.Layout, k Keep) {
	t.Helper()
	dir = publishtest.Original(fixture)
	publishtest.MustPublish(t, m, dir, publishtest.Only("zlib"))
	publishtest.MustPublish(t, m, dir, publishtest.Only("munge"))
	f, _ = buildcache.LayoutNamed(publishtest.LayoutOf(fixture))
	id, _ := f.ParsePackageName(publishtest.SubjectOf(t, m).Find("zlib"))
	return dir, f, Keep{Hashes: map[spec.Hash]bool{id.Hash: true}}
}

// What a rollback takes out during the grace period, or another program that leaves no record, stays for clients that have read the index before:
// the package was published right before the prune gave notice. The next prune deletes it.
func TestWhatWasOfferedAMomentAgoStays(t *testing.T) {
	for _, by := range []string{"v3-unsigned rollback", "v2-unsigned rollback", "v3-unsigned another", "v2-unsigned another"} {
		fixture, who, _ := strings.Cut(by, " ")
		synctest.Test(t, func(t *testing.T) {
			m := mirrortest.NewMem(t, mirrortest.LetBe)
			dir, f, k := zlibKept(t, m, fixture)
			unindexed(t, m, f)
			without := m.Snapshot()
			subject := publishtest.SubjectOf(t, m)
			document, tarball := subject.Find("munge"), subject.Tarball("munge")
			time.Sleep(30 * day)
			careful := careful(k)
			plan := mustPlan(t, m, careful)
			publishtest.MustPublish(t, m, dir, publishtest.Only("munge"))
			pruned := make(chan error, 1)
			go func() {
				_, err := plan.Apply(t.Context(), m, m, silent{})
				pruned <- err
			}()
			time.Sleep(10 * time.Minute) // a client reads the index
			if n := len(publishtest.IndexOf(t, m.Snapshot(), f.Name()).Offered()); n != 2 {
				t.Errorf("%s: %d packages are offered", by, n)
			}
			if who == "rollback" {
				rollBack(t, f, m)
			} else {
				for _, name := range append(f.IndexNames(), layout.V2IndexHash) {
					if text, ok := without[name]; ok {
						m.Plant(name, text)
					}
				}
			}
			publishtest.Must(t, <-pruned)
			there := func() int {
				_, whole := m.Snapshot()[document]
				_, content := m.Snapshot()[tarball]
				return map[bool]int{true: 1}[whole] + map[bool]int{true: 1}[content]
			}
			if n := there(); n != 2 {
				t.Errorf("%s: of document and content the client finds %d", by, n)
			}
			time.Sleep(time.Hour)
			mustPrune(t, m, careful)
			if n := there(); n != 0 {
				t.Errorf("%s: of document and content the next prune leaves %d", by, n)
			}
			wantWhole(t, m)
		})
	}
}

// A package that is published again between the notice of a prune and the switch of the index stays in the index: its publisher has objected. A
// rollback had taken it out after the prune was planned.
func TestWhatIsPublishedAgainIsNotTakenOut(t *testing.T) {
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		synctest.Test(t, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			dir, f, k := zlibKept(t, m, fixture)
			time.Sleep(30 * day)
			plan := mustPlan(t, m, careful(k))
			rolledBack(t, m, f)
			_, err := plan.Apply(t.Context(), m, m, at{step: "index", then: func() { publishtest.MustPublish(t, m, dir, publishtest.Only("munge")) }})
			publishtest.Must(t, err)
			if n := len(publishtest.IndexOf(t, m.Snapshot(), f.Name()).Offered()); n != 2 {
				t.Errorf("%s: %d packages are offered", fixture, n)
			}
			wantWhole(t, m)
		})
	}
}

// A prune whose rules keep no package any more ends and removes its notice, so that publishers need not wait.
func TestAPruneThatGivesUpTakesItsNoticeAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("zlib"))
		q, err := query.Parse("zlib")
		publishtest.Must(t, err)
		document := publishtest.SubjectOf(t, m).Find("zlib")
		publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("munge"))
		time.Sleep(30 * day)
		plan := mustPlan(t, m, careful(Keep{Roots: []Root{{q, "zlib"}}}))
		given := make(chan error, 1)
		go func() {
			time.Sleep(5 * time.Minute)
			id, _ := buildcache.V3.ParsePackageName(document)
			w := withdraw.Mirror{Layout: buildcache.V3, Store: m, Deleter: m}
			_, err := w.Withdraw(t.Context(), []withdraw.Package{{Hash: id.Hash, ID: "zlib@1.3.1", Documents: []string{document}}}, "CVE-2026-1")
			given <- err
		}()
		_, err = plan.Apply(t.Context(), m, m, silent{})
		publishtest.Must(t, <-given)
		if empty := (*EmptyError)(nil); !errors.As(err, &empty) {
			t.Errorf("got error %v", err)
		}
		if m.Snapshot()[notice.Name] != nil {
			t.Error("its notice is left")
		}
	})
}

// at calls then before a step.
type at struct {
	silent
	step string
	then func()
}

func (a at) Step(step string) {
	if step == a.step {
		a.then()
	}
}

// If a publisher replaces the index right before documents are deleted, the prune goes on, and what is offered by then stays.
func TestAnIndexThatIsReplacedBeforeDocumentsGo(t *testing.T) {
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		synctest.Test(t, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			dir, _, k := zlibKept(t, m, fixture)
			document := publishtest.SubjectOf(t, m).Find("munge")
			time.Sleep(30 * day)
			plan := mustPlan(t, m, careful(k))
			_, err := plan.Apply(t.Context(), m, m, at{step: "documents", then: func() { publishtest.MustPublish(t, m, dir, publishtest.Only("openssl")) }})
			publishtest.Must(t, err)
			if m.Snapshot()[document] != nil {
				t.Errorf("%s: %s is left", fixture, document)
			}
			if publishtest.SubjectOf(t, m).Find("openssl") == "" {
				t.Errorf("%s: openssl is gone", fixture)
			}
			wantWhole(t, m)
		})
	}
}

// A rollback that has stored its record before a prune gives notice, and replaces the index after that, takes something out that clients have read
// until then. It stays until the next prune.
func TestWhatARollbackTakesOutBehindTheNoticeStays(t *testing.T) {
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		synctest.Test(t, func(t *testing.T) {
			m := mirrortest.NewMem(t, mirrortest.LetBe)
			_, f, k := zlibKept(t, m, fixture)
			document := publishtest.SubjectOf(t, m).Find("munge")
			time.Sleep(30 * day)
			h := &held{Mem: m, there: make(chan struct{}), goOn: make(chan struct{}), before: func(c mirrortest.Call) bool {
				return c.Op == mirrortest.Swap && c.Name == f.IndexNames()[0]
			}}
			var rolled sync.WaitGroup
			rolled.Go(func() { rollBack(t, f, h) })
			<-h.there
			time.Sleep(time.Minute)
			careful := careful(k)
			b := mirrortest.Break(m)
			let := sync.OnceFunc(func() {
				time.Sleep(2 * time.Minute) // a client reads the index
				close(h.goOn)
				rolled.Wait()
			})
			b.AfterEach(func(c mirrortest.Call) {
				if c.Op == mirrortest.Swap && c.Name == notice.Name {
					let()
				}
			})
			_, err := mustPlan(t, m, careful).Apply(t.Context(), b, m, silent{})
			publishtest.Must(t, err)
			if m.Snapshot()[document] == nil {
				t.Errorf("%s: it is gone for clients that read the index before", fixture)
			}
			time.Sleep(time.Hour)
			mustPrune(t, m, careful)
			if m.Snapshot()[document] != nil {
				t.Errorf("%s: the next prune leaves it", fixture)
			}
			wantWhole(t, m)
		})
	}
}

func rollBack(t *testing.T, f buildcache.Layout, s mirror.Store) {
	p, err := rollback.NewPlan(t.Context(), rollback.Mirror{Layout: f, Store: s}, rollback.Target{})
	if err == nil {
		_, err = p.Apply(t.Context())
	}
	if err != nil {
		t.Error(err)
	}
}

// A prune that loses a race for the index has itself left a record of what it takes out, and deletes that all the same.
func TestAPruneThatLosesARace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		b := mirrortest.Break(m, mirrortest.Nth(1, mirrortest.Conflict(layout.V3Index)))
		_, err := mustPlan(t, m, careful(Keep{Hashes: hashes("zlib")})).Apply(t.Context(), b, m, silent{})
		publishtest.Must(t, err)
		if got := packagesOf(m.Snapshot()); len(got) != 4 { // zlib, and what it needs
			t.Errorf("%v are left", got)
		}
		wantWhole(t, m)
	})
}

// A publisher that has found its content in the mirror, and stops for any time right before it stores a document or replaces the
// index, publishes what can be installed: the content was deleted by no prune, or is sent again.
func TestAPublisherStopsBesideAPrune(t *testing.T) {
	for what, before := range map[string]func(mirrortest.Call) bool{
		"before the document": isDocument,
		"before the index":    func(c mirrortest.Call) bool { return c.Op == mirrortest.Swap && c.Name == layout.V3Index },
		"before the objection": func(c mirrortest.Call) bool {
			return strings.HasPrefix(c.Name, notice.Objections)
		},
	} {
		// When the prune begins, before the publisher continues; and for how long the publisher stands still.
		for _, pause := range []time.Duration{0, time.Second, notice.Fresh - time.Second, 14*time.Minute - time.Second, 15*time.Minute + time.Second, 29 * time.Minute, 31 * time.Minute, 2 * time.Hour} {
			if before(mirrortest.Call{Op: mirrortest.Create, Name: "v3/manifests/spec/zlib/zlib-1-" + strings.Repeat("a", 32) + ".spec.manifest.json"}) && pause >= notice.Fresh {
				continue // a publisher that has looked stores its document within that time
			}
			t.Run(fmt.Sprint(what, " for ", pause), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { stops(t, before, pause) })
			})
		}
	}
}

// A publisher that stops between its plan and what it does finds there what another one has left since, which is not as young as if it had been
// sent just now: no prune deletes what it comes to rely on.
func TestAnOldPlanBesideAPrune(t *testing.T) {
	for what, fails := range map[string]mirrortest.Fault{
		"content was left":   mirrortest.Fail("v3/manifests/spec/munge", mirrortest.ErrInjected),
		"a document as well": mirrortest.Fail(layout.V3Index, mirrortest.ErrInjected),
	} {
		// When the plan is carried out after the prune was planned.
		for _, after := range []time.Duration{time.Second, notice.Fresh, 15*time.Minute - time.Second, 15*time.Minute + time.Second} {
			t.Run(fmt.Sprint(what, ", ", after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := publishtest.EmptyMirror(t)
					dir := publishtest.Original("v3-unsigned")
					publishtest.MustPublish(t, m, dir, publishtest.Only("zlib"))
					o := publishtest.Only("munge")
					old, err := publish.NewPlan(t.Context(), publishtest.SourceOf(t, dir, o.Selection), func(string) mirror.Store { return m }, o)
					publishtest.Must(t, err)
					if _, err := publishtest.PublishTo(t, mirrortest.Break(m, fails), dir, o); err == nil {
						t.Fatal("the other publisher has not failed")
					}
					time.Sleep(30 * day)
					prune := mustPlan(t, m, careful(Keep{}))
					pruned := make(chan error, 1)
					go func() {
						_, err := prune.Apply(t.Context(), m, m, silent{})
						pruned <- err
					}()
					time.Sleep(after)
					_, err = old.Apply(t.Context(), publishtest.Ignored{})
					publishtest.Must(t, err)
					publishtest.Must(t, <-pruned)
					wantWhole(t, m)
					if !offers(t, m, "munge") {
						t.Error("munge is not offered")
					}
				})
			})
		}
	}
}

// stops lets a publisher whose content is there stop beside a prune.
func stops(t *testing.T, before func(mirrortest.Call) bool, pause time.Duration) {
	m := publishtest.EmptyMirror(t)
	dir := publishtest.Original("v3-unsigned")
	publishtest.MustPublish(t, m, dir, publishtest.Only("zlib"))
	// Another publisher has sent its content, and died before it stored a document.
	b := mirrortest.Break(m, mirrortest.Fail("v3/manifests/spec/munge", mirrortest.ErrInjected))
	publishtest.PublishTo(t, b, dir, publishtest.Only("munge"))
	time.Sleep(30 * day)

	h := &held{Mem: m, before: before, there: make(chan struct{}), goOn: make(chan struct{})}
	published := make(chan error, 1)
	pruned := make(chan error, 1)
	prune := func() {
		p, err := New(t.Context(), m, careful(Keep{}))
		if err == nil {
			_, err = p.Apply(t.Context(), m, m, silent{})
		}
		pruned <- err
	}
	objects := before(mirrortest.Call{Op: mirrortest.Create, Name: notice.Objections})
	if objects { // the notice comes first
		go prune()
		time.Sleep(time.Minute)
	}
	go func() {
		_, err := publishtest.PublishTo(t, h, dir, publishtest.Only("munge"))
		published <- err
	}()
	<-h.there
	if !objects {
		go prune()
	}
	time.Sleep(pause)
	close(h.goOn)
	if err := <-published; err != nil {
		t.Error(err)
	}
	if err := <-pruned; err != nil {
		t.Error(err)
	}
	if err := publishtest.NewReader().Look(m.Snapshot()); err != nil {
		t.Error(err)
	}
	if !offers(t, m, "munge") {
		t.Error("munge is not offered")
	}
}

// A writer that pauses between its look for a prune and the switch of the index offers nothing that was deleted meanwhile.
func TestWhatComesBackSlowlyBesideAPrune(t *testing.T) {
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		for what, begin := range map[string]func(t *testing.T, m *mirrortest.Mem, f buildcache.Layout) (again func(mirror.Store) error){
			"rollback": rolledBack, "undo": halfUndone, "heal": unindexed, "publish": unindexedAndPublished,
		} {
			for _, pause := range []time.Duration{time.Minute, 14 * time.Minute, 16 * time.Minute, 31 * time.Minute, 2 * time.Hour} {
				t.Run(fmt.Sprint(what, " in ", fixture, " for ", pause), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						m := mirrortest.NewMem(t, mirrortest.LetBe)
						_, f, k := zlibKept(t, m, fixture)
						again := begin(t, m, f)
						time.Sleep(30 * day)
						h := &held{Mem: m, there: make(chan struct{}), goOn: make(chan struct{}), before: func(c mirrortest.Call) bool {
							return c.Op == mirrortest.Create && strings.HasPrefix(c.Name, history.Dir)
						}}
						back, pruned := make(chan error, 1), make(chan error, 1)
						go func() { back <- again(h) }()
						<-h.there
						go func() {
							_, err := mustPlan(t, m, careful(k)).Apply(t.Context(), m, m, silent{})
							pruned <- err
						}()
						time.Sleep(pause)
						close(h.goOn)
						var gone *buildcache.FindingsError
						if err := <-back; err != nil && !errors.Is(err, notice.ErrAtWork) && !errors.As(err, &gone) || pause < notice.Fresh && err != nil {
							t.Error(err)
						}
						if err := <-pruned; err != nil {
							t.Error(err)
						}
						publishtest.Must(t, publishtest.NewReader().Look(m.Snapshot()))
						inTime := pause < notice.Fresh || what == "publish" // which objects, and sends again
						if got := publishtest.IndexOf(t, m.Snapshot(), f.Name()).Offered(); len(got) != map[bool]int{true: 2, false: 1}[inTime] {
							t.Errorf("offered are %v", got)
						}
					})
				})
			}
		}
	}
}

// rolledBack takes the last package out, and returns what brings it back.
func rolledBack(t *testing.T, m *mirrortest.Mem, f buildcache.Layout) func(mirror.Store) error {
	roll := func(s mirror.Store, to int) error {
		p, err := rollback.NewPlan(t.Context(), rollback.Mirror{Layout: f, Store: s}, rollback.Target{Generation: to})
		if err == nil {
			_, err = p.Apply(t.Context())
		}
		return err
	}
	publishtest.Must(t, roll(m, 1))
	return func(s mirror.Store) error { return roll(s, 2) }
}

// unindexed takes a package out as a prune does, and returns what heals that.
func unindexed(t *testing.T, m *mirrortest.Mem, f buildcache.Layout) func(mirror.Store) error {
	document := publishtest.SubjectOf(t, m).Find("munge")
	id, _ := f.ParsePackageName(document)
	_, err := reindex.Replace(t.Context(), f, m, func(_ context.Context, _ *buildcache.Pointer, now *indices.Set) (*indices.Set, error) {
		return now.Without(map[spec.Hash]bool{id.Hash: true})
	})
	publishtest.Must(t, err)
	return func(s mirror.Store) error {
		_, err := reindex.Heal(t.Context(), s, buildcache.Trust{}, reindex.Changes{Names: []string{document}})
		return err
	}
}

func unindexedAndPublished(t *testing.T, m *mirrortest.Mem, f buildcache.Layout) func(mirror.Store) error {
	unindexed(t, m, f)
	return func(s mirror.Store) error {
		_, err := publishtest.PublishTo(t, s, publishtest.Original(f.Name()+"-unsigned"), publishtest.Only("munge"))
		return err
	}
}

// halfUndone withdraws a package, and lets the undo die once it has restored the document. It returns what undoes it.
func halfUndone(t *testing.T, m *mirrortest.Mem, f buildcache.Layout) func(mirror.Store) error {
	document := publishtest.SubjectOf(t, m).Find("munge")
	id, _ := f.ParsePackageName(document)
	w := withdraw.Mirror{Layout: f, Store: m, Deleter: m}
	_, err := w.Withdraw(t.Context(), []withdraw.Package{{Hash: id.Hash, ID: "munge@0.5.16", Documents: []string{document}}}, "CVE-2026-1")
	publishtest.Must(t, err)
	undo := func(s mirror.Store) error {
		all, err := w.Undoable(t.Context())
		publishtest.Must(t, err)
		_, err = withdraw.Mirror{Layout: f, Store: s, Deleter: m}.Undo(t.Context(), all)
		return err
	}
	index := mirrortest.Fail(f.IndexNames()[0], mirrortest.ErrInjected)
	if err := undo(mirrortest.Break(m, mirrortest.On(mirrortest.Swap, index))); !errors.Is(err, mirrortest.ErrInjected) {
		t.Errorf("%v", err)
	}
	return undo
}

// allRounds is what make faults asks for: go test ./publish/prune -args -thorough.
var allRounds = flag.Bool("thorough", false, "all rounds of publishers beside prunes")

// Publishers, a rebuilder and pruners with different rules work at once on one mirror for some days, while a client looks after each
// change. Nothing that can be reached is ever missing, and what was published after the last prune is offered.
func TestPublishersBesidePrunes(t *testing.T) {
	rounds := 4
	switch {
	case *allRounds:
		rounds = 12
	case testing.Short():
		rounds = 3
	}
	packages := []string{"zlib", "openssl", "munge", "hwloc", "libevent", "pmix", "slurm", "openmpi"}
	sources := make(map[string]string)
	for _, p := range packages {
		sources[p] = publishtest.Original("v3-unsigned")
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mirrortest.NewMem(t, mirrortest.LetBe)
				client := publishtest.NewReader()
				b := mirrortest.Break(m)
				b.AfterEach(func(c mirrortest.Call) {
					if c.Op.Mutates() {
						if err := client.Look(m.Snapshot()); err != nil && !t.Failed() {
							t.Errorf("after %v: %v", c, err)
						}
					}
				})
				s := slow{b, rand.New(rand.NewPCG(uint64(seed), 1)), new(sync.Mutex)}
				ctx, stop := context.WithTimeout(t.Context(), 5*day)
				defer stop()
				var g sync.WaitGroup
				for _, pkg := range packages {
					g.Go(func() { publishes(t, ctx, s, sources[pkg], pkg) })
				}
				g.Go(func() { prunes(t, ctx, s, m) })
				g.Wait()
				for _, pkg := range packages {
					publishtest.MustPublish(t, b, sources[pkg], publishtest.Only(pkg))
				}
				publishtest.MustPublish(t, b, sources["zlib"], publish.Options{})
				offered := strings.Join(publishtest.IndexOf(t, m.Snapshot(), "v3").Offered(), " ")
				for _, pkg := range packages {
					if !strings.Contains(offered, pkg+"/") {
						t.Errorf("%s is not offered: %s", pkg, offered)
					}
				}
			})
		})
	}
}

// publishes publishes a package again and again, and sometimes dies of it.
func publishes(t *testing.T, ctx context.Context, s slow, dir, pkg string) {
	for ctx.Err() == nil {
		s.sleep(8 * time.Hour)
		var store mirrortest.Store = s
		if s.draw(4) == 0 {
			store = slow{mirrortest.Break(s, mirrortest.Kill(s.draw(25))), s.random, s.mu}
		}
		src, err := source.Open(ctx, dir, source.Selection{Include: []string{pkg}})
		if err != nil {
			return
		}
		p, err := publish.NewPlan(t.Context(), src, func(string) mirror.Store { return store }, publish.Options{})
		if err == nil {
			s.sleep(20 * time.Minute)
			_, err = p.Apply(t.Context(), publishtest.Ignored{})
		}
		src.Close()
		if err != nil && store == mirrortest.Store(s) {
			t.Errorf("publish %s: %v", pkg, err)
		}
	}
}

// prunes prunes again and again with rules that keep little. Sometimes it dies, or the index is rebuilt.
func prunes(t *testing.T, ctx context.Context, s slow, m *mirrortest.Mem) {
	for ctx.Err() == nil {
		s.sleep(2 * time.Hour)
		o := Options{Keep: Keep{Newer: 2 * time.Hour}, MinAge: time.Hour, Grace: 2 * notice.Fresh, Settle: 30 * time.Second, AllowEmpty: true}
		var store mirrortest.Store = s
		dies := s.draw(4) == 0
		if dies {
			store = slow{mirrortest.Break(s, mirrortest.Kill(s.draw(150))), s.random, s.mu}
		}
		p, err := New(t.Context(), store, o)
		if err == nil {
			_, err = p.Apply(t.Context(), store, store, silent{})
		}
		if err != nil && !dies && !strings.Contains(err.Error(), "at work") && !strings.Contains(err.Error(), "no Spack mirror") {
			t.Errorf("prune: %v", err)
		}
		if s.draw(3) == 0 {
			reindex.Rebuild(t.Context(), s, publish.Options{}.Trust)
		}
	}
}

// slow is a store each of whose requests takes some time.
type slow struct {
	mirrortest.Store
	random *rand.Rand
	mu     *sync.Mutex
}

func (s slow) draw(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

func (s slow) sleep(most time.Duration) { time.Sleep(time.Duration(s.draw(int(most)))) }

// take is how long a request takes: mostly little, at times a while.
func (s slow) take() {
	if s.draw(20) == 0 {
		s.sleep(4 * time.Second)
		return
	}
	s.sleep(100 * time.Millisecond)
}

func (s slow) Open(ctx context.Context, name string) (*mirror.Object, error) {
	s.take()
	return s.Store.Open(ctx, name)
}

func (s slow) Create(ctx context.Context, u mirror.Upload) error {
	s.take()
	defer s.take()
	return s.Store.Create(ctx, u)
}

func (s slow) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	s.take()
	defer s.take()
	return s.Store.Swap(ctx, u, was)
}

func (s slow) Delete(ctx context.Context, name string, was mirror.Version) error {
	s.take()
	return s.Store.Delete(ctx, name, was)
}

// A package that a prune has taken out of the index, and is about to delete, is published again at any moment of it: a publisher that
// succeeds has its package in the index, and a client can install it when the prune has ended.
func TestAPackageIsPublishedAgainBesideAPrune(t *testing.T) {
	for _, after := range []time.Duration{time.Second, time.Minute, 14*time.Minute + 50*time.Second, 15*time.Minute + 10*time.Second, 29 * time.Minute, time.Hour} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprint(after, " killed ", killed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := publishtest.EmptyMirror(t)
					dir := publishtest.Original("v3-unsigned")
					publishtest.MustPublish(t, m, dir, publishtest.Only("munge"))
					publishtest.MustPublish(t, m, dir, publishtest.Only("zlib"))
					time.Sleep(30 * day)
					var pruner mirrortest.Store = m
					if killed {
						b := mirrortest.Break(m)
						b.AfterEach(func(c mirrortest.Call) {
							if c.Op == mirrortest.Swap && c.Name == layout.V3Index {
								time.Sleep(100 * day) // killed right after the index, as everybody else sees it
							}
						})
						pruner = b
					}
					pruned := make(chan error, 1)
					go func() {
						p, err := New(t.Context(), pruner, careful(Keep{Hashes: hashes("zlib")}))
						if err == nil {
							_, err = p.Apply(t.Context(), pruner, m, silent{})
						}
						pruned <- err
					}()
					time.Sleep(after)
					out, err := publishtest.PublishTo(t, m, dir, publishtest.Only("munge"))
					if err != nil {
						t.Fatal(err)
					}
					if w := publishtest.Warnings(out.Findings, "munge"); len(w) > 0 {
						t.Errorf("%v", w)
					}
					if !offers(t, m, "munge") {
						t.Error("munge is not offered")
					}
					if err := <-pruned; err != nil && !killed {
						t.Error(err)
					}
					if err := publishtest.NewReader().Look(m.Snapshot()); err != nil {
						t.Error(err)
					}
					if !offers(t, m, "munge") {
						t.Error("munge is not offered any more")
					}
				})
			})
		}
	}
}

// While a prune is at work, a package that a publisher finds in the mirror and does not publish is left to the next one. The publisher
// does not say that it was healed, and no other publisher takes it along.
func TestWhatAPruneTookOutIsNotHealedBesideIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := publishtest.EmptyMirror(t)
		dir := publishtest.Original("v3-unsigned")
		publishtest.MustPublish(t, m, dir, publishtest.Only("munge"))
		time.Sleep(30 * day)
		pruned := make(chan error, 1)
		go func() {
			o := careful(Keep{Newer: day})
			o.AllowEmpty = true
			_, err := mustPlan(t, m, o).Apply(t.Context(), m, m, silent{})
			pruned <- err
		}()
		time.Sleep(time.Minute)
		out := publishtest.MustPublish(t, m, dir, publishtest.Only("zlib"))
		if ix := out.Mirrors[0].Index; len(ix.Healed) > 0 || len(publishtest.Warnings(out.Findings, "at work")) == 0 {
			t.Errorf("healed %v, %v", ix.Healed, out.Findings)
		}
		if err := <-pruned; err != nil {
			t.Error(err)
		}
		wantWhole(t, m)
	})
}

func offers(t *testing.T, m *mirrortest.Mem, name string) bool {
	t.Helper()
	r, ok := publishtest.IndexOf(t, m.Snapshot(), "v3")[known[name]]
	return ok && r.InBuildcache
}

// What a prune has deleted between the plan of a publisher and the publish itself is sent again.
func TestWhatAPruneDeletesAfterThePlanIsSentAgain(t *testing.T) {
	for _, at := range []time.Duration{20 * time.Minute, 2 * time.Hour} { // documents are gone, and content too
		synctest.Test(t, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			dir := publishtest.Original("v3-unsigned")
			publishtest.MustPublish(t, m, dir, publishtest.Only("munge"))
			publishtest.MustPublish(t, m, dir, publishtest.Only("zlib"))
			time.Sleep(30 * day)
			pruned := make(chan error, 1)
			go func() {
				_, err := mustPlan(t, m, careful(Keep{Hashes: hashes("zlib")})).Apply(t.Context(), m, m, silent{})
				pruned <- err
			}()
			time.Sleep(time.Minute)
			plan := publishtest.MustPlan(t, m, dir, publishtest.Only("munge"))
			time.Sleep(at)
			if _, err := plan.Apply(t.Context(), publishtest.Ignored{}); err != nil {
				t.Error(err)
			}
			if err := <-pruned; err != nil {
				t.Error(err)
			}
			if err := publishtest.NewReader().Look(m.Snapshot()); err != nil || !offers(t, m, "munge") {
				t.Errorf("munge is offered: %t, %v", offers(t, m, "munge"), err)
			}
		})
	}
}

// A package that is published again while a prune is at work keeps all that it needs, also what only the mirror has.
func TestWhatAPublishedPackageNeedsStaysBesideAPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := publishtest.EmptyMirror(t)
		dir := publishtest.Original("v3-unsigned")
		publishtest.MustPublish(t, m, dir, publish.Options{})
		time.Sleep(30 * day)
		pruned := make(chan error, 1)
		go func() {
			_, err := mustPlan(t, m, careful(Keep{Hashes: hashes("zlib")})).Apply(t.Context(), m, m, silent{})
			pruned <- err
		}()
		time.Sleep(time.Minute)
		out := publishtest.MustPublish(t, m, dir, publishtest.Only("slurm"))
		if w := publishtest.Warnings(out.Findings, "openssl"); len(w) > 0 {
			t.Errorf("%v", w)
		}
		if err := <-pruned; err != nil {
			t.Error(err)
		}
		for _, name := range []string{"slurm", "munge", "openssl"} {
			if !offers(t, m, name) {
				t.Errorf("%s is not offered", name)
			}
		}
		wantWhole(t, m)
	})
}
