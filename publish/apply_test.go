package publish_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// Whatever fails at whatever call: a client finds a mirror that works, at every moment and
// afterwards, and the next run ends where an undisturbed one does.
func TestEveryFaultAtEveryCall(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m, dir, o := publishtest.Scene(t, l)
		b := mirrortest.Break(m)
		publishtest.MustPublish(t, b, dir, o)
		calls, changes := len(b.Calls()), len(b.Mutations())
		want := publishtest.Settled(t, m.Snapshot())
		t.Logf("%s: %d calls, %d of them changes", l, calls, changes)
		for _, row := range []struct {
			name  string
			calls int
			fault func(k int) mirrortest.Fault
		}{
			{"lost on its way", changes, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Drop("")) }},
			{"answer lost", changes, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Lie("")) }},
			{"too late", changes, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Conflict("")) }},
			{"denied", calls, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Fail("", mirrortest.Refusals[1])) }},
			{"full", changes, func(k int) mirrortest.Fault {
				return mirrortest.Nth(k, mirrortest.Fail("", mirror.ErrFull))
			}},
			{"cut", calls - changes, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Cut("", 1)) }},
			{"killed", calls, mirrortest.Kill},
		} {
			t.Run(l+" "+row.name, func(t *testing.T) {
				t.Parallel()
				client := publishtest.NewReader()
				for k := 1; k <= row.calls; k++ {
					m, dir, o := publishtest.Scene(t, l)
					b := mirrortest.Break(m, row.fault(k))
					b.AfterEach(func(c mirrortest.Call) {
						if !c.Op.Mutates() {
							return
						}
						if err := client.Look(m.Snapshot()); err != nil {
							t.Errorf("fault %d, after %s: %v", k, c, err)
						}
					})
					out, err := publishtest.PublishTo(t, b, dir, o)
					if err := client.Look(m.Snapshot()); err != nil {
						t.Errorf("fault %d, after the run: %v", k, err)
					}
					if err == nil && len(out.Findings) == 0 {
						// A conflict is taken up again, and where another's package could not be
						// read there is a warning. Nothing else is overlooked.
						if diff := mirrortest.Diff(want, publishtest.Settled(t, m.Snapshot())); diff != "" {
							t.Errorf("fault %d: a run that is said to have succeeded:\n%s", k, diff)
						}
					}
					if _, err := publishtest.PublishTo(t, m, dir, o); err != nil {
						t.Errorf("fault %d: second run: %v", k, err)
					}
					if diff := mirrortest.Diff(want, publishtest.Settled(t, m.Snapshot())); diff != "" {
						t.Errorf("fault %d, after the second run:\n%s", k, diff)
					}
					m.Forget()
					if _, err := publishtest.PublishTo(t, m, dir, o); err != nil || len(m.Mutations()) > 0 {
						t.Errorf("fault %d: third run: %v, %v", k, err, m.Mutations())
					}
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

// What was stored before a run died is not sent again, but for the record of a switch that was not made: it says when and by whom.
func TestNothingIsSentTwice(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m, dir, o := publishtest.Scene(t, l)
		b := mirrortest.Break(m)
		publishtest.MustPublish(t, b, dir, o)
		for k := range len(b.Calls()) {
			m, dir, o := publishtest.Scene(t, l)
			before := len(published(m))
			if _, err := publishtest.PublishTo(t, mirrortest.Break(m, mirrortest.Kill(k)), dir, o); err == nil {
				t.Errorf("%s, killed after %d calls: no error", l, k)
			}
			publishtest.MustPublish(t, m, dir, o)
			once := map[string]int{}
			for _, name := range published(m)[before:] {
				if once[name]++; once[name] > 1 {
					t.Errorf("%s, killed after %d calls: %s was sent again", l, k, name)
				}
			}
		}
	}
}

// A loser of every race does not try for ever and says so.
func TestIndexThatNeverHoldsStill(t *testing.T) {
	m, dir, o := publishtest.Scene(t, "v3")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lost := 0
	b := mirrortest.Break(m, mirrortest.Conflict(layout.V3Index))
	b.AfterEach(func(c mirrortest.Call) {
		if c.Op == mirrortest.Swap && c.Name == layout.V3Index {
			if lost++; lost == 4 {
				cancel()
			}
		}
	})
	src := publishtest.SourceOf(t, dir, o.Selection)
	p, err := publish.NewPlan(ctx, src, func(string) mirror.Store { return b }, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(ctx, publishtest.Ignored{}); !errors.Is(err, context.Canceled) || lost < 4 {
		t.Errorf("after %d lost races: %v", lost, err)
	}
}

// Any number of publishers may write one mirror, and no package of any is lost.
func TestPublishersAtOnceLoseNothing(t *testing.T) {
	const publishers, rounds = 8, 3
	// Each publishes two packages, and each package is published by several.
	sets := [][]string{{"zlib", "openssl"}, {"openssl", "munge"}, {"munge", "hwloc"}, {"hwloc", "libevent"}, {"libevent", "pmix"}, {"pmix", "slurm"}, {"slurm", "gcc"}, {"gcc-runtime", "zlib"}}
	for _, l := range []string{"v3", "v2"} {
		t.Run(l, func(t *testing.T) {
			for range rounds {
				m := publishtest.EmptyMirror(t)
				client := publishtest.NewReader()
				b := mirrortest.Break(m)
				b.AfterEach(func(c mirrortest.Call) {
					if c.Op == mirrortest.Swap {
						if err := client.Look(m.Snapshot()); err != nil {
							t.Errorf("after %s: %v", c, err)
						}
					}
				})
				var wg sync.WaitGroup
				for i := range publishers {
					wg.Go(func() {
						if _, err := publishtest.PublishTo(t, b, publishtest.Original(l+"-signed"), publishtest.Only(sets[i]...)); err != nil {
							t.Errorf("publisher %d: %v", i, err)
						}
					})
				}
				wg.Wait()
				got := publishtest.IndexOf(t, m.Snapshot(), l)
				names := slices.Sorted(maps.Keys(publishtest.WithoutIndex(t, m.Snapshot())))
				documents := 0
				for _, name := range names {
					if publishtest.IsDocument(name) {
						documents++
					}
				}
				if documents != 9 || len(got.Offered()) != documents {
					t.Errorf("%d documents, the index offers %q", documents, got.Offered())
				}
				if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(publishtest.IndexOf(t, m.Snapshot(), l), got); diff != "" {
					t.Errorf("rebuilt (-) and merged (+) differ:\n%s", diff)
				}
			}
		})
	}
}

// stepping calls what is to happen when a step begins.
type stepping map[string]func()

func (stepping) Sent(string, int64, int64) {}
func (stepping) Stored(string, int64)      {}
func (s stepping) Step(_, step string) {
	if f := s[step]; f != nil {
		f()
	}
}

// watched collects what progress is told of.
type watched struct {
	mu    sync.Mutex
	names map[string]bool
}

func (*watched) Step(string, string)  {}
func (*watched) Stored(string, int64) {}
func (w *watched) Sent(name string, _, _ int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[name] = true
}

// Nobody knows a blob by its digest.
func TestProgressNamesPackages(t *testing.T) {
	w := &watched{names: make(map[string]bool)}
	p := publishtest.MustPlan(t, publishtest.EmptyMirror(t), publishtest.Original("v3-signed"), publishtest.Only("zlib"))
	if _, err := p.Apply(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if id := p.Mirrors[0].Packages[0].ID(); !w.names[id] {
		t.Errorf("%s is not among %v", id, w.names)
	}
	for _, b := range p.Mirrors[0].Packages[0].Blobs {
		if w.names[b.Name] {
			t.Errorf("%s is told by its digest", b.Name)
		}
	}
}

// After cancel no write starts, and what is said is not that all went well.
func TestCancelStopsBeforeTheNextWrite(t *testing.T) {
	for _, mode := range []publish.IndexMode{publish.IndexMerge, publish.IndexNone} {
		for _, step := range []string{"blobs", "manifests"} {
			m := publishtest.EmptyMirror(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := publishtest.MustPlan(t, m, publishtest.Original("v3-unsigned"), publish.Options{Index: mode})
			var at int
			_, err := p.Apply(ctx, stepping{step: func() { cancel(); at = len(m.Stored()) }})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("--index %s, cancelled before %s: %v", mode, step, err)
			}
			if len(m.Stored()) != at {
				t.Errorf("--index %s, cancelled before %s: stored %q", mode, step, m.Stored()[at:])
			}
		}
	}
}

// Content that is not what documents promise is found before any document is written,
// all of it in one run; with KeepGoing the rest is published, but nothing that
// depends on what is bad.
func TestBadContentIsNeverReachable(t *testing.T) {
	damages := map[string]func(t testing.TB, name string){
		"flipped after the plan": publishtest.FlipFile,
		"cut after the plan": func(t testing.TB, name string) {
			if err := os.Truncate(name, 10); err != nil {
				t.Fatal(err)
			}
		},
		"gone after the plan": func(t testing.TB, name string) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		},
	}
	for _, l := range []string{"v3", "v2"} {
		for what, damage := range damages {
			for _, keep := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s, keep going %t", l, what, keep), func(t *testing.T) {
					dir := publishtest.Copied(t, l+"-signed")
					m := publishtest.EmptyMirror(t)
					p := publishtest.MustPlan(t, m, dir, publish.Options{KeepGoing: keep})
					for _, pkg := range []string{"munge", "libevent"} {
						damage(t, publishtest.ContentFile(t, dir, pkg))
					}
					out, err := p.Apply(t.Context(), publishtest.Ignored{})
					wantBad(t, m, out, err, keep, l)
				})
			}
		}
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s flipped before, keep going %t", l, keep), func(t *testing.T) {
				dir := publishtest.Copied(t, l+"-signed")
				for _, pkg := range []string{"munge", "libevent"} {
					publishtest.FlipFile(t, publishtest.ContentFile(t, dir, pkg))
				}
				m := publishtest.EmptyMirror(t)
				p := publishtest.MustPlan(t, m, dir, publish.Options{KeepGoing: keep})
				out, err := p.Apply(t.Context(), publishtest.Ignored{})
				wantBad(t, m, out, err, keep, l)
			})
		}
	}
}

