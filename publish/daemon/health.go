package daemon

import (
	"context"
	"fmt"
	"time"
)

// progress notes that something has moved on.
func (d *Daemon) progress() { d.moved.Store(int64(time.Since(d.began))) }

// underWay notes that something has begun that must make progress, until the function that it
// returns is called.
func (d *Daemon) underWay() (done func()) {
	if d.busy.Add(1) == 1 {
		d.progress() // what was idle was not stalled
	}
	return func() { d.busy.Add(-1) }
}

// Progress reports progress that the daemon does not see itself, such as an answer to a request.
func (d *Daemon) Progress() { d.progress() }

// queuePatience is how long the queue may take for nothing at all.
const queuePatience = 10 * time.Second

// Health returns nil while the daemon does what it is there for: it can use its queue, and
// what it is about makes progress, or there is nothing to be about.
func (d *Daemon) Health(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queuePatience)
	defer cancel()
	if err := d.o.Queue.Ping(ctx); err != nil {
		return fmt.Errorf("the queue: %w", err)
	}
	if still := time.Since(d.began) - time.Duration(d.moved.Load()); d.busy.Load() > 0 && still > d.o.Stalled {
		return fmt.Errorf("stalled: no progress for %s", still.Round(time.Second))
	}
	return nil
}

// Ready returns nil once everything was looked through once, and until the daemon stops.
func (d *Daemon) Ready() error {
	if d.isStopping() {
		return ErrStopping
	}
	for _, k := range d.all() {
		k.mu.Lock()
		scans := k.scans
		k.mu.Unlock()
		if scans == 0 {
			return fmt.Errorf("mirror %s: not looked through yet", k.m.Name)
		}
	}
	return nil
}
