package events

import (
	"slices"
	"time"
)

// A held message was received, and is neither taken from the queue nor given back yet.
type held struct {
	Message
	parts   int    // how many of its objects are not settled yet
	left    string // why it must be delivered again; empty: it need not be
	strange bool   // it will say no more when it is delivered again

	object string    // the first that it tells of
	at     time.Time // when what it tells of was stored, the first of it; zero where nothing says
}

// A gathering collects the messages about each mirror, so that its index is replaced once for many
// packages. For each mirror at most one update runs at a time, and messages that come meanwhile are for the
// next one.
type gathering struct {
	settle, longest time.Duration // see Config
	waiting         map[string]*gathered
	busy            map[string]bool
}

// gathered are the messages about a mirror that wait for its next update.
type gathered struct {
	mirror      string
	by          map[string][]*held // the messages that name an object
	first, last time.Time          // when one came in
}

func newGathering(settle, longest time.Duration) *gathering {
	return &gathering{settle: settle, longest: longest, waiting: map[string]*gathered{}, busy: map[string]bool{}}
}

// add notes a name that m contains.
func (g *gathering) add(now time.Time, mirror, name string, m *held) {
	w := g.waiting[mirror]
	if w == nil {
		w = &gathered{mirror: mirror, by: map[string][]*held{}, first: now}
		g.waiting[mirror] = w
	}
	w.last = now
	w.by[name] = append(w.by[name], m)
}

// due is when a mirror is to be looked at: when there were no events for a while, or when
// events have kept coming for long enough.
func (g *gathering) due(w *gathered) time.Time {
	if at, latest := w.last.Add(g.settle), w.first.Add(g.longest); at.Before(latest) {
		return at
	} else {
		return latest
	}
}

// take returns what is due longest, or else the time until something is; negative if nothing
// waits.
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

// done ends a job that take gave out.
func (g *gathering) done(w *gathered) { delete(g.busy, w.mirror) }

// stored is when each name was first stored, according to messages.
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

// job is what is to be looked at.
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

// settled marks names as done, with the reasons for those that must be delivered again, and returns the messages of which
// nothing is open any more.
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
