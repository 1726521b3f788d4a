package lead_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
)

const base mirror.Version = "v1"

func still(context.Context) (bool, error) { return false, nil }

func claimed(t *testing.T, p *lead.Publisher, base mirror.Version) *lead.Turn {
	t.Helper()
	turn, err := p.Claim(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

func TestOneOfManyLeads(t *testing.T) {
	m := mirrortest.NewMem(t)
	won := make(chan bool)
	for i := range 20 {
		go func() {
			turn, err := lead.New(m, "v3", []string{fmt.Sprint(i)}, nil).Claim(t.Context(), base)
			if err != nil {
				t.Error(err)
			}
			won <- turn != nil
		}()
	}
	leaders := 0
	for range 20 {
		if <-won {
			leaders++
		}
	}
	if leaders != 1 {
		t.Errorf("%d lead", leaders)
	}
	if claimed(t, lead.New(m, "v3", nil, nil), "another version") == nil {
		t.Error("nobody may lead on the next version")
	}
	if claimed(t, lead.New(m, "v2", nil, nil), base) == nil {
		t.Error("nobody may lead in another layout")
	}
}

// A leader takes along who has announced, for its version and for the one before, each once.
func TestALeaderTakesOthersAlong(t *testing.T) {
	m := mirrortest.NewMem(t)
	me := lead.New(m, "v3", []string{"mine"}, nil)
	before := claimed(t, lead.New(m, "v3", []string{"before"}, nil), "v0")
	announce := func(version mirror.Version, documents ...string) *lead.Publisher {
		p := lead.New(m, "v3", documents, nil)
		if err := p.Announce(t.Context(), version); err != nil {
			t.Fatal(err)
		}
		return p
	}
	taken := announce("v0", "taken")
	announce("v0", "late", "late too")
	before.Record(t.Context(), "d1", "d0", []string{taken.ID()}, 0)
	announce(base, "b", "a")
	turn := claimed(t, me, base)
	r := me.Receipt(t.Context(), "d1")
	if r == nil {
		t.Fatal("there is no receipt")
	}
	got := turn.Others(t.Context(), r.Before, r.Took)
	var documents [][]string
	for _, a := range got {
		documents = append(documents, a.Documents)
	}
	if want := [][]string{{"a", "b"}, {"late", "late too"}}; !slices.EqualFunc(documents, want, slices.Equal) {
		t.Errorf("got %v, want %v", documents, want)
	}
	announce(base, "c")
	m.Plant(lead.Dir+"v3/none/want-x", []byte("[]"))
	if got := turn.Others(t.Context(), r.Before, r.Took); len(got) != 1 || got[0].Documents[0] != "c" {
		t.Errorf("then got %v", got)
	}
}

// What is not an announcement, or is not what its name says, is left out.
func TestBrokenAnnouncementsAreLeftOut(t *testing.T) {
	m := mirrortest.NewMem(t)
	p := lead.New(m, "v3", []string{"a"}, nil)
	if err := p.Announce(t.Context(), base); err != nil {
		t.Fatal(err)
	}
	for name := range m.Snapshot() {
		m.Plant(name, []byte(`{"documents":["b"]}`))
		m.Plant(name+"x", []byte(`{`))
	}
	turn := claimed(t, lead.New(m, "v3", nil, nil), base)
	if got := turn.Others(t.Context(), "", nil); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestReceiptsAreFollowed(t *testing.T) {
	m := mirrortest.NewMem(t)
	me, other := lead.New(m, "v3", []string{"mine"}, nil), lead.New(m, "v3", []string{"another's"}, nil)
	for i := range 20 {
		turn := claimed(t, other, mirror.Version(fmt.Sprint(i)))
		took := []string{other.ID()}
		if i == 5 {
			took = append(took, me.ID())
		}
		turn.Record(t.Context(), fmt.Sprint(i+1), fmt.Sprint(i), took, i)
	}
	for digest, want := range map[string]bool{"5": false, "6": true, "9": true, "20": false, "foreign": false, "": false} {
		if got := me.In(t.Context(), digest, "0"); got != want {
			t.Errorf("in %q: %t", digest, got)
		}
	}
	if me.In(t.Context(), "9", "7") {
		t.Error("it goes on behind the index that it knows")
	}
	for digest, want := range map[string]bool{"6": true, "9": true, "5": false, "20": false, "foreign": false, "": false} {
		if got := lead.Follows(t.Context(), m, "v3", digest, "6"); got != want {
			t.Errorf("%q follows: %t", digest, got)
		}
	}
	// The first receipt of an index stays.
	claimed(t, other, "x").Record(t.Context(), "6", "0", []string{other.ID()}, 0)
	if !me.In(t.Context(), "6", "0") {
		t.Error("a receipt was replaced")
	}
	if other.In(t.Context(), "x", "0") {
		t.Error("an index without a receipt")
	}
	turn := claimed(t, other, "loop")
	turn.Record(t.Context(), "self", "self", nil, 0)
	if me.In(t.Context(), "self", "0") || lead.Follows(t.Context(), m, "v3", "self", "0") {
		t.Error("a receipt that leads to itself")
	}
}

// waits returns what a publisher waits for, and how long.
func waits(t *testing.T, p *lead.Publisher, moved func(context.Context) (bool, error)) (lead.Waited, time.Duration) {
	t.Helper()
	began := time.Now()
	w, err := p.Wait(t.Context(), base, 13e6, moved)
	if err != nil {
		t.Error(err)
	}
	return w, time.Since(began)
}

func TestAMovedPointerEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mirrortest.NewMem(t)
		claimed(t, lead.New(m, "v3", []string{"a"}, nil), base)
		at := time.Now().Add(900 * time.Millisecond)
		w, took := waits(t, lead.New(m, "v3", []string{"b"}, nil), func(context.Context) (bool, error) { return time.Now().After(at), nil })
		if !w.Moved || took > 1200*time.Millisecond {
			t.Errorf("%+v after %v", w, took)
		}
	})
}

