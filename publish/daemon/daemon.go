// Package daemon publishes packages as they appear.
//
// It decides when, and remembers what: what publishing is, it is told by functions. A package
// that was taken over is published, or fails with a reason, or is cancelled because it is
// gone; it is never forgotten, and never waits for another one that is bad. What a
// scan finds is the truth, and what the file system or a caller says is a reason to
// look. While there is nothing to publish, nobody is asked anything.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A Mirror is a directory that is watched, and where its packages go.
type Mirror struct {
	// Name is for people, and unique.
	Name string
	// Source is an absolute path.
	Source string
	// Destination is where to, for people, and to tell one mirror from another: with another
	// destination everything is to be published anew.
	Destination string
	// Fingerprint is another one when anything about the mirror is; reloading leaves a
	// mirror alone that did not change.
	Fingerprint string

	// Settle is how long nothing must have become ready before a run begins, so that what
	// arrives together is published together.
	Settle time.Duration
	// MaxDelay is how long the first may wait for more.
	MaxDelay time.Duration
	// Scan is how often the source is looked through.
	Scan time.Duration
	// Stuck is after what time something incomplete is reported.
	Stuck time.Duration
	// Watch asks the file system for hints. There are none on NFS, which does no harm.
	Watch bool
	// Caches says that publishing is followed by making caches forget.
	Caches bool

	Work Work
}

// Key tells mirrors apart in the queue.
func (m *Mirror) Key() string { return m.Source + " -> " + m.Destination }

// Work is what is done for one mirror. All of it must be safe for concurrent use.
type Work interface {
	// Arrivals yields the documents in a directory below the source; "" is the source.
	Arrivals(ctx context.Context, dir string) iter.Seq2[File, error]
	// MayHold reports whether documents may be in or below a directory.
	MayHold(dir string) bool
	// Read understands a document.
	Read(ctx context.Context, file string) (Package, error)
	// Check returns nil if the package is complete and will do.
	Check(ctx context.Context, p Package, read func(int64)) error
	// Publish makes packages reachable, what can be of them. It has to return soon after
	// ctx ends.
	Publish(ctx context.Context, r *Run) (Outcome, error)
	// Tell meets obligations: what Outcomes owed.
	Tell(ctx context.Context, owed [][]byte) error
	// Close releases what is kept between calls, once none is made any more.
	Close() error
}

// A File is a document, as a scan sees it.
type File struct {
	Name string // below the source
	Mark string // another one when the content may be another one
}

// A Package is what a document says.
type Package struct {
	File   string
	Digest string // of the document
	ID     string // for people
	Bytes  int64
}

// What Read and Check say about a document. Any other error is about a package that may be
// on its way, and is looked at again.
var (
	ErrGone        = errors.New("it is no longer there")
	ErrAnother     = errors.New("it was replaced by another document")
	ErrNotSelected = errors.New("not selected by the rules of the mirror")
	ErrNoDocument  = errors.New("not the document of a package")
	// ErrRefused is wrapped where looking again does not help.
	ErrRefused = errors.New("refused")
)

// A Run is packages that are published together.
type Run struct {
	Packages []Package
	// Intend records, durably, what will be owed to caches. It is called before the first
	// write that a cache could notice.
	Intend func(owed []byte) error
	// Progress is told what happens.
	Progress *Progress
}

// An Outcome is what came of a run.
type Outcome struct {
	// Refused says, by file, why packages were not published.
	Refused map[string]string
	// Notes says, by file, what is to be said of packages that were.
	Notes map[string]string
	// Owed to caches; nil: nothing.
	Owed    []byte
	Objects int
	Bytes   int64
	Indices []Index
}

// An Index is one after a run.
type Index struct {
	Path     string `json:"path"` // of its mirror, below the destination
	Layout   string `json:"layout"`
	Packages int    `json:"packages"`
	Bytes    int64  `json:"bytes,omitempty"` // 0: not read
	Written  bool   `json:"written"`
}

// A RunError is why a run as a whole failed. An error of another type is as one of the
// zero RunError: the destination cannot be used now, and packages are not to blame.
type RunError struct {
	// Suspect: one of the packages may be to blame. They are tried in smaller groups.
	Suspect bool
	// Lasting: it will not be better without somebody doing something.
	Lasting bool
	Err     error
}

func (e *RunError) Error() string { return e.Err.Error() }
func (e *RunError) Unwrap() error { return e.Err }

// Options are what a daemon needs.
type Options struct {
	Queue *queue.Queue
	// Log must not be nil.
	Log *slog.Logger
	// Keep is how long what ended is remembered after its file is gone.
	Keep time.Duration
	// Grace is how long runs may go on after the daemon was told to stop.
	Grace time.Duration
	// Stalled is how long something may go on without any progress before the daemon is
	// no longer taken for healthy.
	Stalled time.Duration
}

// A lane is work on packages of a size, beside that on others: what is small does not wait
// for what is large.
type lane struct {
	name              string
	smallest, largest int64 // bytes; 0: no bound
}

// large is what takes longer to hash and to send than anybody wants to wait for the rest.
const large = 64 << 20

var lanes = []lane{{"small", 0, large}, {"large", large + 1, 0}}

// checks is how many packages of a lane are looked at at once.
const checks = 2

