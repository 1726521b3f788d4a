package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// timed runs a test in virtual time: an hour takes no time at all.
func timed(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestWhatAppearsTogetherIsPublishedTogether(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		m := y.mirror("noble")
		all := y.fill(100)
		d := begin(t, t.TempDir(), m)
		time.Sleep(3 * time.Second)
		if n := y.has(all...); n != 100 || len(y.ran()) != 1 {
			t.Errorf("%d published in runs of %v", n, y.ran())
		}
		if n := d.count(t, m, queue.Published); n != 100 {
			t.Errorf("%d jobs are published", n)
		}
	})
}

// Without a hint, a package is published after the next scan. What keeps coming is published
// while it comes.
func TestPackagesAreFoundByScanning(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		begin(t, t.TempDir(), y.mirror("noble"))
		time.Sleep(90 * time.Second)
		y.put("spec/late", parcel{})
		appeared := time.Now()
		time.Sleep(2 * time.Minute)
		at := y.when("sha256 of spec/late")
		if at.IsZero() || at.Sub(appeared) > 33*time.Second {
			t.Errorf("published %v after it appeared", at.Sub(appeared))
		}
	})
}

func TestNobodyIsAskedAnythingWhileIdle(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.caches = true
		y.fill(20)
		d := begin(t, t.TempDir(), y.mirror("noble"))
		time.Sleep(time.Minute)
		before := y.asked()
		if before != 2 {
			t.Errorf("%d requests for 20 packages, want one run and one invalidation", before)
		}
		time.Sleep(5 * time.Minute)
		if n := y.asked() - before; n != 0 {
			t.Errorf("%d requests in five idle minutes", n)
		}
		if _, err := d.Drain(t.Context(), func(daemon.Drained) {}); err != nil {
			t.Error(err)
		}
		if n := y.asked() - before; n != 0 {
			t.Errorf("%d requests to drain nothing", n)
		}
	})
}

func TestARestartPublishesNothingAgain(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		dir := t.TempDir()
		y.fill(10)
		d := begin(t, dir, y.mirror("noble"))
		time.Sleep(10 * time.Second)
		d.stop()
		y.put("spec/new", parcel{})
		begin(t, dir, y.mirror("noble")) // the fakeWork fails the test if anything is published twice
		time.Sleep(time.Minute)
		if n := y.has("sha256 of spec/new"); n != 1 || len(y.ran()) != 2 {
			t.Errorf("%d of 1 published, runs %v", n, y.ran())
		}
	})
}

func TestIncompleteIsPublishedOnceItIsComplete(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		m := y.mirror("noble")
		y.put("spec/half", parcel{state: errHalf})
		y.put("spec/unreadable", parcel{broken: errors.New("unexpected end of JSON")})
		d := begin(t, t.TempDir(), m)
		time.Sleep(5 * time.Minute)
		if s := d.status(t); len(s.Stuck) != 0 {
			t.Errorf("stuck after 5 minutes: %+v", s.Stuck)
		}
		time.Sleep(6 * time.Minute)
		s := d.status(t)
		if len(s.Stuck) != 2 || s.Mirrors[0].Jobs[queue.Failed] != 0 {
			t.Errorf("stuck after 11 minutes: %+v", s.Stuck)
		}
		if n := strings.Count(d.log.String(), "is stuck"); n != 2 {
			t.Errorf("said %d times that something is stuck", n)
		}
		if n := y.looked("sha256 of spec/half"); n < 20 || n > 40 {
			t.Errorf("looked %d times in 11 minutes", n)
		}
		y.put("spec/half", parcel{})
		y.put("spec/unreadable", parcel{})
		time.Sleep(65 * time.Second)
		if n := y.has("sha256 of spec/half", "sha256 of spec/unreadable"); n != 2 {
			t.Errorf("%d of 2 published once they were whole", n)
		}
		if s := d.status(t); len(s.Stuck) != 0 {
			t.Errorf("still stuck: %+v", s.Stuck)
		}
	})
}

