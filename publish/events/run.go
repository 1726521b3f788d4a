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

// A Message is one delivery of what a queue was sent.
type Message struct {
	ID         string
	Receipt    string // of this delivery
	Body       []byte
	Deliveries int       // this one included; 0 where the queue does not say
	Sent       time.Time // into the queue; zero where it does not say
}

// A Queue delivers each message at least once, in no order, until it is deleted. What was
// delivered is hidden for a while. Another queue gets what was delivered too often.
type Queue interface {
	// Receive returns messages as soon as there are any, or none after wait. They are hidden.
	Receive(ctx context.Context, wait, hidden time.Duration) ([]Message, error)
	// Hide hides messages for so long from now on. One that another host holds meanwhile, or
	// that is gone, is no error.
	Hide(ctx context.Context, receipts []string, hidden time.Duration) error
	// Delete takes messages from the queue.
	Delete(ctx context.Context, receipts []string) error
	// Deliveries is how often the queue delivers a message before another queue gets it; 0: for
	// ever.
	Deliveries(ctx context.Context) (int, error)
}

// ErrNoQueue: there is no queue of that name.
var ErrNoQueue = errors.New("no such queue")

// Changes are what happened to one mirror.
type Changes struct {
	Mirror string   // its path below Config.Prefix; empty for that itself
	Names  []string // of objects that were stored in it, sorted
	// Again are those of Names that were delivered before. The host that got them may have died at any
	// point of the update, such as before the invalidation.
	Again []string
}

// A Result is what updating a mirror achieved, as far as it got.
type Result struct {
	Left               map[string]string // names that are not in order yet and must be delivered again, and why
	Indices            []IndexStatus
	Invalidated        bool // caches were made to forget the old index
	InvalidationFailed bool // and must be repeated
}

// An IndexStatus is an index of a mirror, as it is after an update.
type IndexStatus struct {
	Layout   string `json:"layout"`
	Packages int    `json:"packages"`        // that it offers
	Bytes    int64  `json:"bytes,omitempty"` // 0: not known
	Written  bool   `json:"-"`               // just then
}

// Done says what came of a job.
type Done struct {
	Changes
	Result
	Messages int // with its events
	Took     time.Duration
	Err      error
	Class    string // of failure, if there is an Err: see Config.Class
}

// Config says what a host does.
type Config struct {
	Queue Queue
	// Address is what the queue is called, for people.
	Address string
	// Bucket and Prefix are where the mirrors are. Messages about other places are left in
	// the queue, and so reach the dead-letter queue, where they are seen.
	Bucket, Prefix string
	// Update brings the index of a mirror, and the caches in front of it, in line with its objects. It is
	// called for several mirrors at once, but for each one at a time. An error is about all names. Names
	// that are left, or failed, are passed again, after ever longer pauses.
	Update func(ctx context.Context, j Changes) (Result, error)

	// Settle is how long no message about a mirror must come before Update is called. Default 3 s.
	Settle time.Duration
	// Longest is how long that is waited for. Default 30 s.
	Longest time.Duration
	// Hidden is for how long a message is kept from other hosts. It is hidden again while
	// it is worked on, and after a crash another host gets it when this time is over. Default 2 min.
	Hidden time.Duration
	// Mirrors is how many mirrors are updated at once. Default 4.
	Mirrors int
	// Stalled is how long an update may make no progress. Default 10 min.
	Stalled time.Duration
	// Log receives names that are left, and failures. It may be nil.
	Log *slog.Logger
	// Class returns the class of failure of an error, for metrics. Nil: all are of the same.
	Class func(error) string
	// Observe is called after each update, if it is set.
	Observe func(Done)
}

const (
	// longPoll is the longest that SQS waits. An idle host makes three requests a minute.
	longPoll = 20 * time.Second
	// relearn is the pause before the queue is asked again what could not be learnt of it.
	relearn = time.Minute
	// maxReceivers is how many ask at once when messages are plenty.
	maxReceivers = 8
	// maxHeld is how many messages a host has in hand at once. SQS lets all hosts together
	// have 120,000.
	maxHeld = 5000
	// aBatch is how many messages SQS hands out at once: as many means that there are more.
	aBatch = 10
	// goodbye is how long giving messages back may take at the end.
	goodbye = 5 * time.Second
)

// Messages that are left come again after pauses that double between these. Those that cannot be
// handled come after the first one each time, and so soon reach the dead-letter queue.
const (
	firstPause   = 30 * time.Second
	longestPause = 15 * time.Minute
)

// pause is how long a message is hidden when it is left.
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
	moved atomic.Int64 // when there was progress, in nanoseconds since it began

	mu     sync.Mutex // guards what follows; never held during a request
	held   map[*held]bool
	gather *gathering
	ledger ledger
	asked  time.Time // since when a question to the queue is out; zero: none is

	// beats is full during a request that hides held messages again.
	beats chan struct{}

	changed chan struct{} // something was added to gather, or a mirror is no longer busy
	room    chan struct{} // held has become smaller
}

// New makes a host.
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

// Run serves the queue until its context ends, which is no error, or there is no such queue, or it does
// not let the host in to begin with. It returns when all that it started has stopped, and gives back to the queue what it
// has not finished. It is called once.
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

// signal wakes the goroutine that waits on c, now or when it does.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// work gives out what is due.
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

// next waits for what is due; nil when the context has ended.
func (h *Host) next(ctx context.Context) *gathered {
	for {
		h.mu.Lock()
		now := time.Now()
		w, wait := h.gather.take(now)
		if w != nil {
			h.Progress() // what was idle was not stalled
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
		return // whatever was not finished is given back
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
