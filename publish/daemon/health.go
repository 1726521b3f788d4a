package daemon

import (
	"context"
	"fmt"
	"time"
)

// progress records progress.
func (d *Daemon) progress() { d.moved.Store(int64(time.Since(d.began))) }

// underWay records that an activity has begun that must make progress. The function that it returns ends the
// activity.
func (d *Daemon) underWay() (done func()) {
	if d.busy.Add(1) == 1 {
		d.progress() // idle time is not a stall
	}
	return func() { d.busy.Add(-1) }
}

// Progress records progress that the daemon does not see itself, such as an answer to a request.
func (d *Daemon) Progress() { d.progress() }

// queuePatience is how long the queue may take for an empty operation.
const queuePatience = 10 * time.Second

// Health returns nil while the daemon can use its queue and work in flight makes progress.
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

// Ready returns nil from the end of the first full scan until the daemon stops.
func (d *Daemon) Ready() error {
	if d.isStopping() {
		return ErrStopping
	}
	for _, k := range d.all() {
		k.mu.Lock()
		scans := k.scans
		k.mu.Unlock()
		if scans == 0 {
			return fmt.Errorf("mirror %s: not scanned yet", k.m.Name)
		}
	}
	return nil
}