// One that is bad costs 100 that are good nothing: neither a run, nor a second.
func TestBadOnesCostGoodOnesNothing(t *testing.T) {
	for what, bad := range map[string]parcel{
		"none":       {},
		"refused":    {state: fmt.Errorf("%w: it is not signed", arrival.ErrRefused)},
		"incomplete": {state: errHalf},
		"unreadable": {broken: errors.New("unexpected end of JSON")},
	} {
		t.Run(what, func(t *testing.T) {
			timed(t, func(t *testing.T) {
				y := newFakeWork(t)
				m := y.mirror("noble")
				all := y.fill(100)
				y.put("spec/a", bad)
				d := begin(t, t.TempDir(), m)
				time.Sleep(2 * time.Second)
				if n := y.has(all...); n != 100 || len(y.ran()) != 1 {
					t.Errorf("%d of 100 published after 2 s, in runs of %v", n, y.ran())
				}
				if n := d.count(t, m, queue.Failed); (n == 1) != (what == "refused") {
					t.Errorf("%d failed", n)
				}
			})
		})
	}
}

// What a run refuses fails after some attempts, with its reason.
func TestRefusedByARun(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		m := y.mirror("noble")
		all := y.fill(10)
		y.refuses[all[3]] = "the destination holds 7 bytes under its name"
		d := begin(t, t.TempDir(), m)
		time.Sleep(2 * time.Second)
		if n := y.has(all...); n != 9 {
			t.Errorf("%d published", n)
		}
		time.Sleep(time.Minute)
		s := d.status(t)
		if len(s.Failed) != 1 || s.Failed[0].Reason != "the destination holds 7 bytes under its name" {
			t.Errorf("failed: %+v", s.Failed)
		}
		y.set(func() { delete(y.refuses, all[3]) })
		if n, err := d.Retry(t.Context()); n != 1 || err != nil {
			t.Error(n, err)
		}
		time.Sleep(3 * time.Second)
		if n := y.has(all...); n != 10 {
			t.Errorf("%d published after a retry", n)
		}
	})
}

// One that lets every run fail in which it is is found out, and all others are published.
func TestPoison(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		m := y.mirror("noble")
		all := y.fill(100)
		y.poison = all[42]
		d := begin(t, t.TempDir(), m)
		time.Sleep(15 * time.Second)
		if n := y.has(all...); n != 99 {
			t.Errorf("%d published after 15 s, in runs of %v", n, y.ran())
		}
		time.Sleep(20 * time.Minute)
		if s := d.status(t); len(s.Failed) != 1 || s.Failed[0].Digest != all[42] {
			t.Errorf("failed: %+v", s.Failed)
		}
		if len(y.ran()) > 25 {
			t.Errorf("%d runs: %v", len(y.ran()), y.ran())
		}
	})
}

func TestTheDestinationIsAwayForTenMinutes(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		m := y.mirror("noble")
		all := y.fill(50)
		y.down = errors.New("connection refused")
		d := begin(t, t.TempDir(), m)
		time.Sleep(10 * time.Minute)
		s := d.status(t)
		if len(s.Failed) != 0 || s.Mirrors[0].Paused != "connection refused" || s.Mirrors[0].Jobs[queue.Ready] != 50 || !s.Healthy {
			t.Errorf("%+v", s)
		}
		if n := y.asked(); n > 15 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		y.set(func() { y.down = nil })
		time.Sleep(5 * time.Minute)
		if n := y.has(all...); n != 50 {
			t.Errorf("%d published five minutes after it came back", n)
		}
		if s := d.status(t); s.Mirrors[0].Paused != "" {
			t.Errorf("still paused: %+v", s.Mirrors[0])
		}
	})
}

