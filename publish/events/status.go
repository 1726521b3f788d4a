package events

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/vantagecompute/slurm-factory-publish/publish/histogram"
)

// A Status is how things are with a host, as far as it knows. What waits in the queue, and what
// others have in hand, the queue knows.
type Status struct {
	At          time.Time      `json:"at"`
	Since       time.Time      `json:"since"` // when the host began
	Healthy     bool           `json:"healthy"`
	Problem     string         `json:"problem,omitempty"` // why it is not
	Stopping    bool           `json:"stopping,omitempty"`
	Queue       QueueStatus    `json:"queue"`
	Mirrors     []MirrorStatus `json:"mirrors"`     // of which there were events, by name
	Left        []Letter       `json:"left"`        // messages that will be delivered again, the last one first
	Dead        []Letter       `json:"dead"`        // messages that will not be, the last one first
	Obligations []Obligation   `json:"obligations"` // invalidations that are due
}

// A QueueStatus is how things are between a host and its queue.
type QueueStatus struct {
	Address  string     `json:"address"`
	Answered *time.Time `json:"answered,omitempty"` // when it last did
	Error    string     `json:"error,omitempty"`    // why it did not after that
	Held     int        `json:"held"`               // messages in hand
	Again    int        `json:"again"`              // messages that were left, and have not come again
	Oldest   *time.Time `json:"oldest,omitempty"`   // when the first of the objects in them was stored
	// Deliveries is how often a message is delivered before it is dead; 0: for ever, or not known.
	Deliveries int `json:"deliveries"`
	Messages
}

// Messages are counted since a host began.
type Messages struct {
	Received int64 `json:"received"` // deliveries
	Handled  int64 `json:"handled"`  // all objects in them are in order, and they were deleted
	Left     int64 `json:"left"`     // to be delivered again later
	Dead     int64 `json:"dead"`     // left at their last delivery: they are for the dead-letter queue
	Returned int64 `json:"returned"` // given back when the host stopped
}

// A MirrorStatus is how things are with a mirror.
type MirrorStatus struct {
	Name        string        `json:"name"`
	Waiting     int           `json:"waiting"`           // names in events that are not checked yet
	Working     *time.Time    `json:"working,omitempty"` // since when it is being updated
	Last        *LastUpdate   `json:"last_update,omitempty"`
	Healed      *time.Time    `json:"healed,omitempty"`      // when it was last found, or put, in order
	Switched    *time.Time    `json:"switched,omitempty"`    // when this host last replaced an index of it
	Invalidated *time.Time    `json:"invalidated,omitempty"` // when this host last invalidated caches
	Indices     []IndexStatus `json:"indices"`
}

// A LastUpdate is an update that has ended.
type LastUpdate struct {
	At       time.Time `json:"at"`
	Names    int       `json:"names"`
	Left     int       `json:"left"` // of those, what must be delivered again
	Messages int       `json:"messages"`
	Seconds  float64   `json:"seconds"` // that it took
	// Lag is how long before the end of the update the first of its objects was stored.
	Lag   float64 `json:"lag_seconds"`
	Error string  `json:"error,omitempty"`
}

// A Letter is a message that was left in the queue.
type Letter struct {
	ID         string     `json:"id"`
	Object     string     `json:"object,omitempty"` // that it is about, if that can be read
	Stored     *time.Time `json:"stored,omitempty"` // when that was
	Deliveries int        `json:"deliveries"`
	At         time.Time  `json:"at"`              // when it was left
	Again      *time.Time `json:"again,omitempty"` // when it is delivered next
	Reason     string     `json:"reason"`
}

// An Obligation is a failed invalidation: an index has changed, and caches may serve the old one.
type Obligation struct {
	Mirror string    `json:"mirror"`
	Since  time.Time `json:"since"`
	Tries  int       `json:"tries"`
	Reason string    `json:"reason"`

	until time.Time // then another host may have it
}

// How much a host remembers, however many messages come.
const (
	mostMirrors = 1000
	mostLeft    = 10000 // of which a status shows mostLetters
	mostLetters = 100
)

// A ledger is what a host knows of what it has done. Its host's mutex guards it.
type ledger struct {
	queue                QueueStatus
	receives             int64 // questions for messages
	errors               int64 // of those
	invalidationFailures int64
	mirrors              map[string]*entry
	left                 map[string]Letter    // by message
	until                map[string]time.Time // by message: then another host may know better
	dead                 []Letter
	stopped              bool
}

func newLedger(address string) ledger {
	return ledger{
		queue: QueueStatus{Address: address}, mirrors: make(map[string]*entry),
		left: make(map[string]Letter), until: make(map[string]time.Time),
	}
}

