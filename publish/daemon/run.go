package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/event"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

const (
	// mostPackages and mostBytes bound a run, so that its memory is bounded and packages that become ready
	// meanwhile do not wait long.
	mostPackages = 1000
	mostBytes    = 4 << 30

	// lookEvery is the interval at which the queue is checked while many packages become ready.
	lookEvery = 100 * time.Millisecond

	// A package that a run refused is checked again, because it may have changed during the run. It fails
	// after mostRefusals refusals.
	mostRefusals = 3
	firstRefusal = 2 * time.Second

	// The maximum number of attempts for a package that fails alone.
	mostFailures = 5
	firstFailure = 5 * time.Second

	// A destination that cannot be used is tried again after increasing pauses.
	firstPause   = 5 * time.Second
	longestPause = 5 * time.Minute
)

func (l lane) limits(jobs int) queue.Limits {
	return queue.Limits{Jobs: jobs, Smallest: l.smallest, Largest: l.largest}
}

// publish runs the ready packages of a lane until ctx ends.
func (k *worker) publish(ctx context.Context, l lane) error {
	for ctx.Err() == nil {
		w, err := k.d.o.Queue.Waiting(ctx, k.m.Key(), queue.Ready, l.limits(0))
		if err != nil {
			k.trouble(ctx, "looking for ready packages", err)
			continue
		}
		pause, run := k.whether(w)
		if !run {
			if waitOr(ctx, pause, k.toPublish[l.name]) {
				wait(ctx, min(lookEvery, pause))
			}
			continue
		}
		limits := l.limits(mostPackages)
		limits.Bytes = mostBytes
		claimed, err := k.d.o.Queue.Claim(ctx, k.m.Key(), queue.Publishing, limits)
		if err != nil {
			k.trouble(ctx, "claiming ready packages", err)
			continue
		}
		if len(claimed) > 0 {
			k.runOnce(ctx, l, claimed)
		}
	}
	return ctx.Err()
}

// whether reports whether a run begins now, and if not, how long to wait until one may.
func (k *worker) whether(w queue.Waiting) (pause time.Duration, run bool) {
	now := time.Now()
	k.mu.Lock()
	until := k.pause.until
	k.mu.Unlock()
	switch {
	case w.Due == 0 && w.NextAt.IsZero():
		return k.m.Scan, false
	case w.Due == 0:
		return min(max(w.NextAt.Sub(now), time.Millisecond), k.m.Scan), false
	case now.Before(until):
		return min(until.Sub(now), longestPause), false
	case k.d.flushing.Load() > 0, w.Due >= mostPackages, w.Bytes >= mostBytes:
		return 0, true
	}
	// Waits are bounded by Settle and MaxDelay, because the clock may jump in either direction.
	settled := min(max(w.Last.Add(k.m.Settle).Sub(now), 0), k.m.Settle)
	late := min(max(w.First.Add(k.m.MaxDelay).Sub(now), 0), k.m.MaxDelay)
	pause = min(settled, late)
	return pause, pause == 0
}

// runOnce publishes the claimed packages and records the results.
func (k *worker) runOnce(ctx context.Context, l lane, claimed []queue.Job) {
	p := newProgress(k.d, l, claimed)
	k.begun(p)
	rctx, cancel := k.d.graced(ctx)
	defer cancel()
	r := &Run{Progress: p}
	var ids []int64
	for _, j := range claimed {
		r.Packages = append(r.Packages, k.packageOf(j))
		ids = append(ids, j.ID)
		k.changed(j, queue.Publishing, "")
	}
	obligation := int64(0)
	r.Intend = func(content []byte) error {
		id, err := k.d.o.Queue.Intend(context.WithoutCancel(rctx), k.m.Key(), content, ids...)
		if err == nil {
			obligation = id
		}
		return err
	}
	done := k.d.underWay()
	out, err := k.m.Work.Publish(rctx, r)
	done()
	var changes []queue.Change
	if err != nil {
		changes = k.failed(rctx, claimed, err)
		out.Obligation = nil
		if obligation != 0 {
			out.Obligation = []byte{} // the intended change may have happened
		}
	} else {
		changes = k.succeeded(claimed, out)
	}
	k.finish(ctx, claimed, obligation, out, changes)
	k.end(p, out, err, len(claimed))
	k.note(ctx)
}

// finish records the results of a run.
func (k *worker) finish(ctx context.Context, claimed []queue.Job, obligation int64, out Result, changes []queue.Change) {
	if !k.keep(ctx, "recording the results of a run", func(ctx context.Context) error {
		return k.d.o.Queue.Finish(ctx, obligation, out.Obligation, changes...)
	}) {
		return
	}
	for i, c := range changes {
		k.changed(claimed[i], c.To, c.Reason)
		if c.To == queue.Published {
			k.d.counts.latency(k.m.Name, time.Since(claimed[i].Accepted))
		}
	}
	k.toCheck.give()
	k.toInvalidate.give()
}

