// Package daemon publishes packages as they appear.
//
// It schedules work and keeps the queue; publishing itself is behind the Work interface. An accepted package
// is published, or fails with a reason, or is cancelled because its document is gone. It is never forgotten, and never
// waits for another one that is bad. A scan of the source decides what there is to publish; events of the file system and
// calls only say where to look. While there is nothing to publish, the daemon makes no requests.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/event"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A Mirror is a directory that is watched, and where its packages go.
type Mirror struct {
	// Name is for people, and unique.
	Name string
	// Source is an absolute path.
	Source string
	// Destination is where to, for people, and to tell one mirror from another: with another
	// destination everything is published again.
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
	// SigningKey is the key that signs the packages; nil: none does.
	SigningKey *SigningKey

	Work Work
}

// A SigningKey is a key that signs packages, for people.
type SigningKey struct {
	Fingerprint string    `json:"fingerprint"`
	Expires     time.Time `json:"expires,omitzero"` // never, if it is missing
}

// Key tells mirrors apart in the queue.
func (m *Mirror) Key() string { return m.Source + " -> " + m.Destination }

// Work is what is done for one mirror. All of it must be safe for concurrent use.
type Work interface {
	// Arrivals yields the documents in a directory below the source; "" is the source.
	Arrivals(ctx context.Context, dir string) iter.Seq2[File, error]
	// MayHold reports whether documents may be in or below a directory.
	MayHold(dir string) bool
	// Read understands a document. What is wrong with it is in package arrival.
	Read(ctx context.Context, file string) (Package, error)
	// Check returns nil if the package is complete and will do.
	Check(ctx context.Context, p Package, read func(int64)) error
	// Publish makes packages reachable, what can be of them. It has to return soon after
	// ctx ends.
	Publish(ctx context.Context, r *Run) (Result, error)
	// Invalidate meets the obligations of Results.
	Invalidate(ctx context.Context, obligations [][]byte) error
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

// A Run is packages that are published together.
type Run struct {
	Packages []Package
	// Intend records, durably, the obligation to invalidate caches. It is called before the first
	// write that a cache could notice.
	Intend func(obligation []byte) error
	// Progress receives what happens.
	Progress *Progress
}

// A Result is what a run achieved.
type Result struct {
	// Refused says, by file, why packages were not published.
	Refused map[string]string
	// Notes says, by file, what is to be said of packages that were.
	Notes map[string]string
	// Obligation says which caches must be invalidated; nil: none.
	Obligation []byte
	Objects    int
	Bytes      int64
	Indices    []IndexStatus
}

// An IndexStatus is an index after a run.
type IndexStatus struct {
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
	// Lasting: it needs a change by hand.
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
	// Grace is how long runs may go on after a stop was requested.
	Grace time.Duration
	// Stalled is how long something may go on without any progress before the daemon is
	// no longer taken for healthy.
	Stalled time.Duration
	// Class returns the class of failure of an error, for metrics. Nil: all are of the same.
	Class func(error) string
}

// classOf is the class of failure of an error; empty if it is nil.
func (o *Options) classOf(err error) string {
	switch {
	case err == nil:
		return ""
	case o.Class == nil:
		return "failed"
	}
	return cmp.Or(o.Class(err), "failed")
}

// A lane is work on packages of a size, beside that on others: what is small does not wait
// for what is large.
type lane struct {
	name              string
	smallest, largest int64 // bytes; 0: no bound
}

// large packages take too long to hash and to send for others to wait for them.
const large = 64 << 20

var lanes = []lane{{"small", 0, large}, {"large", large + 1, 0}}

// checks is how many packages of a lane are looked at at once.
const checks = 2

// A Daemon publishes packages of mirrors as they appear.
type Daemon struct {
	o      Options
	events *event.Hub
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
	// stopping is closed once a stop was requested.
	stopping chan struct{}

	toForget poke

	// changing is held while mirrors are exchanged, or forgotten because they are not configured.
	changing sync.Mutex
	// mu guards the table of workers, not the workers.
	mu       sync.Mutex
	workers  []*worker
	replaced chan struct{} // closed when the table is replaced
	next     chan []Mirror // what Run is to change over to
}

// eventsBehind is how many events a listener may be behind: as many as a burst of packages causes.
const eventsBehind = 4096

// Events returns what happens from now on, until the listener leaves or the daemon stops.
func (d *Daemon) Events() *event.Listener { return d.events.Listen(eventsBehind, nil) }

// New makes a daemon, which does nothing until Run.
func New(o Options, mirrors []Mirror) *Daemon {
	d := &Daemon{
		o: o, events: event.NewHub(), began: time.Now(), stopping: make(chan struct{}), toForget: newPoke(),
		replaced: make(chan struct{}), next: make(chan []Mirror),
	}
	for _, m := range mirrors {
		d.workers = append(d.workers, newWorker(d, m))
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

// A poke wakes a goroutine once, however often it is given.
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