// A Daemon publishes packages of mirrors as they appear.
type Daemon struct {
	o      Options
	events *hub
	counts Counts
	began  time.Time
	// flushing is how many wait for everything to be published: nothing settles then.
	flushing atomic.Int32
	// moved is when something last made progress, in nanoseconds since began.
	moved atomic.Int64
	// complained is the minute in which was last said that the queue cannot be used.
	complained atomic.Int64
	// troubled is why the queue could not be used, and when last.
	troubled atomic.Pointer[trouble]
	// busy is how many things go on that must make progress.
	busy atomic.Int32
	// stopping is closed once the daemon was told to stop.
	stopping chan struct{}

	// mu guards the table of desks, not the desks.
	mu    sync.Mutex
	desks []*desk
	next  chan []Mirror // what Run is to change over to
}

// New makes a daemon, which does nothing until Run.
func New(o Options, mirrors []Mirror) *Daemon {
	d := &Daemon{o: o, events: newHub(), began: time.Now(), stopping: make(chan struct{}), next: make(chan []Mirror)}
	for _, m := range mirrors {
		d.desks = append(d.desks, newDesk(d, m))
	}
	return d
}

// ErrStopping: the daemon takes nothing over any more.
var ErrStopping = errors.New("the daemon is stopping")

func (d *Daemon) isStopping() bool {
	select {
	case <-d.stopping:
		return true
	default:
		return false
	}
}

// Run publishes until ctx ends, and returns once everything that it started has stopped.
// Runs may go on for the grace time; what they did not finish stays in the queue.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.events.close()
	g, gctx := errgroup.WithContext(ctx)
	stop := make(map[*desk]func())
	for _, k := range d.all() {
		stop[k] = start(gctx, g, k)
	}
	g.Go(func() error { return d.forget(gctx) })
	g.Go(func() error {
		for {
			select {
			case <-gctx.Done():
				close(d.stopping)
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

// start runs a desk until the function that it returns is called, which waits for it.
func start(ctx context.Context, g *errgroup.Group, k *desk) func() {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	g.Go(func() error {
		defer close(done)
		if err := k.run(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("mirror %s: %w", k.m.Name, err)
		}
		return nil
	})
	return func() { cancel(); <-done }
}

// Reload changes over to other mirrors. Those that did not change go on undisturbed.
func (d *Daemon) Reload(ctx context.Context, mirrors []Mirror) error {
	select {
	case d.next <- mirrors:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Daemon) changeOver(ctx context.Context, g *errgroup.Group, stop map[*desk]func(), mirrors []Mirror) {
	var desks []*desk
	kept := make(map[*desk]bool)
	for _, m := range mirrors {
		k := d.desk(m.Key())
		if k == nil || k.m.Fingerprint != m.Fingerprint {
			k = newDesk(d, m)
		}
		kept[k] = true
		desks = append(desks, k)
	}
	for _, k := range d.all() {
		if !kept[k] {
			stop[k]()
			delete(stop, k)
		}
	}
	d.mu.Lock()
	d.desks = desks
	d.mu.Unlock()
	for _, k := range desks {
		if stop[k] == nil {
			stop[k] = start(ctx, g, k)
		}
	}
	d.o.Log.Info("configuration loaded", "mirrors", len(desks))
}

func (d *Daemon) all() []*desk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*desk{}, d.desks...)
}

func (d *Daemon) desk(key string) *desk {
	for _, k := range d.all() {
		if k.m.Key() == key {
			return k
		}
	}
	return nil
}

// Flush looks through everything now, and tries again now what waits to be.
func (d *Daemon) Flush(ctx context.Context) error {
	for _, k := range d.all() {
		select {
		case <-k.lookThrough():
		case <-ctx.Done():
			return ctx.Err()
		}
		if d.isStopping() {
			return ErrStopping
		}
	}
	if err := d.o.Queue.Hurry(ctx, ""); err != nil {
		return err
	}
	for _, k := range d.all() {
		k.resume()
	}
	return nil
}

// Retry begins failed jobs anew: those with the ids, or all if there are none.
func (d *Daemon) Retry(ctx context.Context, ids ...int64) (int, error) {
	n, err := d.o.Queue.Retry(ctx, "", ids...)
	for _, k := range d.all() {
		k.resume()
	}
	return n, err
}

// forget removes, once a day, what ended long ago and is gone from its source.
func (d *Daemon) forget(ctx context.Context) error {
	for wait(ctx, 24*time.Hour) {
		n, err := d.o.Queue.Forget(ctx, time.Now().Add(-d.o.Keep), func(j queue.Job) bool {
			k := d.desk(j.Mirror)
			return k != nil && k.knows(j.File)
		})
		if err != nil && ctx.Err() == nil {
			d.o.Log.Warn("what ended long ago was not removed", "reason", err.Error())
		} else if n > 0 {
			d.o.Log.Info("what ended long ago was removed", "jobs", n)
		}
	}
	return nil
}

// wait reports whether the time has passed; if not, ctx has ended.
func wait(ctx context.Context, t time.Duration) bool {
	return waitOr(ctx, t, nil)
}

// waitOr also returns when it is poked.
func waitOr(ctx context.Context, t time.Duration, poke <-chan struct{}) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-poke:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// A poke wakes somebody up, once, however often it is given.
type poke chan struct{}

func newPoke() poke { return make(poke, 1) }

func (p poke) give() {
	select {
	case p <- struct{}{}:
	default:
	}
}

// backoff is how long to wait after so many failures: twice as long each time, and never
// the same for two.
func backoff(first, longest time.Duration, failures int) time.Duration {
	d := min(first<<min(max(failures-1, 0), 20), longest)
	return d/2 + jitter(d/2)
}