func TestOneDestinationThatIsAwayHoldsUpNoOther(t *testing.T) {
	timed(t, func(t *testing.T) {
		away, here := newFakeWork(t), newFakeWork(t)
		away.down = errors.New("connection refused")
		away.fill(10)
		all := here.fill(10)
		begin(t, t.TempDir(), away.mirror("away"), here.mirror("here"))
		time.Sleep(2 * time.Second)
		if n := here.has(all...); n != 10 {
			t.Errorf("%d of 10 published", n)
		}
	})
}

// What is small does not wait for what is large, neither to be checked nor to be sent.
func TestLargeOnesDoNotHoldUpSmallOnes(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		for i := range 4 {
			y.put(fmt.Sprintf("spec/0large%d", i), parcel{bytes: 10 << 30, takes: time.Minute})
		}
		all := y.fill(10)
		begin(t, t.TempDir(), y.mirror("noble"))
		time.Sleep(2 * time.Second)
		if n := y.has(all...); n != 10 {
			t.Errorf("%d of 10 small ones published after 2 s", n)
		}
		time.Sleep(3 * time.Minute)
		if n := y.total(); n != 14 {
			t.Errorf("%d of 14 published", n)
		}
	})
}

func TestRunsAreBounded(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		all := y.fill(many)
		begin(t, t.TempDir(), y.mirror("noble"))
		time.Sleep(time.Minute)
		if n := y.has(all...); n != many || slices.Max(y.ran()) > 1000 || len(y.ran()) > many/1000+2 {
			t.Errorf("%d published in runs of %v", n, y.ran())
		}
	})
}

func TestWhatIsReplacedOrGoneIsCancelled(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		m := y.mirror("noble")
		y.put("spec/replaced", parcel{state: errHalf})
		y.put("spec/gone", parcel{state: errHalf})
		d := begin(t, t.TempDir(), m)
		time.Sleep(10 * time.Second)
		y.put("spec/replaced", parcel{digest: "another"})
		y.remove("spec/gone")
		time.Sleep(time.Minute)
		if n := d.count(t, m, queue.Cancelled); n != 2 || y.has("another") != 1 {
			t.Errorf("%d cancelled", n)
		}
		y.put("spec/gone", parcel{})
		time.Sleep(65 * time.Second)
		if y.has("sha256 of spec/gone") != 1 {
			t.Error("what came back is not published")
		}
	})
}

// A run that is under way may end in the grace time; if it does not, its packages stay.
func TestStopping(t *testing.T) {
	for _, takes := range []time.Duration{10 * time.Second, time.Minute} {
		timed(t, func(t *testing.T) {
			y := newFakeWork(t)
			y.takes = takes
			all := y.fill(10)
			m, dir := y.mirror("noble"), t.TempDir()
			d := begin(t, dir, m)
			time.Sleep(5 * time.Second)
			began := time.Now()
			d.stop()
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("stopped after %v", took)
			}
			ended := y.has(all...)
			if ended != 10 && ended != 0 || (ended == 10) != (takes < 20*time.Second) {
				t.Errorf("%d published in the grace time by a run of %v", ended, takes)
			}
			d = begin(t, dir, m)
			time.Sleep(3 * time.Minute)
			if n := y.has(all...); n != 10 || d.count(t, m, queue.Published) != 10 {
				t.Errorf("%d published in the end", n)
			}
		})
	}
}

func TestCachesAreToldUntilTheyListen(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.caches, y.deaf = true, errors.New("too many invalidations")
		y.fill(10)
		m, dir := y.mirror("noble"), t.TempDir()
		d := begin(t, dir, m)
		time.Sleep(10 * time.Minute)
		s := d.status(t)
		if len(s.Obligations) != 1 || s.Obligations[0].Reason != "too many invalidations" || s.Mirrors[0].Jobs[queue.Published] != 10 {
			t.Errorf("%+v", s)
		}
		d.stop()
		d = begin(t, dir, m)
		y.set(func() { y.deaf = nil })
		time.Sleep(6 * time.Minute)
		if fmt.Sprint(y.told()) != "[run 1]" || len(d.status(t).Obligations) != 0 {
			t.Errorf("told %v, owed %v", y.told(), d.status(t).Obligations)
		}
	})
}

