// Package daemon publishes packages as they appear.
//
// It schedules work and keeps the queue; publishing itself is behind the Work interface. An accepted package
// is published, fails with a reason, or is cancelled because its document is gone. It is never forgotten, and
// never waits for a defective package. A scan of the source finds the packages to publish. Events of the file
// system and calls only say which directories to scan. While there is nothing to publish, the daemon makes no
// requests.
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

// A Mirror is a watched directory and the destination of its packages.
type Mirror struct {
	// Name is the name for display. It is unique.
	Name string
	// Source is an absolute path.
	Source string
	// Destination identifies the mirror together with Source, and is shown. With another destination, everything is
	// published again.
	Destination string
	// Fingerprint changes with any setting of the mirror. Reloading leaves mirrors with the same fingerprint alone.
	Fingerprint string

	// Settle is the time without new ready packages after which a run begins, so that packages that arrive together
	// are published together.
	Settle time.Duration
	// MaxDelay is how long the first package may wait for others.
	MaxDelay time.Duration
	// Scan is the interval between scans of the source.
	Scan time.Duration
	// Stuck is the time after which an incomplete package is reported.
	Stuck time.Duration
	// Watch requests hints from the file system. NFS provides none; scans find everything there.
	Watch bool
	// Caches is true if caches must be invalidated after publishing.
	Caches bool
	// SigningKey is the key that signs the packages, or nil.
	SigningKey *SigningKey

	Work Work
}

// A SigningKey describes a key that signs packages, for display.
type SigningKey struct {
	Fingerprint string    `json:"fingerprint"`
	Expires     time.Time `json:"expires,omitzero"` // missing if it does not expire
}

// Key identifies the mirror in the queue.
func (m *Mirror) Key() string { return m.Source + " -> " + m.Destination }

// Work does the work for one mirror. Its methods must be safe for concurrent use.
type Work interface {
	// Arrivals yields the documents in a directory below the source; "" is the source.
	Arrivals(ctx context.Context, dir string) iter.Seq2[File, error]
	// MayHold reports whether a directory may hold documents at any depth.
	MayHold(dir string) bool
	// Read parses a document. Its errors are those of package arrival.
	Read(ctx context.Context, file string) (Package, error)
	// Check returns nil if the package is complete and valid.
	Check(ctx context.Context, p Package, read func(int64)) error
	// Publish publishes as many of the packages as possible. It must return soon after ctx ends.
	Publish(ctx context.Context, r *Run) (Result, error)
	// Invalidate carries out the obligations of Results.
	Invalidate(ctx context.Context, obligations [][]byte) error
	// Close releases the resources kept between calls. No call follows it.
	Close() error
}

// A File is a document as seen by a scan.
type File struct {
	Name string // below the source
	Mark string // changes when the content may have changed
}

// A Package describes a package by its document.
type Package struct {
	File   string
	Digest string // of the document
	ID     string // for display
	Bytes  int64
}

// A Run is a set of packages that are published together.
type Run struct {
	Packages []Package
	// Intend durably records the obligation to invalidate caches. It is called before the first write that a cache
	// could have an old version of.
	Intend func(obligation []byte) error
	// Progress receives the progress of the run.
	Progress *Progress
}

// A Result describes what a run achieved.
type Result struct {
	// Refused maps files to the reasons why their packages were not published.
	Refused map[string]string
	// Notes maps files to remarks about published packages.
	Notes map[string]string
	// Obligation is the encoded obligation to invalidate caches, or nil.
	Obligation []byte
	Objects    int
	Bytes      int64
	Indices    []IndexStatus
}

// An IndexStatus describes an index after a run.
type IndexStatus struct {
	Path     string `json:"path"` // of its mirror, below the destination
	Layout   string `json:"layout"`
	Packages int    `json:"packages"`
	Bytes    int64  `json:"bytes,omitempty"` // 0 if it was not read
	Written  bool   `json:"written"`
}