// An entry is what is known of a mirror.
type entry struct {
	status     MirrorStatus
	counts     MirrorCounts
	obligation *Obligation
	used       time.Time
}

// newLatency counts the seconds from an object being stored to its being in order.
func newLatency() *histogram.Histogram {
	return histogram.New(1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 6*3600, 24*3600)
}

// MirrorCounts are counted since a host began.
type MirrorCounts struct {
	Updates       int
	Failures      map[string]int // of jobs, by class: see Config.Class
	Switches      int64          // of indices
	Invalidations int64          // updates that invalidated caches
	// Latency counts names that were put in order.
	Latency *histogram.Histogram
}

// Counts are all that is counted.
type Counts struct {
	Messages
	Receives             int64 // how often the queue was asked for messages
	QueueErrors          int64
	InvalidationFailures int64
	Mirrors              map[string]MirrorCounts
}

// stalled is for how long a request to the queue may be out that is to be answered within longPoll.
const stalled = 2 * time.Minute

// Progress reports progress that the host does not see itself, such as an answer to a request.
func (h *Host) Progress() { h.moved.Store(int64(time.Since(h.began))) }

// Health returns nil while the host goes on: its question to the queue comes back, whatever the
// answer, and the mirrors that it looks at make progress, if there are any. That the queue
// cannot be asked is nothing that a restart would mend: see Ready.
func (h *Host) Health() error {
	h.mu.Lock()
	busy, asked := len(h.gather.busy), h.asked
	h.mu.Unlock()
	if still := time.Since(asked) - longPoll; !asked.IsZero() && still > stalled {
		return fmt.Errorf("stalled: the queue has not answered for %s", (still + longPoll).Round(time.Second))
	}
	if still := time.Since(h.began) - time.Duration(h.moved.Load()); busy > 0 && still > h.Stalled {
		return fmt.Errorf("stalled: no progress for %s", still.Round(time.Second))
	}
	return nil
}

// ErrStopping: the host takes nothing any more.
var ErrStopping = errors.New("stopping")

// Ready returns nil while the queue hands out messages to the host.
func (h *Host) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch q := h.ledger.queue; {
	case h.ledger.stopped:
		return ErrStopping
	case q.Error != "":
		return fmt.Errorf("the queue: %s", q.Error)
	case q.Answered == nil:
		return errors.New("the queue has not answered yet")
	}
	return nil
}

// Status returns the state of the host. It makes no requests.
func (h *Host) Status() Status {
	problem := h.Health()
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.ledger.forget(now)
	s := Status{
		At: now, Since: h.began, Healthy: problem == nil, Stopping: h.ledger.stopped, Queue: h.ledger.queue,
		Mirrors: []MirrorStatus{}, Left: []Letter{}, Dead: append([]Letter{}, h.ledger.dead...), Obligations: []Obligation{},
	}
	if problem != nil {
		s.Problem = problem.Error()
	}
	s.Queue.Held, s.Queue.Again = len(h.held), len(h.ledger.left)
	for m := range h.held {
		if !m.at.IsZero() && (s.Queue.Oldest == nil || m.at.Before(*s.Queue.Oldest)) {
			s.Queue.Oldest = &m.at
		}
	}
	for name, e := range h.ledger.mirrors {
		m := e.status
		m.Name, m.Indices = name, slices.Clone(m.Indices)
		s.Mirrors = append(s.Mirrors, m)
		if e.obligation != nil {
			s.Obligations = append(s.Obligations, *e.obligation)
		}
	}
	for path, w := range h.gather.waiting {
		name := h.place(path)
		at := slices.IndexFunc(s.Mirrors, func(m MirrorStatus) bool { return m.Name == name })
		if at < 0 {
			s.Mirrors = append(s.Mirrors, MirrorStatus{Name: name, Indices: []IndexStatus{}})
			at = len(s.Mirrors) - 1
		}
		s.Mirrors[at].Waiting = len(w.by)
	}
	slices.SortFunc(s.Mirrors, func(a, b MirrorStatus) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Obligations, func(a, b Obligation) int { return a.Since.Compare(b.Since) })
	s.Left = slices.SortedFunc(maps.Values(h.ledger.left), func(a, b Letter) int {
		return cmp.Or(b.At.Compare(a.At), strings.Compare(a.ID, b.ID))
	})
	s.Left = append([]Letter{}, s.Left[:min(len(s.Left), mostLetters)]...)
	return s
}

// Counted are the counts so far.
func (h *Host) Counted() Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := Counts{
		Messages: h.ledger.queue.Messages, Receives: h.ledger.receives, QueueErrors: h.ledger.errors,
		InvalidationFailures: h.ledger.invalidationFailures, Mirrors: make(map[string]MirrorCounts),
	}
	for name, e := range h.ledger.mirrors {
		n := e.counts
		n.Latency, n.Failures = n.Latency.Clone(), maps.Clone(n.Failures)
		c.Mirrors[name] = n
	}
	return c
}

