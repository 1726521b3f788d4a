// Package event distributes the events of a daemon to listeners, each at its own pace.
package event

import (
	"context"
	"sync"
	"time"
)

// An Event is a change in a daemon.
type Event struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"` // job, run, caches, or lost if the listener missed events
	Mirror string    `json:"mirror,omitempty"`
	State  string    `json:"state,omitempty"`
	Reason string    `json:"reason,omitempty"`

	Job         int64   `json:"job,omitempty"`
	Package     string  `json:"package,omitempty"`
	Packages    int     `json:"packages,omitempty"`
	Obligations []int64 `json:"obligations,omitempty"`
}

// A Hub distributes events to listeners. A slow listener delays nothing: it misses events, and receives a "lost"
// event instead.
type Hub struct {
	mu        sync.Mutex
	listeners map[*Listener]bool
	closed    bool
}

// NewHub returns a hub without listeners.
func NewHub() *Hub { return &Hub{listeners: make(map[*Listener]bool)} }

// A Listener receives events until it leaves or the hub is closed. Its memory grows only with the events that wait.
type Listener struct {
	hub   *Hub
	only  func(Event) bool // nil for all events
	limit int
	ready chan struct{} // holds one element if the listener must look again

	// The hub's mutex guards the fields below.
	waiting []Event
	missed  bool
	closed  bool
}

// Send passes an event, with the current time, to the listeners that accept it.
func (h *Hub) Send(e Event) {
	e.At = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		if l.only == nil || l.only(e) {
			l.add(e)
		}
	}
}

// add appends an event. The hub's mutex is held.
func (l *Listener) add(e Event) {
	if l.missed = l.missed || len(l.waiting) >= l.limit; !l.missed {
		l.waiting = append(l.waiting, e)
	}
	l.wake()
}

// Listen returns a listener for the events that only accepts. At most limit events wait.
func (h *Hub) Listen(limit int, only func(Event) bool) *Listener {
	l := &Listener{hub: h, only: only, limit: limit, ready: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.closed = h.closed; !l.closed {
		h.listeners[l] = true
	}
	return l
}

// Next returns the next event. It returns false when ctx has ended, or when the listener has left or the hub is
// closed and no event waits.
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
	l.waiting = nil // frees the memory of a burst
	return Event{}, false, l.closed
}

// Leave closes the listener.
func (l *Listener) Leave() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.end()
}

// end closes a listener. The hub's mutex is held.
func (l *Listener) end() {
	delete(l.hub.listeners, l)
	l.closed = true
	l.wake()
}

// Close closes all listeners, including future ones.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for l := range h.listeners {
		l.end()
	}
}

// wake makes Next check again.
func (l *Listener) wake() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}
