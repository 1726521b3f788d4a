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

// A Status describes a host, as far as the host knows. The queue itself knows what waits in it and what other hosts
// hold.
type Status struct {
	At          time.Time      `json:"at"`
	Since       time.Time      `json:"since"` // when the host started
	Healthy     bool           `json:"healthy"`
	Problem     string         `json:"problem,omitempty"` // why it is not
	Stopping    bool           `json:"stopping,omitempty"`
	Queue       QueueStatus    `json:"queue"`
	Mirrors     []MirrorStatus `json:"mirrors"`     // that had events, by name
	Left        []Letter       `json:"left"`        // messages that will be delivered again, the latest first
	Dead        []Letter       `json:"dead"`        // messages that will not be delivered again, the latest first
	Obligations []Obligation   `json:"obligations"` // invalidations that are due
}

// A QueueStatus describes the connection of a host to its queue.
type QueueStatus struct {
	Address  string     `json:"address"`
	Answered *time.Time `json:"answered,omitempty"` // when the queue last answered
	Error    string     `json:"error,omitempty"`    // of requests since then
	Held     int        `json:"held"`               // messages held
	Again    int        `json:"again"`              // messages that were left and not delivered again yet
	Oldest   *time.Time `json:"oldest,omitempty"`   // when the oldest of their objects was stored
	// Deliveries is how often a message is delivered before it is dead; 0 if unlimited or unknown.
	Deliveries int `json:"deliveries"`
	Messages
}

// Messages counts messages since the host started.
type Messages struct {
	Received int64 `json:"received"` // deliveries
	Handled  int64 `json:"handled"`  // deleted, because all their objects are in order
	Left     int64 `json:"left"`     // to be delivered again later
	Dead     int64 `json:"dead"`     // left at their last delivery: they go to the dead-letter queue
	Returned int64 `json:"returned"` // returned to the queue when the host stopped
}

// A MirrorStatus describes a mirror.
type MirrorStatus struct {
	Name        string        `json:"name"`
	Waiting     int           `json:"waiting"`           // names that are not checked yet
	Working     *time.Time    `json:"working,omitempty"` // start of the current update
	Last        *LastUpdate   `json:"last_update,omitempty"`
	Healed      *time.Time    `json:"healed,omitempty"`      // when it was last found, or brought, in order
	Switched    *time.Time    `json:"switched,omitempty"`    // when this host last replaced an index
	Invalidated *time.Time    `json:"invalidated,omitempty"` // when this host last invalidated caches
	Indices     []IndexStatus `json:"indices"`
}

// A LastUpdate describes a finished update.
type LastUpdate struct {
	At       time.Time `json:"at"`
	Names    int       `json:"names"`
	Left     int       `json:"left"` // names that must be delivered again
	Messages int       `json:"messages"`
	Seconds  float64   `json:"seconds"` // duration
	// Lag is the time from the storage of its first object to the end of the update.
	Lag   float64 `json:"lag_seconds"`
	Error string  `json:"error,omitempty"`
}

// A Letter describes a message that was left in the queue.
type Letter struct {
	ID         string     `json:"id"`
	Object     string     `json:"object,omitempty"` // its first object, if it can be read
	Stored     *time.Time `json:"stored,omitempty"` // when that object was stored
	Deliveries int        `json:"deliveries"`
	At         time.Time  `json:"at"`              // when it was left
	Again      *time.Time `json:"again,omitempty"` // when it is delivered next
	Reason     string     `json:"reason"`
}

// An Obligation describes a failed invalidation: an index has changed, and caches may serve the old one.
type Obligation struct {
	Mirror string    `json:"mirror"`
	Since  time.Time `json:"since"`
	Tries  int       `json:"tries"`
	Reason string    `json:"reason"`

	until time.Time // after this another host may handle it
}

// These bound how much a host remembers, however many messages arrive.
const (
	mostMirrors = 1000
	mostLeft    = 10000 // a status shows mostLetters of them
	mostLetters = 100
)

// A ledger records what a host has done. Its host's mutex guards it.
type ledger struct {
	queue                QueueStatus
	receives             int64 // requests for messages
	errors               int64 // failed requests for messages
	invalidationFailures int64
	mirrors              map[string]*entry
	left                 map[string]Letter    // by message
	until                map[string]time.Time // by message: after this another host may handle it
	dead                 []Letter
	stopped              bool
}

func newLedger(address string) ledger {
	return ledger{
		queue: QueueStatus{Address: address}, mirrors: make(map[string]*entry),
		left: make(map[string]Letter), until: make(map[string]time.Time),
	}
}

// An entry records what is known of a mirror.
type entry struct {
	status     MirrorStatus
	counts     MirrorCounts
	obligation *Obligation
	used       time.Time
}

// newLatency makes the histogram of the seconds from storage of an object to its being in order.
func newLatency() *histogram.Histogram {
	return histogram.New(1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 6*3600, 24*3600)
}

// MirrorCounts are counts since the host started.
type MirrorCounts struct {
	Updates       int
	Failures      map[string]int // of jobs, by class: see Config.Class
	Switches      int64          // of indices
	Invalidations int64          // updates with an invalidation
	// Latency is about names that were brought in order.
	Latency *histogram.Histogram
}

// Counts are all counts of a host.
type Counts struct {
	Messages
	Receives             int64 // requests for messages
	QueueErrors          int64
	InvalidationFailures int64
	Mirrors              map[string]MirrorCounts
}

// stalled is how long a request for messages may take. The queue should answer within longPoll.
const stalled = 2 * time.Minute

// Progress records progress that the host does not see itself, such as an answer to a request.
func (h *Host) Progress() { h.moved.Store(int64(time.Since(h.began))) }

// Health returns nil while the host works: its requests to the queue are answered, with or without an error, and
// updates in flight make progress. A restart would not help if the queue refuses requests: see Ready.
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

// ErrStopping reports that the host accepts no more messages.
var ErrStopping = errors.New("stopping")

// Ready returns nil while the queue delivers messages to the host.
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

// Counted returns the counts so far.
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

// place returns the URL of a mirror.
func (h *Host) place(path string) string {
	where := "s3://" + h.Bucket
	for _, part := range []string{h.Prefix, path} {
		if part != "" {
			where += "/" + part
		}
	}
	return harmless(where)
}

// harmless returns a name in a form that is safe to show on a terminal: any principal that can store objects
// chooses names.
func harmless(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, name)
}

// forget drops the records of messages and obligations that another host may have handled by now.
func (b *ledger) forget(now time.Time) {
	maps.DeleteFunc(b.left, func(id string, _ Letter) bool { return now.After(b.until[id]) })
	maps.DeleteFunc(b.until, func(id string, _ time.Time) bool { _, there := b.left[id]; return !there })
	for _, e := range b.mirrors {
		if e.obligation != nil && now.After(e.obligation.until) {
			e.obligation = nil
		}
	}
}

// of returns the entry of a mirror. If there are too many mirrors, it drops the entry that was idle longest.
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

// answered records a request for messages.
func (b *ledger) answered(now time.Time, err error) {
	b.receives++
	if err != nil {
		b.errors++
		b.queue.Error = err.Error()
		return
	}
	b.queue.Error, b.queue.Answered = "", &now
}

// handled records that all objects in a message are in order.
func (b *ledger) handled(m *held) {
	b.queue.Handled++
	delete(b.left, m.ID)
}

// ended records a finished update. Messages about names that are left are delivered again until a time.
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
			if x.Bytes == 0 { // unknown this time
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

// leave records a message that was left, and whether that was its last delivery.
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