// place is what a mirror is called: where it is.
func (h *Host) place(path string) string {
	where := "s3://" + h.Bucket
	for _, part := range []string{h.Prefix, path} {
		if part != "" {
			where += "/" + part
		}
	}
	return harmless(where)
}

// harmless is a name as it may be shown on a terminal: any principal that can store an object can choose it.
func harmless(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, name)
}

// forget drops what another host may know better by now.
func (b *ledger) forget(now time.Time) {
	maps.DeleteFunc(b.left, func(id string, _ Letter) bool { return now.After(b.until[id]) })
	maps.DeleteFunc(b.until, func(id string, _ time.Time) bool { _, there := b.left[id]; return !there })
	for _, e := range b.mirrors {
		if e.obligation != nil && now.After(e.obligation.until) {
			e.obligation = nil
		}
	}
}

// of is what is known of a mirror. Of too many the one is forgotten that was silent for longest.
func (b *ledger) of(name string, now time.Time) *entry {
	e := b.mirrors[name]
	if e == nil {
		if len(b.mirrors) >= mostMirrors {
			delete(b.mirrors, slices.MinFunc(slices.Collect(maps.Keys(b.mirrors)), func(x, y string) int { return b.mirrors[x].used.Compare(b.mirrors[y].used) }))
		}
		e = &entry{counts: MirrorCounts{Latency: newLatency(), Failures: make(map[string]int)}, status: MirrorStatus{Indices: []IndexStatus{}}}
		b.mirrors[name] = e
	}
	e.used = now
	return e
}

// answered: the queue was asked for messages.
func (b *ledger) answered(now time.Time, err error) {
	b.receives++
	if err != nil {
		b.errors++
		b.queue.Error = err.Error()
		return
	}
	b.queue.Error, b.queue.Answered = "", &now
}

// handled: all that a message names is in order.
func (b *ledger) handled(m *held) {
	b.queue.Handled++
	delete(b.left, m.ID)
}

// ended: an update has ended. Messages about names that are left are delivered again until a time.
func (b *ledger) ended(name string, now time.Time, d Done, stored map[string]time.Time, until time.Time) {
	e := b.of(name, now)
	e.status.Working = nil
	e.counts.Updates++
	last := &LastUpdate{At: now, Names: len(d.Names), Left: len(d.Left), Messages: d.Messages, Seconds: d.Took.Seconds()}
	for name, at := range stored {
		if at.IsZero() {
			continue
		}
		lag := max(now.Sub(at).Seconds(), 0) // a clock may be ahead
		last.Lag = max(last.Lag, lag)
		if d.Left[name] == "" {
			e.counts.Latency.Observe(lag)
		}
	}
	for _, x := range d.Indices {
		if x.Written {
			e.counts.Switches++
			e.status.Switched = &now
		}
		if at := slices.IndexFunc(e.status.Indices, func(o IndexStatus) bool { return o.Layout == x.Layout }); at < 0 {
			e.status.Indices = append(e.status.Indices, x)
		} else {
			if x.Bytes == 0 { // not known this time
				x.Bytes = e.status.Indices[at].Bytes
			}
			e.status.Indices[at] = x
		}
	}
	switch {
	case d.Err != nil:
		last.Error = d.Err.Error()
		e.counts.Failures[d.Class]++
	default:
		e.status.Healed, e.obligation = &now, nil
	}
	if d.Invalidated {
		e.status.Invalidated = &now
		e.counts.Invalidations++
	}
	if d.InvalidationFailed {
		b.invalidationFailures++
		if e.obligation == nil {
			e.obligation = &Obligation{Mirror: name, Since: now}
		}
		e.obligation.Tries, e.obligation.Reason, e.obligation.until = e.obligation.Tries+1, last.Error, until
	}
	e.status.Last = last
}

// leave notes that a message was left, and whether that was its last delivery.
func (b *ledger) leave(m *held, now, again, until time.Time) (dead bool) {
	l := Letter{ID: m.ID, Object: m.object, Stored: known(m.at), Deliveries: m.Deliveries, At: now, Again: &again, Reason: m.left}
	if b.queue.Deliveries > 0 && m.Deliveries >= b.queue.Deliveries {
		delete(b.left, m.ID)
		l.Again = nil
		b.queue.Dead++
		b.dead = append([]Letter{l}, b.dead[:min(len(b.dead), mostLetters-1)]...)
		return true
	}
	b.queue.Left++
	if _, there := b.left[m.ID]; there || len(b.left) < mostLeft {
		b.left[m.ID], b.until[m.ID] = l, until
	}
	return false
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