// wantBad expects that munge and libevent were found bad, and pmix and slurm with them.
func wantBad(t *testing.T, m *mirrortest.Mem, out *publish.Outcome, err error, keep bool, l string) {
	t.Helper()
	var found *buildcache.FindingsError
	if !errors.As(err, &found) {
		t.Fatalf("error is %v", err)
	}
	bad := 0
	for _, f := range out.Findings {
		if f.Severity == buildcache.Error {
			bad++
		}
	}
	wantRejected := []string{"libevent", "munge", "pmix", "slurm"}
	if l == "v3" {
		wantRejected = []string{"libevent", "munge", "openmpi", "pmix", "slurm"}
	}
	if bad != len(wantRejected) {
		t.Errorf("findings: %v", out.Findings)
	}
	var rejected []string
	for pkg, s := range publishtest.Statuses(out) {
		if s == publish.Rejected {
			rejected = append(rejected, pkg)
		}
	}
	slices.Sort(rejected)
	if diff := cmp.Diff(wantRejected, rejected); diff != "" {
		t.Errorf("rejected (-want +got):\n%s", diff)
	}
	if !keep {
		if len(publishtest.Fixed(m)) != 0 {
			t.Errorf("stored all the same: %q", publishtest.Fixed(m))
		}
		return
	}
	good := 0
	for _, h := range publishtest.IndexOf(t, m.Snapshot(), l).Offered() {
		name, _, _ := strings.Cut(h, "/")
		if slices.Contains(wantRejected, name) {
			t.Errorf("offered: %s", h)
		}
		good++
	}
	if want := len(publishtest.Statuses(out)) - len(wantRejected); good != want {
		t.Errorf("%d packages are offered, want %d", good, want)
	}
	for name := range m.Snapshot() {
		for _, pkg := range wantRejected {
			if publishtest.IsDocument(name) && strings.Contains(name, pkg+"-") {
				t.Errorf("reachable: %s", name)
			}
		}
	}
}

