package daemon_test

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A document that is away for a moment, as during a remount, is published when it is back, although it looks
// the same to a scan as before.
func TestAPackageThatWasAwayForAMomentIsPublished(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		m := y.mirror("noble")
		d := begin(t, t.TempDir(), m)
		time.Sleep(5 * time.Second) // the first scan is over
		y.put("spec/a", parcel{bytes: 10, state: errHalf})
		if _, err := d.Push(t.Context(), "/srv/noble/spec/a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(70 * time.Second) // a scan has seen it, too
		y.remove("spec/a")
		time.Sleep(35 * time.Second) // it was checked meanwhile
		if n := d.count(t, m, queue.Cancelled); n != 1 {
			t.Fatalf("%d cancelled while it is away", n)
		}
		y.put("spec/a", parcel{bytes: 10})
		time.Sleep(2 * time.Minute)
		if y.has("sha256 of spec/a") != 1 {
			t.Errorf("not published: cancelled %d", d.count(t, m, queue.Cancelled))
		}
	})
}

// What caches were told is forgotten after keep_finished; waiting for the package succeeds all the same.
func TestWaitingForAPackageThatWasPublishedLongAgo(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.caches = true
		m := y.mirror("noble")
		m.Scan = 6 * time.Hour
		d := begin(t, t.TempDir(), m)
		y.put("spec/a", parcel{bytes: 10})
		if _, err := d.Push(t.Context(), "/srv/noble/spec/a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(32 * 24 * time.Hour) // 30 days are kept, and the file is still there
		jobs, err := d.Push(t.Context(), "/srv/noble/spec/a")
		if err != nil || jobs[0].State != queue.Published {
			t.Fatalf("%+v, %v", jobs, err)
		}
		if _, err := d.q.Obligation(t.Context(), jobs[0].Obligation); !errors.Is(err, queue.ErrNoJob) {
			t.Fatalf("the obligation is still known: %v", err)
		}
		for _, caches := range []bool{true, false} {
			if j, invalidated, err := d.Wait(t.Context(), jobs[0].ID, caches); err != nil || !invalidated || j.State != queue.Published {
				t.Errorf("with caches %v: %+v, told %v, %v", caches, j, invalidated, err)
			}
		}
	})
}

// A slowWork takes its time to be looked through.
type slowWork struct{ *fakeWork }

func (y slowWork) Arrivals(ctx context.Context, dir string) iter.Seq2[daemon.File, error] {
	time.Sleep(20 * time.Second)
	return y.fakeWork.Arrivals(ctx, dir)
}

