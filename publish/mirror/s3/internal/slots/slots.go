// Package slots bounds the requests in flight, and finds the best number.
package slots

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Slots bound the requests in flight. They serve callers in order of arrival, so an object that was started first
// is finished first.
type Slots struct {
	free   *semaphore.Weighted
	growth *growth // nil for a fixed number
}

// New returns n slots, or up to most if more slots make requests faster.
func New(n, most int) *Slots {
	s := &Slots{free: semaphore.NewWeighted(int64(most))}
	s.free.TryAcquire(int64(most - n)) // slots that do not exist yet
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

// Moved records progress: n bytes were sent, or must be sent again if n is negative.
func (s *Slots) Moved(bytes int64) {
	if s.growth == nil {
		return
	}
	if more := s.growth.moved(bytes); more > 0 {
		s.free.Release(int64(more))
	}
}

// Slot returns a slot that is not taken yet.
func (s *Slots) Slot() Slot { return Slot{of: s} }

// Answered records an answered request.
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

// Held reports whether the slot is taken.
func (s *Slot) Held() bool { return s.held }

// Free releases the slot if it is taken.
func (s *Slot) Free() {
	if s.held {
		s.of.giveBack()
		s.held = false
	}
}

// Call makes one request in a slot of its own.
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
	// settling is how long a change may take to have an effect before it is measured. New connections first fill the
	// buffers on the way, which is no gain.
	settling  = 200 * time.Millisecond
	measuring = 300 * time.Millisecond
	// A measurement is invalid if nothing moved for longer than standstill, or if no request waited for a slot for
	// more than the share unwanted of the time. It then shows how much there was to send, not how fast.
	standstill = 500 * time.Millisecond
	unwanted   = 0.25
	// gain is by which factor twice as many slots must be faster to be kept.
	gain = 1.1
	// tryAgain is the time after which a number of slots that did not help is tried again.
	tryAgain = time.Minute
	// answerWorth is the number of bytes that an answered request counts for, so that small objects count.
	answerWorth = 64 << 10
)

// growth decides the number of slots. While requests wait for a slot, it doubles the number as long as the rate
// increases, and otherwise undoes the last step. When S3 asks to slow down, the retryer reduces the rate.
type growth struct {
	mu          sync.Mutex // guards the fields below
	slots, most int
	owed        int // slots to be removed when they are released

	waiting int           // requests that wait for a slot now
	wanted  bool          // a request had to wait since then
	since   time.Time     // start of the measurement; zero if there is none
	done    int64         // bytes since then
	last    time.Time     // of the latest progress
	idle    time.Duration // without a waiting request, since then
	enough  time.Time     // start of the current idle time, while waiting is 0
	before  float64       // bytes a second with half as many slots; 0 if they were not doubled
	rest    time.Time     // no change before this time
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

// waited ends a wait that wait has begun.
func (g *growth) waited() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting--; g.waiting == 0 {
		g.enough = time.Now()
	}
}

// idleNow returns how long no request has waited during the measurement. mu is held.
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

// measure restarts the measurement after a settling time. mu is held.
func (g *growth) measure(now time.Time) {
	g.since, g.done, g.wanted, g.idle, g.last = now.Add(settling), 0, g.waiting > 0, 0, now
}

// withdraw reports whether a released slot must be removed.
func (g *growth) withdraw() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.owed == 0 {
		return false
	}
	g.owed--
	return true
}

// moved records progress and returns the number of slots to add.
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

// decide adjusts the number of slots to a measured rate. mu is held.
func (g *growth) decide(rate float64, now time.Time) (more int) {
	helped := g.before == 0 || rate >= gain*g.before
	switch {
	case !g.wanted:
		g.since, g.before = time.Time{}, 0 // the maximum is reached
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

// forgive subtracts added slots from those to be removed. mu is held.
func (g *growth) forgive(more int) int {
	n := min(g.owed, more)
	g.owed -= n
	return n
}
