package events

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
)

// A Message is one delivery of a message in a queue.
type Message struct {
	ID         string
	Receipt    string // of this delivery
	Body       []byte
	Deliveries int       // including this one; 0 if unknown
	Sent       time.Time // when it entered the queue; zero if unknown
}

// A Queue delivers each message at least once, in no order, until it is deleted. A delivered message is hidden for
// a while. A message that was delivered too often goes to the dead-letter queue.
type Queue interface {
	// Receive returns and hides messages as soon as there are any, or returns none after wait.
	Receive(ctx context.Context, wait, hidden time.Duration) ([]Message, error)
	// Hide hides messages for so long from now on. Messages that are gone or held by another host are no error.
	Hide(ctx context.Context, receipts []string, hidden time.Duration) error
	// Delete deletes messages.
	Delete(ctx context.Context, receipts []string) error
	// Deliveries returns how often the queue delivers a message before it goes to the dead-letter queue; 0 means
	// without limit.
	Deliveries(ctx context.Context) (int, error)
}

// ErrNoQueue reports that there is no such queue.
var ErrNoQueue = errors.New("no such queue")

// Changes are the events about a mirror.
type Changes struct {
	Mirror string   // its path below Config.Prefix; empty for Prefix itself
	Names  []string // of stored objects, sorted
	// Again are the Names that were delivered before. The host that received them may have died at any point of the
	// update, for example before the invalidation.
	Again []string
}

// A Result describes how far an update of a mirror got.
type Result struct {
	Left               map[string]string // names that must be delivered again, and the reasons
	Indices            []IndexStatus
	Invalidated        bool // caches were invalidated
	InvalidationFailed bool // the invalidation must be repeated
}

// An IndexStatus describes an index of a mirror after an update.
type IndexStatus struct {
	Layout   string `json:"layout"`
	Packages int    `json:"packages"`        // offered packages
	Bytes    int64  `json:"bytes,omitempty"` // 0 if unknown
	Written  bool   `json:"-"`               // by this update
}

// Done describes a finished job.
type Done struct {
	Changes
	Result
	Messages int // that named its objects
	Took     time.Duration
	Err      error
	Class    string // class of Err: see Config.Class
}

// Config configures a host.
type Config struct {
	Queue Queue
	// Address is the name of the queue for display.
	Address string
	// Bucket and Prefix are the location of the mirrors. Messages about other places are left in the queue and so
	// reach the dead-letter queue, where operators see them.
	Bucket, Prefix string
	// Update brings the index of a mirror, and the caches in front of it, in line with its objects. It is called
	// for several mirrors at once, but once at a time for each. An error concerns all names. Names that are left or
	// have failed are passed again after longer and longer pauses.
	Update func(ctx context.Context, j Changes) (Result, error)

	// Settle is the time without messages about a mirror after which Update is called. Default 3 s.
	Settle time.Duration
	// Longest is the maximum time to wait for that. Default 30 s.
	Longest time.Duration
	// Hidden is how long a message is hidden from other hosts. It is hidden again while it is being processed.
	// After a crash, another host receives it when this time is over. Default 2 min.
	Hidden time.Duration
	// Mirrors is the maximum number of mirrors that are updated at once. Default 4.
	Mirrors int
	// Stalled is how long an update may make no progress. Default 10 min.
	Stalled time.Duration
	// Log receives names that are left, and failures. It may be nil.
	Log *slog.Logger
	// Class returns the failure class of an error, for metrics. If it is nil, all errors have one class.
	Class func(error) string
	// Observe is called after each update, if it is set.
	Observe func(Done)
}

const (
	// longPoll is the longest wait that SQS permits. An idle host makes three requests a minute.
	longPoll = 20 * time.Second
	// relearn is the pause before the queue's settings are requested again after a failure.
	relearn = time.Minute
	// maxReceivers is the maximum number of concurrent requests for messages.
	maxReceivers = 8
	// maxHeld is the maximum number of messages that a host holds. SQS allows 120,000 for all hosts together.
	maxHeld = 5000
	// aBatch is the maximum number of messages in an answer of SQS. An answer with so many means that there are
	// more.
	aBatch = 10
	// goodbye is how long returning messages may take when the host stops.
	goodbye = 5 * time.Second
)

// Messages that are left return after pauses that double between these two. Messages that cannot be processed
// return after the first pause each time, and so reach the dead-letter queue soon.
const (
	firstPause   = 30 * time.Second
	longestPause = 15 * time.Minute
)

