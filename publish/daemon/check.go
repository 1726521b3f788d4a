package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// Pauses before an incomplete package is checked again. They are short at first, because the last bytes of a
// package mostly arrive soon.
const (
	firstLook   = time.Second
	longestLook = 30 * time.Second
)

// A batch is how much is checked before the results are recorded: small enough that results are recorded soon, and
// large enough that the disk does not take most of the time.
const (
	mostLooks     = 32
	mostLookBytes = large
)

// check checks the packages of a lane until ctx ends.
func (k *worker) check(ctx context.Context, l lane) error {
	limits := l.limits(mostLooks)
	limits.Bytes = mostLookBytes
	for ctx.Err() == nil {
		claimed, err := k.d.o.Queue.Claim(ctx, k.m.Key(), queue.Checking, limits)
		if err != nil {
			k.trouble(ctx, "looking for packages to check", err)
			continue
		}
		if len(claimed) == 0 {
			k.waitForAccepted(ctx, l, k.toCheck[l.name])
			continue
		}
		k.toCheck.give() // there may be more: another check goroutine takes them
		changes := make([]queue.Change, len(claimed))
		for i, j := range claimed {
			changes[i] = k.verdict(ctx, j)
		}
		// Results are recorded even during a stop.
		if !k.keep(ctx, "recording the results of checks", func(ctx context.Context) error {
			return k.d.o.Queue.Change(ctx, queue.Checking, changes...)
		}) {
			continue
		}
		for i, c := range changes {
			k.changed(claimed[i], c.To, c.Reason)
			if c.To == queue.Cancelled {
				k.missed(claimed[i].File) // only now: until here, a found document would not become a job
			}
			if c.To == queue.Ready {
				k.toPublish[l.name].give()
			}
		}
	}
	return ctx.Err()
}

// waitForAccepted waits until an accepted job is due, or until it is woken.
func (k *worker) waitForAccepted(ctx context.Context, l lane, p poke) {
	w, err := k.d.o.Queue.Waiting(ctx, k.m.Key(), queue.Accepted, l.limits(0))
	if err != nil {
		k.trouble(ctx, "looking for due packages", err)
		return
	}
	pause := k.m.Scan // in case the clock is set back or a wake-up is missing
	if w.Due > 0 {
		pause = 0
	} else if !w.NextAt.IsZero() {
		pause = min(max(time.Until(w.NextAt), time.Millisecond), pause)
	}
	waitOr(ctx, pause, p)
}

// verdict checks a package and returns its next state.
func (k *worker) verdict(ctx context.Context, j queue.Job) queue.Change {
	err := ctx.Err()
	if err == nil {
		err = k.content(ctx, j)
	}
	c := queue.Change{ID: j.ID, Attempts: j.Attempts, Together: j.Together}
	switch {
	case err == nil:
		c.To = queue.Ready
	case ctx.Err() != nil:
		c.To, c.Reason = queue.Accepted, j.Reason
	case errors.Is(err, arrival.ErrGone), errors.Is(err, arrival.ErrAnother), errors.Is(err, arrival.ErrNotSelected):
		c.To, c.Reason = queue.Cancelled, err.Error()
	case errors.Is(err, arrival.ErrRefused), errors.Is(err, arrival.ErrNoDocument):
		c.To, c.Reason = queue.Failed, err.Error()
		k.d.o.Log.Error("a package is refused", "mirror", k.m.Name, "package", j.Package, "file", j.File, "reason", c.Reason)
	default:
		c.To, c.Reason, c.Attempts = queue.Accepted, err.Error(), j.Attempts+1
		c.NextAt = time.Now().Add(backoff(firstLook, longestLook, c.Attempts))
		k.reportStuck(j, c)
	}
	return c
}

// reportStuck reports once that a package stays incomplete.
func (k *worker) reportStuck(j queue.Job, c queue.Change) {
	stuck := j.Accepted.Add(k.m.Stuck)
	if !c.NextAt.Before(stuck) && j.Changed.Before(stuck) {
		k.d.o.Log.Warn("a package is stuck: it does not become complete", "mirror", k.m.Name, "package", j.Package, "file", j.File,
			"since", j.Accepted.Format(time.RFC3339), "reason", c.Reason)
	}
}

// content reads all files of a package.
func (k *worker) content(ctx context.Context, j queue.Job) error {
	defer k.d.underWay()()
	return k.m.Work.Check(ctx, k.packageOf(j), func(n int64) {
		k.d.counts.checked.Add(n)
		k.d.progress()
	})
}
