package lead

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// How long publishers wait. Each is spread at random, so that those that began together do not ask together.
const (
	minPoll  = 100 * time.Millisecond
	maxPoll  = 2 * time.Second
	pollPart = 0.15 // of the time that was waited

	patience    = 3 * time.Second // with a leader that gives no sign of life
	maxPatience = 30 * time.Second
	firstBeat   = 2 * time.Second // most turns end before
	beatEvery   = time.Second

	// Settled is the age of a pointer from which on nobody waits any more who has announced for the version before: each asks for
	// the pointer more often. A clock that is wrong makes such publishers wait for one turn more.
	Settled = 10 * time.Second

	// rate is about how many bytes of an index a leader reads, merges and writes in a second.
	rate = 50_000_000
)

// A Waited says why a wait is over.
type Waited struct {
	Moved bool  // the pointer is no longer what it was
	Found bool  // the index offers the publisher's documents, as its reader says
	Turn  *Turn // the publisher leads
}

// Wait waits while another publisher leads. moved reports whether the pointer has another version than base; size is that of the
// index in bytes, from which follows how long a turn takes. Wait announces first.
func (p *Publisher) Wait(ctx context.Context, base mirror.Version, size int64, moved func(context.Context) (bool, error)) (Waited, error) {
	if err := p.Announce(ctx, base); err != nil {
		return Waited{}, err
	}
	w := waiting{p: p, base: base}
	if done, err := w.look(ctx); done.over() || err != nil {
		return done, err
	}
	began := time.Now()
	turn := 3*p.trip + time.Duration(float64(size)/rate*float64(time.Second))
	pause := turn / 2
	for n := 1; ; n++ {
		if err := sleep(ctx, max(minPoll, spread(pause))); err != nil {
			return Waited{}, err
		}
		is, err := moved(ctx)
		if err != nil || is {
			return Waited{Moved: is}, err
		}
		if n%4 == 0 || time.Since(w.alive) > w.patience/2 {
			if done, err := w.look(ctx); done.over() || err != nil {
				return done, err
			}
		}
		pause = min(maxPoll, time.Duration(pollPart*float64(time.Since(began))))
	}
}

func (w Waited) over() bool { return w.Moved || w.Found || w.Turn != nil }

// spread is a time from 0.7 to 1.3 of d.
func spread(d time.Duration) time.Duration {
	return time.Duration((0.7 + 0.6*rand.Float64()) * float64(d))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// A waiting is a publisher that watches the leader.
type waiting struct {
	p        *Publisher
	base     mirror.Version
	version  mirror.Version // of the lead, as it was last seen
	attempt  int
	alive    time.Time // when the lead was first seen with that version, by the own stopwatch
	patience time.Duration
}

// look reads the lead, and takes it over if it is spent or has not changed for too long.
func (w *waiting) look(ctx context.Context) (Waited, error) {
	c, version, err := w.p.lead(ctx, w.base)
	switch {
	case ctx.Err() != nil:
		return Waited{}, ctx.Err()
	case errors.Is(err, mirror.ErrNotExist):
		version, c = mirror.Absent, claim{Spent: true}
	case err != nil:
		return Waited{}, err
	}
	if c.Spent && slices.Contains(c.Found, w.p.self.ID) {
		return Waited{Found: true}, nil
	}
	if w.p.holds(c) { // the answer to its claim was lost
		return Waited{Turn: w.p.turn(w.base, version, c)}, nil
	}
	if version != w.version || w.alive.IsZero() {
		w.version, w.alive, w.attempt = version, time.Now(), c.Attempt
		w.patience = patienceFor(c.Attempt)
	}
	if !c.Spent && time.Since(w.alive) < w.patience {
		return Waited{}, nil
	}
	t, err := w.p.take(ctx, w.base, version, c.Attempt+1)
	if err == nil {
		return Waited{Turn: t}, nil
	}
	if ctx.Err() != nil {
		return Waited{}, ctx.Err()
	}
	w.alive = time.Time{} // another publisher was faster, or the answer is lost: look again
	return Waited{}, nil
}

// patienceFor doubles with each leader that was given up, so that somebody gets through however slow everything is.
func patienceFor(attempt int) time.Duration {
	d := patience << min(attempt, 4)
	return min(maxPatience, d) + time.Duration(rand.Float64()*0.3*float64(patience))
}