// A leader that died is replaced soon, by one publisher.
func TestADeadLeaderIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mirrortest.NewMem(t)
		claimed(t, lead.New(m, "v3", []string{"dead"}, nil), base)
		done := make(chan struct{})
		var led atomic.Int32
		for i := range 10 {
			go func() {
				w, took := waits(t, lead.New(m, "v3", []string{fmt.Sprint(i)}, nil), func(context.Context) (bool, error) { return led.Load() > 0, nil })
				if w.Turn != nil {
					led.Add(1)
				}
				if took > 5*time.Second {
					t.Errorf("after %v", took)
				}
				done <- struct{}{}
			}()
		}
		for range 10 {
			<-done
		}
		if led.Load() != 1 {
			t.Errorf("%d lead", led.Load())
		}
	})
}

// A leader that gets on is left alone, however long it takes. One whose requests stall is replaced.
func TestALeaderThatGetsOnIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mirrortest.NewMem(t)
		turn := claimed(t, lead.New(m, "v3", []string{"slow"}, nil), base)
		worked := make(chan time.Duration)
		began := time.Now()
		go func() {
			turn.Work(t.Context(), m, func(s lead.Store) error {
				for range 600 { // a minute
					time.Sleep(100 * time.Millisecond)
					s.Stat(t.Context(), "anything")
				}
				time.Sleep(time.Minute) // an answer that does not come
				return nil
			})
			worked <- time.Since(began)
		}()
		w, took := waits(t, lead.New(m, "v3", []string{"waits"}, nil), still)
		if w.Turn == nil || took < time.Minute || took > 70*time.Second {
			t.Errorf("%+v after %v", w, took)
		}
		<-worked
		turn.Spend(t.Context(), nil) // has been taken over: it says nothing
		if next := claimed(t, lead.New(m, "v3", []string{"third"}, nil), base); next != nil {
			t.Error("a third one may lead")
		}
	})
}

// A lead that is given back is taken at once, or tells who is in the index already.
func TestASpentLeadIsTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mirrortest.NewMem(t)
		found, lacking := lead.New(m, "v3", []string{"there"}, nil), lead.New(m, "v3", []string{"not there"}, nil)
		claimed(t, lead.New(m, "v3", []string{"a"}, nil), base).Spend(t.Context(), []string{found.ID()})
		if w, took := waits(t, found, still); !w.Found || took > time.Second {
			t.Errorf("%+v after %v", w, took)
		}
		w, took := waits(t, lacking, still)
		if w.Turn == nil || took > time.Second {
			t.Errorf("%+v after %v", w, took)
		}
		w.Turn.Spend(t.Context(), nil)
	})
}

// An answer that is lost makes no second leader, and none at all is soon replaced.
func TestALostAnswerToAClaim(t *testing.T) {
	m := mirrortest.NewMem(t)
	p := lead.New(mirrortest.Break(m, mirrortest.Nth(1, mirrortest.Lie(lead.Dir))), "v3", []string{"a"}, nil)
	if claimed(t, p, base) == nil {
		t.Error("it leads and does not know")
	}
	p = lead.New(mirrortest.Break(m, mirrortest.Nth(1, mirrortest.Drop(lead.Dir))), "v3", []string{"b"}, nil)
	if turn, err := p.Claim(t.Context(), "v2"); turn != nil || !errors.Is(err, mirrortest.ErrInjected) {
		t.Errorf("got %v, %v", turn, err)
	}
	p = lead.New(mirrortest.Break(m, mirrortest.Fail(lead.Dir, &mirror.DeniedError{Action: "s3:PutObject"})), "v3", []string{"c"}, nil)
	if turn, err := p.Claim(t.Context(), "v3"); turn != nil || !errors.Is(err, mirror.ErrDenied) {
		t.Errorf("got %v, %v", turn, err)
	}
}

// A claim that was stored by an attempt whose answer was lost is in the way of the next attempt. The publisher finds that it leads.
func TestAClaimThatIsInItsOwnWay(t *testing.T) {
	m := mirrortest.NewMem(t)
	p := lead.New(twice{m}, "v3", []string{"a"}, nil)
	if turn := claimed(t, p, base); turn != nil {
		t.Fatal("it knows already")
	}
	if w, err := p.Wait(t.Context(), base, 1, still); err != nil || w.Turn == nil {
		t.Fatalf("%+v, %v", w, err)
	} else {
		w.Turn.Spend(t.Context(), nil)
	}
	other := lead.New(m, "v3", []string{"b"}, nil)
	if w, err := other.Wait(t.Context(), base, 1, still); err != nil || w.Turn == nil {
		t.Errorf("the lead was not given back: %+v, %v", w, err)
	}
}

// A twice store sends each claim twice, as a client does that gets no answer.
type twice struct{ lead.Store }

func (s twice) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	version, err := s.Store.Swap(ctx, u, was)
	if u.Own && err == nil {
		return "", mirror.ErrConflict
	}
	return version, err
}
