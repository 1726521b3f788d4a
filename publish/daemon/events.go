package daemon

import (
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

// A hub gives events to whoever listens. Nobody who happens to be slow holds it up: who does
// not take them misses some, and is told so.
type hub struct {
	mu        sync.Mutex
	listeners map[chan Event]bool // whether it has missed some
	closed    bool
}

// behind is how many events a listener may be behind: what a burst of packages brings about.
const behind = 4096

func newHub() *hub { return &hub{listeners: make(map[chan Event]bool)} }

func (h *hub) send(e Event) {
	e.At = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for c, missed := range h.listeners {
		if missed {
			select {
			case c <- Event{At: e.At, Kind: "lost"}:
				missed = false
			default:
				continue
			}
		}
		select {
		case c <- e:
		default:
			missed = true
		}
		h.listeners[c] = missed
	}
}

// listen returns events until leave is called, or the hub is closed.
func (h *hub) listen() (events <-chan Event, leave func()) {
	c := make(chan Event, behind)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(c)
		return c, func() {}
	}
	h.listeners[c] = false
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.listeners[c]; ok {
			delete(h.listeners, c)
			close(c)
		}
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for c := range h.listeners {
		close(c)
	}
	clear(h.listeners)
}

// Events returns what happens from now on, until leave is called or the daemon stops.
func (d *Daemon) Events() (events <-chan Event, leave func()) { return d.events.listen() }