// A run that fails may have replaced the index all the same.
func TestCachesAreToldOfWhatMayHaveHappened(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.caches = true
		all := y.fill(1)
		y.poison = all[0]
		begin(t, t.TempDir(), y.mirror("noble"))
		time.Sleep(3 * time.Second)
		if fmt.Sprint(y.told()) != "[intended]" {
			t.Errorf("told %v", y.told())
		}
	})
}

func TestDrain(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.caches, y.takes = true, time.Minute
		m := y.mirror("noble")
		m.Settle, m.MaxDelay = time.Hour, time.Hour
		d := begin(t, t.TempDir(), m)
		time.Sleep(time.Second)
		all := y.fill(10)
		y.put("spec/half", parcel{state: errHalf})
		y.put("spec/unreadable", parcel{broken: errors.New("unexpected end of JSON")})
		y.put("spec/refused", parcel{state: arrival.ErrRefused})
		told, began := 0, time.Now()
		left, err := d.Drain(t.Context(), func(daemon.Drained) { told++ })
		if err != nil || !left.Done || left.Published != 10 || len(left.Failed) != 1 || len(left.Incomplete) != 2 || told < 10 {
			t.Errorf("%+v, %v, told %d times", left, err, told)
		}
		if took := time.Since(began); took > 65*time.Second {
			t.Errorf("it took %v, a run takes a minute", took)
		}
		if n := y.has(all...); n != 10 || len(y.told()) != 1 {
			t.Errorf("%d published, caches told %v", n, y.told())
		}
		// What failed before is not published by a drain that has nothing to do, until it is gone.
		if left, err := d.Drain(t.Context(), func(daemon.Drained) {}); err != nil || len(left.Failed) != 1 || left.Published != 0 {
			t.Errorf("again: %+v, %v", left, err)
		}
		y.remove("spec/refused")
		if left, err := d.Drain(t.Context(), func(daemon.Drained) {}); err != nil || len(left.Failed) != 0 {
			t.Errorf("without it: %+v, %v", left, err)
		}
	})
}

// What did not become complete for long, and has now, is not waited for.
func TestDrainLooksAgain(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.put("spec/half", parcel{state: errHalf})
		d := begin(t, t.TempDir(), y.mirror("noble"))
		for {
			time.Sleep(time.Second)
			jobs, err := d.q.Jobs(t.Context(), queue.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			if jobs[0].Attempts > 8 && time.Until(jobs[0].NextAt) > 10*time.Second {
				break
			}
		}
		y.put("spec/half", parcel{})
		began := time.Now()
		if left, err := d.Drain(t.Context(), func(daemon.Drained) {}); err != nil || left.Published != 1 || time.Since(began) > 2*time.Second {
			t.Errorf("%+v, %v after %v", left, err, time.Since(began))
		}
	})
}

// A drain waits for a destination that may come back, and not for one that refuses us.
func TestDrainOfWhatCannotBePublished(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.fill(3)
		y.down = errors.New("connection refused")
		d := begin(t, t.TempDir(), y.mirror("noble"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if left, err := d.Drain(ctx, func(daemon.Drained) {}); !errors.Is(err, context.DeadlineExceeded) || left.Waiting != 3 {
			t.Errorf("%+v, %v", left, err)
		}
		y.set(func() { y.down = &daemon.RunError{Lasting: true, Err: errors.New("access denied")} })
		left, err := d.Drain(t.Context(), func(daemon.Drained) {})
		if err != nil || left.Blocked["noble"] != "access denied" {
			t.Errorf("%+v, %v", left, err)
		}
		if _, counts := d.Counted(); counts["noble"].Runs == 0 || counts["noble"].Failures["upload"] != counts["noble"].Runs {
			t.Errorf("failures are not counted by their class: %+v", counts["noble"])
		}
	})
}

