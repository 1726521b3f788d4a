package slots

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A line takes requests of 1 MB. Each takes as long as delay says, given how many there
// are at the same time.
type line struct {
	*Slots
	delay func(flying int) time.Duration

	mu     sync.Mutex
	flying int
}

func (l *line) request(ctx context.Context) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.giveBack()
	l.mu.Lock()
	l.flying++
	d := l.delay(l.flying)
	l.mu.Unlock()
	time.Sleep(d)
	l.mu.Lock()
	l.flying--
	l.mu.Unlock()
	l.Moved(1_000_000)
	return nil
}

// use sends requests from so many at once for some time, and returns how many are in flight
// in the end.
func (l *line) use(t *testing.T, from int, during time.Duration) (flying int) {
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	var g sync.WaitGroup
	for range from {
		g.Go(func() {
			for l.request(ctx) == nil {
			}
		})
	}
	// One that was just answered is not in flight until the next has begun.
	const looks = 50
	time.Sleep(during - (looks+1)*time.Millisecond)
	for range looks {
		time.Sleep(time.Millisecond)
		synctest.Wait()
		l.mu.Lock()
		flying = max(flying, l.flying)
		l.mu.Unlock()
	}
	g.Wait()
	return flying
}

// slow connections give the same to each, however many there are.
func slowConnections(int) time.Duration { return 100 * time.Millisecond }

// full lines are shared by all.
func fullLine(flying int) time.Duration { return time.Duration(flying) * time.Millisecond }

func TestSlotsGrowWhereThatHelps(t *testing.T) {
	for what, c := range map[string]struct {
		delay      func(int) time.Duration
		from, want int
	}{
		"slow connections":               {slowConnections, 200, 64},
		"a line that is full":            {fullLine, 200, 16},
		"nobody waits":                   {slowConnections, 10, 10},
		"full at twice as many":          {func(n int) time.Duration { return max(slowConnections(n), 3*fullLine(n)) }, 200, 32},
		"slow connections, and few wait": {slowConnections, 20, 20},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &line{Slots: New(16, 64), delay: c.delay}
			if got := l.use(t, c.from, 10*time.Second); got != c.want {
				t.Errorf("%s: %d in flight, want %d", what, got, c.want)
			}
			// Nothing was lost: all that there are can be had, and no more.
			n := 0
			for l.free.TryAcquire(1) {
				n++
			}
			if n != l.growth.slots-l.growth.owed && n != l.growth.slots {
				t.Errorf("%s: %d slots are free, of %d", what, n, l.growth.slots)
			}
		})
	}
}

// What did not help may help later.
func TestSlotsGrowWhenALineBecomesFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		delay := fullLine
		l := &line{Slots: New(16, 64), delay: func(n int) time.Duration { return delay(n) }}
		if got := l.use(t, 200, 30*time.Second); got != 16 {
			t.Errorf("%d in flight on a full line", got)
		}
		delay = slowConnections
		if got := l.use(t, 200, 20*time.Second); got != 16 {
			t.Errorf("%d in flight before it is tried again", got)
		}
		if got := l.use(t, 200, 90*time.Second); got != 64 {
			t.Errorf("%d in flight when it was tried again", got)
		}
	})
}

func TestAFixedNumberOfSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{Slots: New(5, 5), delay: slowConnections}
		if got := l.use(t, 100, 10*time.Second); got != 5 {
			t.Errorf("%d in flight, want 5", got)
		}
	})
}

func TestWaitingForASlotEndsWithTheContext(t *testing.T) {
	s := New(1, 2)
	if err := s.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.take(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Two bursts with nothing to send in between are not a slow line.
func TestIdleTimeIsNotMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(64, 128)
		g := s.growth
		g.wait() // a burst of 150 ms
		time.Sleep(150 * time.Millisecond)
		s.Moved(1 << 20)
		time.Sleep(10 * time.Minute)
		g.wait() // the next one begins with one answer
		s.Moved(64 << 10)
		if g.slots != 64 {
			t.Errorf("%d slots, though nothing was measured but idle time (%.0f bytes/s)", g.slots, g.before)
		}
	})
}

// Twice as many slots that were faster are not taken back because the burst was over before it was measured.
func TestIdleTimeTakesNoSlotsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(64, 128)
		g := s.growth
		g.wait()
		for range 8 { // 100 MB/s with 64
			time.Sleep(100 * time.Millisecond)
			g.wait()
			s.Moved(10 << 20)
		}
		time.Sleep(10 * time.Minute)
		g.wait()
		s.Moved(64 << 10)
		if g.slots != 128 {
			t.Errorf("taken back after %d", g.slots)
		}
	})
}

// What is sent when no request waits any more is no measure of the slots that there are: the rest of a burst is
// slow, and the slots stay.
func TestTheEndOfABurstTakesNoSlotsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(64, 128)
		g := s.growth
		for range 6 { // 100 MB/s with 64
			g.wait()
			time.Sleep(100 * time.Millisecond)
			s.Moved(10 << 20)
			g.waited()
		}
		if g.slots != 128 {
			t.Fatalf("%d slots", g.slots)
		}
		g.wait() // the last one
		g.waited()
		for range 50 { // one file is left, at 1 MB/s
			time.Sleep(100 * time.Millisecond)
			s.Moved(100 << 10)
		}
		if g.slots != 128 {
			t.Errorf("taken back after the end: %d slots", g.slots)
		}
	})
}