// A RunError describes the failure of a run as a whole. An error of another type counts as a zero RunError: the
// destination cannot be used now, and the packages are not the cause.
type RunError struct {
	// Suspect says that one of the packages may be the cause. They are tried in smaller groups.
	Suspect bool
	// Lasting says that an operator must make a change.
	Lasting bool
	Err     error
}

func (e *RunError) Error() string { return e.Err.Error() }
func (e *RunError) Unwrap() error { return e.Err }

// Options configure a daemon.
type Options struct {
	Queue *queue.Queue
	// Log must not be nil.
	Log *slog.Logger
	// Keep is how long finished jobs are remembered after their files are gone.
	Keep time.Duration
	// Grace is how long runs may continue after a stop was requested.
	Grace time.Duration
	// Stalled is how long work may make no progress before the daemon counts as unhealthy.
	Stalled time.Duration
	// Class returns the failure class of an error, for metrics. If it is nil, all errors have one class.
	Class func(error) string
}

// classOf returns the failure class of an error, or an empty string for nil.
func (o *Options) classOf(err error) string {
	switch {
	case err == nil:
		return ""
	case o.Class == nil:
		return "failed"
	}
	return cmp.Or(o.Class(err), "failed")
}

// A lane handles packages of one size range, so that small packages do not wait for large ones.
type lane struct {
	name              string
	smallest, largest int64 // bytes; 0 for no bound
}

// large is the minimum size of packages that others should not wait for, because they take long to hash and to
// send.
const large = 64 << 20

var lanes = []lane{{"small", 0, large}, {"large", large + 1, 0}}

// checks is the number of packages of a lane that are checked at once.
const checks = 2

// A Daemon publishes the packages of mirrors as they appear.
type Daemon struct {
	o      Options
	events *event.Hub
	counts Counts
	began  time.Time
	// flushing is the number of callers that wait for everything to be published. Runs then begin without settling.
	flushing atomic.Int32
	// moved is the time of the latest progress, in nanoseconds since began.
	moved atomic.Int64
	// complained is the minute of the latest message that the queue cannot be used.
	complained atomic.Int64
	// troubled is the latest error of the queue and its time.
	troubled atomic.Pointer[trouble]
	// busy is the number of activities that must make progress.
	busy atomic.Int32
	// stopping is closed when a stop is requested.
	stopping chan struct{}

	toForget poke

	// changing is held while mirrors are replaced or forgotten.
	changing sync.Mutex
	// mu guards the table of workers, not the workers themselves.
	mu       sync.Mutex
	workers  []*worker
	replaced chan struct{} // closed when the table is replaced
	next     chan []Mirror // the new mirrors for Run
}

// eventsBehind is how many events a listener may be behind: about a burst of packages.
const eventsBehind = 4096

// Events returns a listener for events from now on. It ends when it leaves or the daemon stops.
func (d *Daemon) Events() *event.Listener { return d.events.Listen(eventsBehind, nil) }

// New returns a daemon. It does nothing until Run.
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

// ErrStopping reports that the daemon accepts no more packages.
var ErrStopping = errors.New("the daemon is stopping")

func (d *Daemon) isStopping() bool {
	select {
	case <-d.stopping:
		return true
	default:
		return false
	}
}

// wait waits for t. It returns false if ctx has ended first.
func wait(ctx context.Context, t time.Duration) bool {
	return waitOr(ctx, t, nil)
}

// waitOr is wait, and also returns when it is woken.
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

// A poke wakes a goroutine once, even if it is given several times before.
type poke chan struct{}

func newPoke() poke { return make(poke, 1) }

func (p poke) give() {
	select {
	case p <- struct{}{}:
	default:
	}
}

// backoff returns how long to wait after a number of failures: twice as long each time, with random jitter.
func backoff(first, longest time.Duration, failures int) time.Duration {
	d := min(first<<min(max(failures-1, 0), 20), longest)
	return d/2 + jitter(d/2)
}
