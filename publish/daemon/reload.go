package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// Run publishes until ctx ends, and returns after all its goroutines have stopped. Runs may continue for the grace
// time. Unfinished packages stay in the queue.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.events.Close()
	g, gctx := defect.WithContext(ctx)
	stop := make(map[*worker]func())
	for _, k := range d.all() {
		stop[k] = start(gctx, g, k)
	}
	g.Go(func() error { return d.forget(gctx) })
	g.Go(func() error {
		<-gctx.Done()
		close(d.stopping)
		return gctx.Err()
	})
	g.Go(func() error {
		for {
			select {
			case <-gctx.Done():
				return gctx.Err()
			case mirrors := <-d.next:
				d.changeOver(gctx, g, stop, mirrors)
			}
		}
	})
	err := g.Wait()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// start starts a worker. The function that it returns stops the worker and waits for it.
func start(ctx context.Context, g *defect.Group, k *worker) func() {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	g.Go(func() error {
		defer close(done)
		if err := k.keepRunning(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("mirror %s: %w", k.m.Name, err)
		}
		return nil
	})
	return func() { cancel(); <-done }
}

// Reload replaces the mirrors. Unchanged mirrors are not disturbed. A removed mirror still carries out its
// obligations to caches.
func (d *Daemon) Reload(ctx context.Context, mirrors []Mirror) error {
	select {
	case d.next <- mirrors:
		return nil
	case <-d.stopping:
		return ErrStopping
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Daemon) changeOver(ctx context.Context, g *defect.Group, stop map[*worker]func(), mirrors []Mirror) {
	d.changing.Lock()
	defer d.changing.Unlock()
	var workers []*worker
	keep := make(map[*worker]bool)
	wanted := make(map[string]bool)
	for _, m := range mirrors {
		k := d.worker(m.Key())
		if k == nil || k.m.Fingerprint != m.Fingerprint {
			k = newWorker(d, m)
		}
		keep[k], wanted[m.Key()] = true, true
		workers = append(workers, k)
	}
	var removed []*worker
	for k, stopped := range stop {
		switch {
		case keep[k], k.removed && !wanted[k.m.Key()]:
			continue
		case !k.removed && !wanted[k.m.Key()]:
			removed = append(removed, newWorker(d, k.m))
		}
		stopped()
		delete(stop, k)
	}
	d.replace(workers)
	for _, k := range removed {
		k.removed = true
		stop[k] = start(ctx, g, k)
	}
	for _, k := range workers {
		if stop[k] == nil {
			stop[k] = start(ctx, g, k)
		}
	}
	d.o.Log.Info("configuration loaded", "mirrors", len(workers))
}

// replace replaces the table of workers.
func (d *Daemon) replace(workers []*worker) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.workers = workers
	close(d.replaced)
	d.replaced = make(chan struct{})
}

// current returns all workers, and a channel that is closed when they are replaced.
func (d *Daemon) current() (workers []*worker, replaced <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*worker{}, d.workers...), d.replaced
}

func (d *Daemon) all() []*worker {
	workers, _ := d.current()
	return workers
}

func (d *Daemon) worker(key string) *worker {
	for _, k := range d.all() {
		if k.m.Key() == key {
			return k
		}
	}
	return nil
}

// Flush scans everything and retries waiting jobs now.
func (d *Daemon) Flush(ctx context.Context) error {
	if err := d.lookThrough(ctx); err != nil {
		return err
	}
	if err := d.o.Queue.Hurry(ctx); err != nil {
		return err
	}
	for _, k := range d.all() {
		k.resume()
	}
	return nil
}

// lookThrough returns after every mirror was scanned, including those of a configuration that is loaded meanwhile.
func (d *Daemon) lookThrough(ctx context.Context) error {
	looked := make(map[*worker]bool)
	for {
		workers, replaced := d.current()
		again := false
		for _, k := range workers {
			if again || looked[k] {
				continue
			}
			select {
			case <-k.lookThrough():
				looked[k] = true
			case <-replaced: // a stopped worker does not scan
				again = true
			case <-d.stopping:
				return ErrStopping
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if !again {
			return nil
		}
	}
}

// ErrConfigured reports that a mirror is in the configuration and therefore cannot be forgotten.
var ErrConfigured = errors.New("it is in the configuration of the daemon: remove it there first")

// ErrNoMirror reports that a mirror to be forgotten is unknown.
var ErrNoMirror = errors.New("no mirror of that name is recorded: publish status shows the obligations of each mirror")

// Forget removes the queue's records of mirrors that are no longer in the configuration: all of them, or those with
// the given names in the status. Unknown names are no error.
func (d *Daemon) Forget(ctx context.Context, names ...string) ([]queue.Dropped, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	for _, k := range d.all() {
		if slices.Contains(names, k.m.Name) || slices.Contains(names, k.m.Key()) {
			return nil, fmt.Errorf("mirror %s: %w", k.m.Name, ErrConfigured)
		}
	}
	var known []string
	if _, err := d.o.Queue.Drop(ctx, func(mirror string) bool { known = append(known, mirror); return false }); err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%s: %w", name, ErrNoMirror)
		}
	}
	return d.o.Queue.Drop(ctx, func(mirror string) bool {
		return d.worker(mirror) == nil && (len(names) == 0 || slices.Contains(names, mirror))
	})
}

// Retry restarts failed jobs: those with the ids, or all if there are none.
func (d *Daemon) Retry(ctx context.Context, ids ...int64) (int, error) {
	n, err := d.o.Queue.Retry(ctx, ids...)
	for _, k := range d.all() {
		k.resume()
	}
	return n, err
}

// forgetEvery is the interval at which finished jobs are forgotten. They are kept for days.
const forgetEvery = 24 * time.Hour

// forget removes old finished jobs whose documents are gone. It runs once a day and after the first scan of a
// mirror, so that a host that restarts every night forgets, too.
func (d *Daemon) forget(ctx context.Context) error {
	for waitOr(ctx, forgetEvery, d.toForget) {
		n, err := d.o.Queue.Forget(ctx, time.Now().Add(-d.o.Keep), func(j queue.Job) bool {
			k := d.worker(j.Mirror)
			return k != nil && k.mayHave(j.File)
		})
		if err != nil && ctx.Err() == nil {
			d.o.Log.Warn("old finished jobs could not be removed", "reason", err.Error())
		} else if n > 0 {
			d.o.Log.Info("old finished jobs were removed", "jobs", n)
		}
	}
	return nil
}
