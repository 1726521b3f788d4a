package daemon

import (
	"context"
	"sync"
	"time"
)

// An Event is something that happened.
type Event struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"` // job, run, caches, or lost: there were more than the reader took
	Mirror string    `json:"mirror,omitempty"`
	State  string    `json:"state,omitempty"`
	Reason string    `json:"reason,omitempty"`

	Job         int64   `json:"job,omitempty"`
	Package     string  `json:"package,omitempty"`
	Packages    int     `json:"packages,omitempty"`
	Obligations []int64 `json:"obligations,omitempty"`
}

// A hub distributes events to listeners. A slow listener delays nothing: it misses events, and
// receives a "lost" event in their place.
type hub struct {
	mu        sync.Mutex
	listeners map[*Listener]bool
	closed    bool
}

// behind is how many events a listener may be behind: as many as a burst of packages causes.
const behind = 4096

func newHub() *hub { return &hub{listeners: make(map[*Listener]bool)} }

// A Listener receives events until it leaves or the daemon stops. It takes memory for the events
// that wait, not for those that could.
type Listener struct {
	hub   *hub
	only  func(Event) bool // nil: all events
	limit int
	ready poke

	// The mutex of the hub guards what follows.
	waiting []Event
	missed  bool
	closed  bool
}

func (h *hub) send(e Event) {
	e.At = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		if l.only == nil || l.only(e) {
			l.add(e)
		}
	}
}

func (l *Listener) add(e Event) {
	if l.missed = l.missed || len(l.waiting) >= l.limit; !l.missed {
		l.waiting = append(l.waiting, e)
	}
	l.ready.give()
}

// listen returns a listener for the events that only accepts, of which at most limit wait.
func (h *hub) listen(limit int, only func(Event) bool) *Listener {
	l := &Listener{hub: h, only: only, limit: limit, ready: newPoke()}
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.closed = h.closed; !l.closed {
		h.listeners[l] = true
	}
	return l
}

// Next returns the next event. It returns false when ctx ends, or once the listener has left or
// the daemon has stopped and no event waits.
func (l *Listener) Next(ctx context.Context) (Event, bool) {
	for ctx.Err() == nil {
		if e, ok, closed := l.take(); ok || closed {
			return e, ok
		}
		select {
		case <-ctx.Done():
		case <-l.ready:
		}
	}
	return Event{}, false
}

func (l *Listener) take() (e Event, ok, closed bool) {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	switch {
	case len(l.waiting) > 0:
		e, l.waiting = l.waiting[0], l.waiting[1:]
		return e, true, l.closed
	case l.missed:
		l.missed = false
		return Event{At: time.Now(), Kind: "lost"}, true, l.closed
	}
	l.waiting = nil // a burst that is over takes no memory
	return Event{}, false, l.closed
}

// Leave ends the listener.
func (l *Listener) Leave() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.end()
}

// end closes a listener. The hub's mutex is held.
func (l *Listener) end() {
	delete(l.hub.listeners, l)
	l.closed = true
	l.ready.give()
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for l := range h.listeners {
		l.end()
	}
}

// Events returns what happens from now on, until the listener leaves or the daemon stops.
func (d *Daemon) Events() *Listener { return d.events.listen(behind, nil) }