func TestReload(t *testing.T) {
	timed(t, func(t *testing.T) {
		stays, goes, comes := newFakeWork(t), newFakeWork(t), newFakeWork(t)
		stays.fill(1)
		stays.takes = time.Minute
		goes.fill(1)
		comes.fill(1)
		d := begin(t, t.TempDir(), stays.mirror("stays"), goes.mirror("goes"))
		time.Sleep(3 * time.Second) // a run is under way
		if err := d.Reload(t.Context(), []daemon.Mirror{stays.mirror("stays"), comes.mirror("comes")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		goes.put("spec/more", parcel{})
		time.Sleep(2 * time.Minute)
		if stays.total() != 1 || len(stays.ran()) != 1 || goes.total() != 1 || comes.total() != 1 {
			t.Errorf("published: %d in runs of %v, %d, %d", stays.total(), stays.ran(), goes.total(), comes.total())
		}
		changed := comes.mirror("comes")
		changed.Fingerprint, changed.Scan = "2", time.Hour
		if err := d.Reload(t.Context(), []daemon.Mirror{changed}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := d.status(t); len(s.Mirrors) != 1 || s.Mirrors[0].Name != "comes" {
			t.Errorf("%+v", s.Mirrors)
		}
	})
}

func TestPush(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		m := y.mirror("noble")
		d := begin(t, t.TempDir(), m)
		time.Sleep(time.Second)
		y.put("spec/a", parcel{})
		y.put("spec/b", parcel{})
		began := time.Now()
		jobs, err := d.Push(t.Context(), "/srv/noble/spec/a")
		if err != nil || len(jobs) != 1 || jobs[0].State != queue.Accepted {
			t.Fatal(jobs, err)
		}
		j, invalidated, err := d.Wait(t.Context(), jobs[0].ID, false)
		if err != nil || j.State != queue.Published || !invalidated || time.Since(began) > 3*time.Second {
			t.Errorf("%+v, %v, %v after %v", j, invalidated, err, time.Since(began))
		}
		if jobs, err := d.Push(t.Context(), "/srv/noble/spec/a"); err != nil || jobs[0].ID != j.ID || jobs[0].State != queue.Published {
			t.Errorf("again: %v, %v", jobs, err)
		}
		if jobs, err := d.Push(t.Context(), "/srv/noble"); err != nil || len(jobs) != 2 {
			t.Errorf("a directory: %v, %v", jobs, err)
		}
		for where, want := range map[string]error{
			"/srv/noble/../secret/spec/a": daemon.ErrOutside, "/srv/noblesse/spec/a": daemon.ErrOutside, "spec/a": daemon.ErrOutside, "/": daemon.ErrOutside,
			"/srv/noble/spec/none": arrival.ErrGone, "/srv/noble/other": arrival.ErrNoDocument,
		} {
			if _, err := d.Push(t.Context(), where); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", where, err, want)
			}
		}
		d.stop()
		if _, err := d.Push(t.Context(), "/srv/noble/spec/a"); !errors.Is(err, daemon.ErrStopping) {
			t.Errorf("after stopping: %v", err)
		}
	})
}

// Who waits for caches waits until they were invalidated, and no longer than he wants to.
func TestWaitingForCaches(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.caches, y.deaf = true, errors.New("busy")
		y.put("spec/a", parcel{})
		d := begin(t, t.TempDir(), y.mirror("noble"))
		jobs, err := d.Push(t.Context(), "/srv/noble/spec/a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if j, invalidated, err := d.Wait(ctx, jobs[0].ID, true); err != nil || invalidated || j.State != queue.Published {
			t.Errorf("%+v, %v, %v", j, invalidated, err)
		}
		y.set(func() { y.deaf = nil })
		if j, invalidated, err := d.Wait(t.Context(), jobs[0].ID, true); err != nil || !invalidated || j.State != queue.Published {
			t.Errorf("%+v, %v, %v", j, invalidated, err)
		}
		if _, _, err := d.Wait(t.Context(), 99, false); !errors.Is(err, queue.ErrNoJob) {
			t.Error(err)
		}
	})
}

