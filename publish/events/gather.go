package events

import (
	"slices"
	"time"
)

// A held message was received, and is neither deleted from the queue nor returned to it yet.
type held struct {
	Message
	parts   int    // the number of its objects that are not settled yet
	left    string // why it must be delivered again; empty if it need not be
	strange bool   // it cannot be read, and delivering it again will not change that

	object string    // the first object in it
	at     time.Time // when the first of its objects was stored; zero if unknown
}

// A gathering collects the messages about each mirror, so that its index is replaced once for many packages. At
// most one update runs for each mirror at a time. Messages that arrive meanwhile wait for the next one.
type gathering struct {
	settle, longest time.Duration // see Config
	waiting         map[string]*gathered
	busy            map[string]bool
}

// gathered holds the messages about a mirror that wait for its next update.
type gathered struct {
	mirror      string
	by          map[string][]*held // the messages that name each object
	first, last time.Time          // arrival of a message
}

func newGathering(settle, longest time.Duration) *gathering {
	return &gathering{settle: settle, longest: longest, waiting: map[string]*gathered{}, busy: map[string]bool{}}
}

// add records a message about a name in mirror m.
func (g *gathering) add(now time.Time, mirror, name string, m *held) {
	w := g.waiting[mirror]
	if w == nil {
		w = &gathered{mirror: mirror, by: map[string][]*held{}, first: now}
		g.waiting[mirror] = w
	}
	w.last = now
	w.by[name] = append(w.by[name], m)
}

// due returns when a mirror must be updated: after a time without events, or after the longest time under constant
// events.
func (g *gathering) due(w *gathered) time.Time {
	if at, latest := w.last.Add(g.settle), w.first.Add(g.longest); at.Before(latest) {
		return at
	} else {
		return latest
	}
}

// take returns the job that has been due longest, or else the time until one is due. The time is negative if
// nothing waits.
func (g *gathering) take(now time.Time) (*gathered, time.Duration) {
	var next *gathered
	for mirror, w := range g.waiting {
		if !g.busy[mirror] && (next == nil || g.due(w).Before(g.due(next))) {
			next = w
		}
	}
	if next == nil {
		return nil, -1
	}
	if wait := g.due(next).Sub(now); wait > 0 {
		return nil, wait
	}
	delete(g.waiting, next.mirror)
	g.busy[next.mirror] = true
	return next, 0
}

// done ends a job that take has returned.
func (g *gathering) done(w *gathered) { delete(g.busy, w.mirror) }

// stored maps each name to the time when it was first stored, according to messages.
func (w *gathered) stored() map[string]time.Time {
	all := make(map[string]time.Time)
	for name, by := range w.by {
		for _, m := range by {
			if at := all[name]; at.IsZero() || !m.at.IsZero() && m.at.Before(at) {
				all[name] = m.at
			}
		}
	}
	return all
}

// A job is an update of a mirror.
func (w *gathered) changes() Changes {
	j := Changes{Mirror: w.mirror}
	for name, by := range w.by {
		j.Names = append(j.Names, name)
		if slices.ContainsFunc(by, func(m *held) bool { return m.Deliveries > 1 }) {
			j.Again = append(j.Again, name)
		}
	}
	slices.Sort(j.Names)
	slices.Sort(j.Again)
	return j
}

// settled marks names as done, with the reasons for those that must be delivered again. It returns the messages
// that have no other open names.
func (w *gathered) settled(left map[string]string) []*held {
	var over []*held
	for name, by := range w.by {
		for _, m := range by {
			if reason := left[name]; reason != "" {
				m.left = reason
			}
			if m.parts--; m.parts == 0 {
				over = append(over, m)
			}
		}
	}
	return over
}