// A drain that is under way when another configuration is loaded ends, and looks through the mirrors of
// that one.
func TestDrainDuringAReloadEnds(t *testing.T) {
	timed(t, func(t *testing.T) {
		y, z := newFakeWork(t), newFakeWork(t)
		a, b := y.mirror("a"), z.mirror("b")
		a.Work = slowWork{y}
		d := begin(t, t.TempDir(), a, b)
		time.Sleep(30 * time.Second)
		z.put("spec/new", parcel{})
		began := time.Now()
		go func() {
			time.Sleep(5 * time.Second)
			b.Fingerprint = "2"
			if err := d.Reload(t.Context(), []daemon.Mirror{a, b}); err != nil {
				t.Error(err)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := d.Drain(ctx, func(daemon.Drained) {}); err != nil {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if z.has("sha256 of spec/new") != 1 {
			t.Error("the drain is done, and a package that was there is not published")
		}
	})
}

// A drain that is under way when the daemon stops says so.
func TestDrainEndsWhenTheDaemonStops(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		a := y.mirror("a")
		a.Work = slowWork{y}
		d := begin(t, t.TempDir(), a)
		time.Sleep(30 * time.Second)
		drained := make(chan error)
		go func() {
			_, err := d.Drain(t.Context(), func(daemon.Drained) {})
			drained <- err
		}()
		time.Sleep(time.Second)
		stopped := make(chan struct{})
		go func() { d.stop(); close(stopped) }()
		if err := <-drained; !errors.Is(err, daemon.ErrStopping) {
			t.Error(err)
		}
		<-stopped
		if err := d.Reload(t.Context(), nil); !errors.Is(err, daemon.ErrStopping) {
			t.Errorf("reload of a daemon that has stopped: %v", err)
		}
	})
}

// A mirror that is removed from the configuration still tells caches what it owes them.
func TestARemovedMirrorMeetsItsObligations(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.caches = true
		y.deaf = context.DeadlineExceeded
		a, b := y.mirror("a"), newFakeWork(t).mirror("b")
		d := begin(t, t.TempDir(), a, b)
		y.put("spec/x", parcel{bytes: 1})
		time.Sleep(2 * time.Minute)
		if err := d.Reload(t.Context(), []daemon.Mirror{b}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if s := d.status(t); len(s.Obligations) != 1 || len(s.Mirrors) != 1 {
			t.Errorf("before caches listen: %+v", s)
		}
		y.put("spec/y", parcel{bytes: 1})
		y.set(func() { y.deaf = nil })
		time.Sleep(10 * time.Minute)
		if s := d.status(t); len(s.Obligations) != 0 || len(y.told()) != 1 {
			t.Errorf("owed %+v, told %v", s.Obligations, y.told())
		}
		if y.has("sha256 of spec/y") != 0 {
			t.Error("the mirror was removed, and publishes")
		}
		if err := d.Reload(t.Context(), []daemon.Mirror{a, b}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if y.has("sha256 of spec/y") != 1 || len(y.told()) != 2 {
			t.Errorf("configured again: told %v", y.told())
		}
	})
}

// After a restart nothing can be told for a mirror that was removed. It is forgotten when somebody says so, and
// others are not.
func TestForgettingARemovedMirror(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.caches = true
		y.deaf = context.DeadlineExceeded
		z := newFakeWork(t)
		a, b := y.mirror("a"), z.mirror("b")
		dir := t.TempDir()
		d := begin(t, dir, a, b)
		y.put("spec/x", parcel{bytes: 1})
		z.put("spec/z", parcel{bytes: 1})
		time.Sleep(2 * time.Minute)
		d.stop()
		d = begin(t, dir, b)
		time.Sleep(time.Minute)
		if s := d.status(t); len(s.Obligations) != 1 || s.Obligations[0].Mirror != a.Key() {
			t.Fatalf("owed %+v", s.Obligations)
		}
		if _, err := d.Forget(t.Context(), "b"); !errors.Is(err, daemon.ErrConfigured) {
			t.Errorf("a mirror that is configured: %v", err)
		}
		if none, err := d.Forget(t.Context(), a.Key(), "c"); !errors.Is(err, daemon.ErrNoMirror) || len(none) != 0 {
			t.Errorf("a mirror that is not known: %v, %v", none, err)
		}
		dropped, err := d.Forget(t.Context())
		if want := []queue.Dropped{{Mirror: a.Key(), Jobs: 1, Obligations: 1}}; err != nil || !slices.Equal(dropped, want) {
			t.Errorf("%+v, %v, want %+v", dropped, err, want)
		}
		if s := d.status(t); len(s.Obligations) != 0 || d.count(t, b, queue.Published) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A host that restarts every night forgets what ended long ago and is gone.
func TestFinishedJobsAreForgottenAcrossRestarts(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		dir := t.TempDir()
		m := y.mirror("a")
		m.Scan = 12 * time.Hour
		y.put("spec/gone", parcel{bytes: 1})
		y.put("spec/stays", parcel{bytes: 1})
		d := begin(t, dir, m)
		time.Sleep(time.Minute)
		y.remove("spec/gone")
		for range 32 { // 30 days are kept
			d.stop()
			d = begin(t, dir, m)
			time.Sleep(23*time.Hour + 59*time.Minute)
		}
		s := d.status(t)
		if len(s.Recent) != 1 || s.Recent[0].File != "spec/stays" {
			t.Errorf("after 32 nights: %+v", s.Recent)
		}
	})
}

// A brokenWork cannot be looked through as a whole.
type brokenWork struct{ *fakeWork }

func (y brokenWork) Arrivals(context.Context, string) iter.Seq2[daemon.File, error] {
	return func(yield func(daemon.File, error) bool) { yield(daemon.File{}, errors.New("input/output error")) }
}

// What was not looked through may still be there, so nothing of it is forgotten.
func TestNothingIsForgottenOfASourceThatCannotBeRead(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		dir := t.TempDir()
		m := y.mirror("a")
		m.Scan = 12 * time.Hour
		y.put("spec/x", parcel{bytes: 1})
		d := begin(t, dir, m)
		time.Sleep(time.Minute)
		d.stop()
		m.Work = brokenWork{y}
		d = begin(t, dir, m)
		time.Sleep(33 * 24 * time.Hour)
		if n := d.count(t, m, queue.Published); n != 1 {
			t.Errorf("%d jobs are known, want 1", n)
		}
	})
}

// Waiting for a package takes some kilobytes, not room for all events that there could be.
func TestWaitersTakeKilobytes(t *testing.T) {
	y := newFakeWork(t)
	m := y.mirror("noble")
	d := begin(t, t.TempDir(), m)
	y.put("spec/a", parcel{bytes: 10, state: errHalf})
	jobs, err := d.Push(t.Context(), "/srv/noble/spec/a")
	if err != nil {
		t.Fatal(err)
	}
	const waiters = 300
	before := heap()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	for range waiters {
		go func() {
			_, _, err := d.Wait(ctx, jobs[0].ID, true)
			done <- err
		}()
	}
	for range 20 { // events for all of them
		if _, err := d.Push(t.Context(), "/srv/noble/spec/a"); err != nil {
			t.Fatal(err)
		}
	}
	if each := (int64(heap()) - int64(before)) / waiters; each > 20<<10 {
		t.Errorf("each takes %d KiB", each>>10)
	}
	cancel()
	for range waiters {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