func TestHealth(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		m := y.mirror("noble")
		m.Work = slowWork{y}
		d := begin(t, t.TempDir(), m)
		time.Sleep(time.Second)
		if err := d.Ready(); err == nil {
			t.Error("ready before anything was looked through")
		}
		time.Sleep(time.Hour)
		if err := errors.Join(d.Health(t.Context()), d.Ready()); err != nil {
			t.Errorf("idle for an hour: %v", err)
		}
		y.set(func() { y.takes = time.Hour })
		y.fill(1)
		time.Sleep(4 * time.Minute)
		if err := d.Health(t.Context()); err != nil {
			t.Errorf("a run without progress for less than 4 minutes: %v", err)
		}
		time.Sleep(3 * time.Minute)
		if err := d.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "stalled") {
			t.Errorf("a run without progress for more than 5 minutes: %v", err)
		}
		if s := d.status(t); s.Healthy || s.Problem == "" || len(s.Mirrors[0].Running) != 1 {
			t.Errorf("%+v", s)
		}
		d.Progress()
		if err := d.Health(t.Context()); err != nil {
			t.Errorf("after progress: %v", err)
		}
	})
}

func TestEvents(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		d := begin(t, t.TempDir(), y.mirror("noble"))
		events, slow := d.Events(), d.Events()
		defer slow.Leave()
		y.put("spec/a", parcel{})
		if _, err := d.Push(t.Context(), "/srv/noble/spec/a"); err != nil {
			t.Fatal(err)
		}
		var states []string
		for {
			e, ok := events.Next(t.Context())
			states = append(states, e.Kind+" "+e.State)
			if !ok || e.State == "ended" {
				break
			}
		}
		events.Leave()
		events.Leave()
		if e, ok := events.Next(t.Context()); ok {
			t.Errorf("after leaving: %+v", e)
		}
		if got := fmt.Sprint(states); got != "[job accepted job ready run begun job publishing job published run ended]" {
			t.Errorf("events %s", got)
		}
		all := y.fill(1100) // four events each, and there is room for 4096
		time.Sleep(2 * time.Minute)
		if n := y.has(all...); n != 1100 {
			t.Errorf("a listener that does not listen holds %d up", 1100-n)
		}
		y.put("spec/z", parcel{})
		for i := range 4096 {
			if e, ok := slow.Next(t.Context()); !ok || e.Kind == "lost" {
				t.Fatalf("event %d: %+v", i, e)
			}
		}
		if e, ok := slow.Next(t.Context()); !ok || e.Kind != "lost" {
			t.Errorf("after the events that had room: %+v", e)
		}
		time.Sleep(2 * time.Minute)
		if e, ok := slow.Next(t.Context()); !ok || e.Package != "spec/z" {
			t.Errorf("after the gap: %+v", e)
		}
		time.Sleep(2 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for {
			e, ok := slow.Next(ctx)
			if !ok {
				break
			}
			if e.Kind == "lost" {
				t.Errorf("told twice that events were lost")
			}
		}
	})
}

// A full disk keeps packages from being taken over, and nothing is lost by that.
func TestTroubleWithTheQueue(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		d := begin(t, t.TempDir(), y.mirror("noble"))
		time.Sleep(time.Second)
		d.q.Close() // whatever is asked of it fails
		y.fill(3)
		time.Sleep(2 * time.Minute)
		if err := d.Health(t.Context()); !errors.Is(err, queue.ErrClosed) {
			t.Error(err)
		}
		if _, err := d.Push(t.Context(), "/srv/noble/spec/p00001"); !errors.Is(err, queue.ErrClosed) {
			t.Error(err)
		}
		totals, _ := d.Counted()
		if totals.QueueErrors == 0 || !strings.Contains(d.log.String(), "the queue cannot be used") {
			t.Errorf("%+v", totals)
		}
	})
}
