// Package slots bounds the requests in flight, and finds out how many are best.
package slots

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Slots bound the requests in flight. They are given out in the order in which they are asked for, so
// that an object that was begun first is finished first.
type Slots struct {
	free   *semaphore.Weighted
	growth *growth // nil: there are always as many
}

// New makes n slots, or as many as help, from n to most.
func New(n, most int) *Slots {
	s := &Slots{free: semaphore.NewWeighted(int64(most))}
	s.free.TryAcquire(int64(most - n)) // those that there are not yet
	if most > n {
		s.growth = &growth{slots: n, most: most}
	}
	return s
}

func (s *Slots) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.free.TryAcquire(1) {
		return nil
	}
	if s.growth != nil {
		s.growth.wait()
		defer s.growth.waited()
	}
	return s.free.Acquire(ctx, 1)
}

func (s *Slots) giveBack() {
	if s.growth == nil || !s.growth.withdraw() {
		s.free.Release(1)
	}
}

// Moved notes progress: bytes that are on their way; fewer than 0 if they have to be sent again.
func (s *Slots) Moved(bytes int64) {
	if s.growth == nil {
		return
	}
	if more := s.growth.moved(bytes); more > 0 {
		s.free.Release(int64(more))
	}
}

// Slot returns a slot that is yet to be taken.
func (s *Slots) Slot() Slot { return Slot{of: s} }

// Answered notes a request that was answered.
func (s *Slots) Answered() { s.Moved(answerWorth) }

// A Slot is the right to have one request in flight.
type Slot struct {
	of   *Slots
	held bool
}

// Take waits for a slot.
func (s *Slot) Take(ctx context.Context) error {
	err := s.of.take(ctx)
	s.held = err == nil
	return err
}

// Held reports whether the slot was taken.
func (s *Slot) Held() bool { return s.held }

// Free gives the slot back, if it was taken.
func (s *Slot) Free() {
	if s.held {
		s.of.giveBack()
		s.held = false
	}
}

// Call makes one request, in a slot of its own.
func Call[Out any](ctx context.Context, of *Slots, request func() (*Out, error)) (*Out, error) {
	s := of.Slot()
	if err := s.Take(ctx); err != nil {
		return nil, err
	}
	defer s.Free()
	out, err := request()
	of.Answered()
	return out, err
}

const (
	// A change is given time to show before it is measured. New connections first fill
	// the buffers on the way, which is no gain.
	settling  = 200 * time.Millisecond
	measuring = 300 * time.Millisecond
	// A measurement is void if nothing moved for longer than standstill, or if no request waited for a
	// slot for more than this share of the time: then it says how much there was to send, and not how
	// fast it went.
	standstill = 500 * time.Millisecond
	unwanted   = 0.25
	// gain is how much faster twice as many slots must be to stay.
	gain = 1.1
	// tryAgain is how long it takes until what did not help is tried again.
	tryAgain = time.Minute
	// answerWorth is how many bytes an answered request counts for, so that small
	// objects count, whose bytes are few.
	answerWorth = 64 << 10
)

// growth decides how many slots there are. While a request waits for one, it doubles them
// as long as more is done in the same time, and takes back what did not help. When S3 asks
// to slow down it is the retryer that sends less.
type growth struct {
	mu          sync.Mutex // guards what follows while something is noted
	slots, most int
	owed        int // slots that vanish when they are given back

	waiting int           // for a slot, now
	wanted  bool          // somebody had to wait since
	since   time.Time     // the beginning of what is measured; zero: nothing is
	done    int64         // since then
	last    time.Time     // when something moved
	idle    time.Duration // in which nobody waited, since then
	enough  time.Time     // since when nobody waits, while waiting is 0
	before  float64       // bytes a second with half as many slots; 0: they were not doubled
	rest    time.Time     // nothing is tried before
}

func (g *growth) wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.waiting == 0 {
		g.idle += g.idleNow(now)
	}
	g.waiting++
	if g.since.IsZero() && !now.Before(g.rest) {
		g.measure(now)
	}
	g.wanted = true
}

// waited ends what wait began.
func (g *growth) waited() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting--; g.waiting == 0 {
		g.enough = time.Now()
	}
}

// idleNow is for how long no request has waited, of what is measured. mu is held.
func (g *growth) idleNow(now time.Time) time.Duration {
	from := g.enough
	if g.since.After(from) {
		from = g.since
	}
	if g.waiting > 0 || from.IsZero() {
		return 0
	}
	return max(now.Sub(from), 0)
}

// measure starts again, after some time to settle. mu is held.
func (g *growth) measure(now time.Time) {
	g.since, g.done, g.wanted, g.idle, g.last = now.Add(settling), 0, g.waiting > 0, 0, now
}

// withdraw reports whether a slot that is given back is one too many.
func (g *growth) withdraw() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.owed == 0 {
		return false
	}
	g.owed--
	return true
}

// moved notes progress and returns how many more slots there are from now on.
func (g *growth) moved(bytes int64) (more int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	still := now.Sub(g.last)
	g.last = now
	switch {
	case g.since.IsZero():
		return 0
	case still > standstill:
		g.measure(now)
		return 0
	case now.Before(g.since):
		return 0
	}
	g.done += bytes
	took := now.Sub(g.since)
	if took < measuring {
		return 0
	}
	if idle := g.idle + g.idleNow(now); g.wanted && idle.Seconds() > unwanted*took.Seconds() {
		g.measure(now)
		return 0
	}
	return g.decide(float64(g.done)/took.Seconds(), now)
}

// decide draws the conclusion from a rate that was measured. mu is held.
func (g *growth) decide(rate float64, now time.Time) (more int) {
	helped := g.before == 0 || rate >= gain*g.before
	switch {
	case !g.wanted:
		g.since, g.before = time.Time{}, 0 // there are enough
	case helped && g.slots < g.most:
		more = min(g.slots, g.most-g.slots)
		g.slots += more
		g.before = rate
		g.measure(now)
	default:
		if !helped {
			g.slots /= 2
			g.owed += g.slots
		}
		g.since, g.before, g.rest = time.Time{}, 0, now.Add(tryAgain)
	}
	return max(0, more-g.forgive(more))
}

// forgive sets slots that are owed off against more of them. mu is held.
func (g *growth) forgive(more int) int {
	n := min(g.owed, more)
	g.owed -= n
	return n
}
