package daemon

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/event"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A worker does the work of one mirror: scanning, checking, publishing, and invalidating caches. Each has a loop of
// its own that takes its next task from the queue, so the next process finds there what is unfinished.
type worker struct {
	d *Daemon
	m Mirror
	// removed says that the mirror is no longer in the configuration. Only its obligations are still carried out.
	removed bool

	toScan, toInvalidate poke
	toCheck, toPublish   pokes

	// mu guards the fields below, and is not held while anything is read or sent.
	mu     sync.Mutex
	seen   map[string]*sighting // by file
	asked  map[string]bool      // hinted directories
	scans  int                  // the number of completed full scans
	whole  bool                 // one of them saw the whole source
	wanted []chan struct{}      // closed when the next full scan is complete
	pause  pause
	runs   map[*Progress]bool // in progress
	last   *LastRun
	index  []IndexStatus
	// published is the time of the latest successful run.
	published time.Time
}

// A pause describes a mirror that waits for its destination.
type pause struct {
	until    time.Time
	failures int
	reason   string
	lasting  bool
	at       time.Time // of the latest failure
}

func newWorker(d *Daemon, m Mirror) *worker {
	if _, known := m.Work.(contained); !known {
		m.Work = contained{m.Work, d, m.Name}
	}
	return &worker{
		d: d, m: m, toScan: newPoke(), toCheck: newPokes(), toPublish: newPokes(), toInvalidate: newPoke(),
		seen: make(map[string]*sighting), asked: make(map[string]bool), runs: make(map[*Progress]bool),
	}
}

// run works until ctx ends.
func (k *worker) run(ctx context.Context) error {
	g, gctx := defect.WithContext(ctx)
	k.remember(gctx)
	g.Go(func() error { return k.invalidate(gctx) })
	if !k.removed {
		k.begin(gctx, g)
	}
	err := g.Wait()
	if closing := k.m.Work.Close(); closing != nil {
		k.d.o.Log.Warn("a mirror was not closed cleanly", "mirror", k.m.Name, "reason", closing.Error())
	}
	return err
}

// begin starts all loops except the one that invalidates caches.
func (k *worker) begin(gctx context.Context, g *defect.Group) {
	g.Go(func() error { return k.scan(gctx) })
	if k.m.Watch {
		g.Go(func() error { return k.followHints(gctx) })
	}
	for _, l := range lanes {
		for range checks {
			g.Go(func() error { return k.check(gctx, l) })
		}
		g.Go(func() error { return k.publish(gctx, l) })
	}
}

// resume ends a pause, on request.
func (k *worker) resume() {
	k.mu.Lock()
	k.pause.until = time.Time{}
	k.mu.Unlock()
	k.toCheck.give()
	k.toPublish.give()
	k.toInvalidate.give()
}

// changed notifies listeners that a job has changed its state.
func (k *worker) changed(j queue.Job, to queue.State, reason string) {
	k.d.counts.moved(k.m.Name, to)
	k.d.events.Send(event.Event{Kind: "job", Mirror: k.m.Name, Job: j.ID, Package: j.Package, State: string(to), Reason: reason})
}

// pokes has one poke for each lane, because a shared one would wake only one of them.
type pokes map[string]poke

func newPokes() pokes {
	all := make(pokes)
	for _, l := range lanes {
		all[l.name] = newPoke()
	}
	return all
}

func (p pokes) give() {
	for _, one := range p {
		one.give()
	}
}

func (k *worker) packageOf(j queue.Job) Package {
	return Package{File: j.File, Digest: j.Digest, ID: j.Package, Bytes: j.Bytes}
}

func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// queueTrouble is the pause after the queue could not be used, for example because its disk is full.
const queueTrouble = 5 * time.Second

// complains returns true once a minute: all workers have the same error, which is logged once.
func (d *Daemon) complains() bool {
	now := int64(time.Since(d.began)/time.Minute) + 1
	return d.complained.Swap(now) != now
}

// A trouble is an error of the queue.
type trouble struct {
	why string
	at  time.Time
}

// inTrouble records an error of the queue.
func (d *Daemon) inTrouble(err error) {
	d.counts.queueErrors.Add(1)
	d.troubled.Store(&trouble{err.Error(), time.Now()})
}

// trouble logs that the queue could not be used, and waits. Work that was not recorded is found again.
func (k *worker) trouble(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	k.d.inTrouble(err)
	if !k.d.complains() {
		wait(ctx, queueTrouble)
		return
	}
	k.d.o.Log.Error("the queue cannot be used", "mirror", k.m.Name, "while", what, "reason", err.Error())
	wait(ctx, queueTrouble)
}

// keep records results that must not be lost. It retries until the queue can be used or the worker stops. In
// the latter case the next process finds the jobs claimed and does them again. It reports whether the results
// were recorded.
func (k *worker) keep(ctx context.Context, what string, write func(context.Context) error) bool {
	for {
		err := write(context.WithoutCancel(ctx))
		if err == nil {
			return true
		}
		k.trouble(ctx, what, err)
		if ctx.Err() != nil || errors.Is(err, queue.ErrState) {
			return false
		}
	}
}
