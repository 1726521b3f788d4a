package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/event"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A Drained describes what is left of a drain, and the results so far.
type Drained struct {
	Done        bool `json:"done"`
	Waiting     int  `json:"waiting"`     // known packages that will still be published
	Obligations int  `json:"obligations"` // invalidations that are due
	// All other packages were published.
	Failed     []queue.Job    `json:"failed"`     // since the drain began, or earlier if the package still exists
	Incomplete []StuckPackage `json:"incomplete"` // checked again, and still incomplete
	// Blocked maps mirrors to the reasons why their destinations cannot be used until an operator makes a change.
	// Their packages wait.
	Blocked        map[string]string `json:"blocked,omitempty"`
	NotInvalidated []string          `json:"not_invalidated,omitempty"` // the errors of failed invalidations
	Published      int               `json:"published"`                 // since the drain began
}

// drainEvery is the interval between progress reports.
const drainEvery = 250 * time.Millisecond

// Drain publishes all packages without settling, and reports what is left until nothing is. Incomplete packages are
// checked once more. It does not wait for a destination that refuses until an operator makes a change.
func (d *Daemon) Drain(ctx context.Context, report func(Drained)) (Drained, error) {
	began := time.Now().Truncate(time.Millisecond)
	d.flushing.Add(1)
	defer d.flushing.Add(-1)
	// Packages checked before this may have changed since.
	looked := time.Now().Truncate(time.Millisecond)
	if err := d.Flush(ctx); err != nil {
		return Drained{}, err
	}
	for {
		left, err := d.left(context.WithoutCancel(ctx), began, looked)
		if err != nil || left.Done {
			return left, err
		}
		report(left)
		if !wait(ctx, drainEvery) {
			return left, ctx.Err()
		}
		if d.isStopping() {
			return left, ErrStopping
		}
	}
}

// left returns what is left of a drain.
func (d *Daemon) left(ctx context.Context, began, looked time.Time) (Drained, error) {
	left := Drained{Failed: []queue.Job{}, Incomplete: []StuckPackage{}, Blocked: make(map[string]string)}
	for _, k := range d.all() {
		if err := k.left(ctx, &left, began, looked); err != nil {
			return left, err
		}
	}
	owed, err := d.o.Queue.Obligations(ctx)
	if err != nil {
		return left, err
	}
	for _, o := range owed {
		k := d.worker(o.Mirror)
		if k == nil {
			continue
		}
		if o.Tries > 0 && o.Changed.After(looked) {
			left.NotInvalidated = append(left.NotInvalidated, k.m.Name+": "+o.Reason)
			continue
		}
		left.Obligations++
	}
	left.Done = left.Waiting+left.Obligations == 0
	return left, nil
}

func (k *worker) left(ctx context.Context, left *Drained, began, looked time.Time) error {
	q := k.d.o.Queue
	jobs, err := q.Jobs(ctx, queue.Filter{Mirror: k.m.Key(), States: []queue.State{queue.Accepted, queue.Checking, queue.Ready, queue.Publishing}})
	if err != nil {
		return err
	}
	blocked := k.blocked(looked)
	if blocked != "" {
		left.Blocked[k.m.Name] = blocked
	}
	for _, j := range jobs {
		switch {
		case j.State == queue.Accepted && j.Attempts > 0 && !j.Changed.Before(looked):
			left.Incomplete = append(left.Incomplete, StuckPackage{k.m.Name, j.File, j.Package, j.Accepted, j.Reason})
		case j.State == queue.Ready && blocked != "":
		default:
			left.Waiting++
		}
	}
	k.mu.Lock()
	for file, s := range k.seen {
		if s.reason != "" {
			left.Incomplete = append(left.Incomplete, StuckPackage{k.m.Name, file, "", s.since, s.reason})
		}
	}
	k.mu.Unlock()
	failed, err := q.Jobs(ctx, queue.Filter{Mirror: k.m.Key(), States: []queue.State{queue.Failed}})
	for _, j := range failed {
		if !j.Changed.Before(began) || k.mayHave(j.File) {
			j.Mirror = k.m.Name
			left.Failed = append(left.Failed, j)
		}
	}
	if err != nil {
		return err
	}
	published, err := q.Jobs(ctx, queue.Filter{Mirror: k.m.Key(), States: []queue.State{queue.Published}, Since: began})
	left.Published += len(published)
	return err
}

// blocked returns why a destination cannot be used, if that was found after a time and needs an operator.
func (k *worker) blocked(since time.Time) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pause.lasting && k.pause.at.After(since) {
		return k.pause.reason
	}
	return ""
}

// Wait returns a job when it has ended or, with caches, when it is published and caches were invalidated. When ctx
// ends, it returns the job as it is.
func (d *Daemon) Wait(ctx context.Context, id int64, caches bool) (j queue.Job, invalidated bool, err error) {
	// Either event is enough, because the job is then read again.
	events := d.events.Listen(1, func(e event.Event) bool { return e.Kind == "caches" || e.Job == id })
	defer events.Leave()
	for {
		j, invalidated, err = d.waited(context.WithoutCancel(ctx), id)
		if err != nil || j.State.Ended() && (invalidated || !caches || j.State != queue.Published) {
			return j, invalidated, err
		}
		if _, ok := events.Next(ctx); !ok {
			return j, invalidated, nil
		}
	}
}

func (d *Daemon) waited(ctx context.Context, id int64) (j queue.Job, invalidated bool, err error) {
	if j, err = d.o.Queue.Job(ctx, id); err != nil {
		return j, false, err
	}
	j.Mirror = d.name(j.Mirror)
	if j.Obligation == 0 {
		return j, j.State == queue.Published, nil
	}
	o, err := d.o.Queue.Obligation(ctx, j.Obligation)
	if errors.Is(err, queue.ErrNoJob) { // met long ago and forgotten
		return j, true, nil
	}
	return j, err == nil && o.State == queue.Met, err
}