// succeeded returns the next state of each package of a successful run.
func (k *worker) succeeded(claimed []queue.Job, out Result) []queue.Change {
	k.mu.Lock()
	k.pause = pause{}
	k.mu.Unlock()
	changes := make([]queue.Change, len(claimed))
	for i, j := range claimed {
		reason, refused := out.Refused[j.File]
		c := queue.Change{ID: j.ID, To: queue.Published, Reason: out.Notes[j.File]}
		if refused {
			c = queue.Change{ID: j.ID, To: queue.Accepted, Reason: reason, Attempts: j.Attempts + 1}
			c.NextAt = time.Now().Add(backoff(firstRefusal, longestLook, c.Attempts))
			if c.Attempts >= mostRefusals {
				c.To = queue.Failed
				k.d.o.Log.Error("a package is refused", "mirror", k.m.Name, "package", j.Package, "file", j.File, "reason", reason)
			}
		}
		changes[i] = c
	}
	return changes
}

// failed returns the next state of each package of a run that failed as a whole.
func (k *worker) failed(ctx context.Context, claimed []queue.Job, err error) []queue.Change {
	var known *RunError
	if !errors.As(err, &known) {
		known = &RunError{Err: err}
	}
	stopped := ctx.Err() != nil
	if !stopped && !known.Suspect {
		k.rest(known)
	}
	changes := make([]queue.Change, len(claimed))
	for i, j := range claimed {
		c := queue.Change{ID: j.ID, To: queue.Ready, Reason: err.Error(), Attempts: j.Attempts, Together: j.Together}
		switch {
		case stopped:
			c.Reason = j.Reason
		case known.Suspect && len(claimed) > 1:
			c.Together = len(claimed) / 2
		case known.Suspect:
			c.Attempts++
			c.NextAt = time.Now().Add(backoff(firstFailure, longestPause, c.Attempts))
			if c.Attempts >= mostFailures {
				c.To = queue.Failed
				k.d.o.Log.Error("a package cannot be published", "mirror", k.m.Name, "package", j.Package, "file", j.File, "reason", c.Reason)
			}
		}
		changes[i] = c
	}
	return changes
}

// rest makes the mirror wait for its destination.
func (k *worker) rest(why *RunError) {
	k.mu.Lock()
	k.pause.failures++
	k.pause.reason, k.pause.lasting, k.pause.at = why.Error(), why.Lasting, time.Now()
	pause := backoff(firstPause, longestPause, k.pause.failures)
	k.pause.until = time.Now().Add(pause)
	k.mu.Unlock()
	k.d.o.Log.Warn("a run has failed, its packages wait", "mirror", k.m.Name, "again in", pause.Round(time.Second).String(), "reason", why.Error())
}

// graced returns a context that outlives ctx by the grace time.
func (d *Daemon) graced(ctx context.Context) (context.Context, context.CancelFunc) {
	graced, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		wait(graced, d.o.Grace)
		cancel()
	})
	return graced, func() { stop(); cancel() }
}

func (k *worker) begun(p *Progress) {
	k.mu.Lock()
	k.runs[p] = true
	k.mu.Unlock()
	k.d.events.Send(event.Event{Kind: "run", Mirror: k.m.Name, State: "begun", Packages: p.packages})
}

func (k *worker) end(p *Progress, out Result, err error, packages int) {
	r := &LastRun{At: time.Now(), Packages: packages, Objects: out.Objects, Bytes: out.Bytes, Seconds: time.Since(p.began).Seconds()}
	state := "ended"
	if err != nil {
		r.Error, state = err.Error(), "failed"
	}
	k.mu.Lock()
	delete(k.runs, p)
	k.last = r
	if err == nil {
		k.published = r.At
		k.merge(out.Indices)
	}
	k.mu.Unlock()
	k.d.counts.ran(k.m.Name, out, k.d.o.classOf(err))
	k.d.events.Send(event.Event{Kind: "run", Mirror: k.m.Name, State: state, Packages: packages, Reason: r.Error})
	if err == nil {
		k.d.o.Log.Info("published", "mirror", k.m.Name, "packages", packages, "refused", len(out.Refused), "objects", out.Objects, "bytes", out.Bytes, "seconds", r.Seconds)
	}
}

// merge updates the known indices. k.mu is held.
func (k *worker) merge(indices []IndexStatus) {
	for _, x := range indices {
		known := false
		for i := range k.index {
			if k.index[i].Path == x.Path && k.index[i].Layout == x.Layout {
				if x.Bytes == 0 {
					x.Bytes = k.index[i].Bytes
				}
				k.index[i], known = x, true
			}
		}
		if !known {
			k.index = append(k.index, x)
		}
	}
}
