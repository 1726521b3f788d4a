package lead

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Waiting times of publishers. Each is randomized, so that publishers that began together do not send
// requests together.
const (
	minPoll  = 100 * time.Millisecond
	maxPoll  = 2 * time.Second
	pollPart = 0.15 // of the time waited so far

	patience    = 3 * time.Second // with a leader that makes no progress
	maxPatience = 30 * time.Second
	firstBeat   = 2 * time.Second // most turns end before that
	beatEvery   = time.Second

	// Settled is the age of a pointer from which no publisher is still waiting with an announcement for the
	// version before: every waiting publisher reads the pointer more often than that. If a clock is wrong,
	// such publishers wait for one more turn.
	Settled = 10 * time.Second

	// rate is about how many bytes of an index a leader reads, merges and writes per second.
	rate = 50_000_000
)

// A Waited says why a wait has ended.
type Waited struct {
	Moved bool  // the pointer has changed
	Found bool  // the leader found the publisher's documents in the index
	Turn  *Turn // the publisher leads
}

// Wait announces and then waits while another publisher leads. moved reports whether the pointer has another
// version than base. size is that of the index in bytes, from which Wait estimates the duration of a turn.
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

// spread returns a random time from 0.7 to 1.3 of d.
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
	version  mirror.Version // of the lead when last read
	attempt  int
	alive    time.Time // when the lead was first read with that version, on the own clock
	patience time.Duration
}

// look reads the lead and takes it over if it is spent or has not changed for too long.
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
	w.alive = time.Time{} // another publisher was faster, or the response was lost: read again
	return Waited{}, nil
}

// patienceFor doubles with each leader that was replaced, so that a turn succeeds in the end even if
// everything is slow.
func patienceFor(attempt int) time.Duration {
	d := patience << min(attempt, 4)
	return min(maxPatience, d) + time.Duration(rand.Float64()*0.3*float64(patience))
}