// In layout v2 the content of a package has a fixed name: that of another build is never
// taken for it, nor replaced.
func TestV2NeverJoinsTwoBuilds(t *testing.T) {
	for _, size := range []string{"same", "other"} {
		dir := publishtest.Original("v2-signed")
		m := publishtest.EmptyMirror(t)
		tarball, err := filepath.Rel(dir, publishtest.ContentFile(t, dir, "zlib"))
		if err != nil {
			t.Fatal(err)
		}
		other := slices.Clone(publishtest.ContentOf(t, dir)[tarball])
		if size == "same" {
			other[len(other)/2] ^= 1
		} else {
			other = append(other, "more"...)
		}
		m.Plant(tarball, other)
		_, err = publishtest.PublishTo(t, m, dir, publishtest.Only("zlib"))
		if err == nil {
			t.Errorf("%s size: no error", size)
		}
		if lookErr := publishtest.NewReader().Look(m.Snapshot()); lookErr != nil {
			t.Errorf("%s size: %v", size, lookErr)
		}
		if string(m.Snapshot()[tarball]) != string(other) {
			t.Errorf("%s size: it was replaced", size)
		}
	}
}

// An index is said to be written only if it was. Here, all that is new turns out to be damaged.
func TestAnIndexThatWasNotWrittenIsNotSaidToBe(t *testing.T) {
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		t.Run(fixture, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			dir := publishtest.Copied(t, fixture)
			publishtest.MustPublish(t, m, dir, publish.Options{Selection: source.Selection{Exclude: []string{"zlib*"}}})
			publishtest.FlipFile(t, publishtest.ContentFile(t, dir, "zlib"))
			p := publishtest.MustPlan(t, m, dir, publish.Options{KeepGoing: true})
			out, err := p.Apply(t.Context(), publishtest.Ignored{})
			if err == nil {
				t.Error("what is damaged is no error")
			}
			if ix := out.Mirrors[0].Index; ix.Written || ix.Changes || len(out.Stale) > 0 {
				t.Errorf("written %v, changes %v, stale %q", ix.Written, ix.Changes, out.Stale)
			}
		})
	}
}

// Another publisher was faster and has put into the index what this one would have: nothing is written then, and caches
// may have what was there before all the same.
func TestAnIndexThatAnotherPublisherWroteIsStale(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("hwloc"))
	p := publishtest.MustPlan(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("zlib"))
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publish.Options{}) // and more
	out, err := p.Apply(t.Context(), publishtest.Ignored{})
	if err != nil {
		t.Fatal(err)
	}
	if out.Mirrors[0].Index.Written || len(out.Stale) != 1 {
		t.Errorf("written %v, stale %q", out.Mirrors[0].Index.Written, out.Stale)
	}
}