// pause returns how long a message is hidden when it is left.
func (m *held) pause() time.Duration {
	if m.strange {
		return firstPause
	}
	return min(firstPause<<min(max(m.Deliveries-1, 0), 10), longestPause)
}

// A Host serves a queue.
type Host struct {
	Config
	began time.Time
	moved atomic.Int64 // time of the latest progress, in nanoseconds since the start

	mu     sync.Mutex // guards the fields below; never held during a request
	held   map[*held]bool
	gather *gathering
	ledger ledger
	asked  time.Time // start of the current request for messages; zero if there is none

	// beats is full during a request that hides held messages again.
	beats chan struct{}

	changed chan struct{} // a message was added to gather, or an update has ended
	room    chan struct{} // held has shrunk
}

// New returns a host.
func New(c Config) *Host {
	if c.Settle == 0 {
		c.Settle = 3 * time.Second
	}
	if c.Longest == 0 {
		c.Longest = 30 * time.Second
	}
	if c.Hidden == 0 {
		c.Hidden = 2 * time.Minute
	}
	if c.Mirrors == 0 {
		c.Mirrors = 4
	}
	if c.Stalled == 0 {
		c.Stalled = 10 * time.Minute
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Host{
		Config: c, began: time.Now(), held: map[*held]bool{}, gather: newGathering(c.Settle, c.Longest), ledger: newLedger(c.Address),
		beats: make(chan struct{}, 1), changed: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

// Run serves the queue until its context ends, which is no error. It fails if there is no such queue or if the
// first request is refused. It returns after all its goroutines have stopped, and returns unfinished messages to
// the queue. It is called once.
func (h *Host) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, h.stopping)()
	g, gctx := defect.WithContext(ctx)
	g.Go(func() error { return h.receive(gctx) })
	g.Go(func() error { return h.keep(gctx) })
	g.Go(func() error { return h.work(gctx) })
	g.Go(func() error { return h.learn(gctx) })
	err := g.Wait()
	h.stopping()
	h.giveBack(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// signal wakes the goroutine that waits on c, now or at its next wait.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// work starts the jobs that are due.
func (h *Host) work(ctx context.Context) error {
	slots := make(chan struct{}, h.Mirrors)
	var workers sync.WaitGroup
	defer workers.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case slots <- struct{}{}:
		}
		w := h.next(ctx)
		if w == nil {
			return nil
		}
		workers.Go(func() {
			h.update(ctx, w)
			<-slots
		})
	}
}

// next waits for a due job. It returns nil when the context has ended.
func (h *Host) next(ctx context.Context) *gathered {
	for {
		h.mu.Lock()
		now := time.Now()
		w, wait := h.gather.take(now)
		if w != nil {
			h.Progress() // idle time is not a stall
			h.ledger.of(h.place(w.mirror), now).status.Working = &now
		}
		h.mu.Unlock()
		if ctx.Err() != nil {
			return nil
		}
		if w != nil {
			return w
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-due:
		case <-h.changed:
		}
	}
}

func (h *Host) update(ctx context.Context, w *gathered) {
	d := Done{Changes: w.changes()}
	began := time.Now()
	d.Err = defect.Caught(func() (err error) {
		d.Result, err = h.Update(ctx, d.Changes)
		return err
	})
	if ctx.Err() != nil {
		return // unfinished messages are returned to the queue
	}
	d.Took = time.Since(began)
	h.Progress()
	if d.Err != nil {
		d.Class = "failed"
		if h.Class != nil {
			d.Class = cmp.Or(h.Class(d.Err), d.Class)
		}
		d.Left = make(map[string]string)
		for _, name := range d.Names {
			d.Left[name] = d.Err.Error()
		}
		attrs := []any{"mirror", w.mirror, "names", len(d.Names), "reason", d.Err}
		if stack := defect.StackOf(d.Err); stack != "" {
			attrs = append(attrs, "stack", stack)
		}
		h.Log.Error("a mirror could not be updated", attrs...)
	}
	h.mu.Lock()
	longest := firstPause
	for _, by := range w.by {
		d.Messages += len(by)
		for _, m := range by {
			longest = max(longest, m.pause())
		}
	}
	over := w.settled(d.Left)
	h.gather.done(w)
	now := time.Now()
	h.ledger.ended(h.place(w.mirror), now, d, w.stored(), now.Add(longest+h.Hidden))
	h.mu.Unlock()
	signal(h.changed)
	h.finish(ctx, over)
	if h.Observe != nil {
		h.Observe(d)
	}
}

func (h *Host) stopping() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ledger.stopped = true
}
