package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vantagecompute/slurm-factory-publish/publish/events"
)

// indexerMode is the mode in the status of an indexer.
const indexerMode = "indexer"

// An indexerStatus is the JSON form of an indexer's status.
type indexerStatus struct {
	Mode string `json:"mode"`
	events.Status
}

// indexerSummary describes the state of the indexer in one word and one sentence.
func indexerSummary(s events.Status) (word, sentence string) {
	failed, waiting, again := 0, s.Queue.Held, 0
	for _, m := range s.Mirrors {
		waiting += m.Waiting
		if m.Last != nil && m.Last.Error != "" {
			failed++
		}
	}
	for _, l := range s.Left {
		if l.Deliveries > 1 {
			again++
		}
	}
	switch {
	case !s.Healthy:
		return "unhealthy", s.Problem
	case s.Stopping:
		return "stopping", "no messages are accepted; unfinished ones return to the queue"
	case s.Queue.Error != "":
		return "waiting", "the queue cannot be reached; requests are retried, and nothing is lost"
	case s.Queue.Answered == nil:
		return "waiting", "the queue has not answered yet"
	case len(s.Obligations) > 0:
		return "attention", "an invalidation failed and is retried"
	case failed > 0:
		return "attention", "a mirror could not be updated; it is retried"
	case len(s.Dead) > 0:
		return "attention", "messages went to the dead-letter queue"
	case again > 0:
		return "attention", "some messages are not handled yet"
	case waiting > 0:
		return "working", "messages are being handled"
	}
	return "idle", "all messages are handled"
}

// liveIndexer returns the changing part of an indexer's page.
func liveIndexer(s events.Status) nodes {
	out := append(state(s.At, s.Since)(indexerSummary(s)), heading("Queue"), queueSection(s.Queue), heading("Mirrors"))
	for _, m := range s.Mirrors {
		out = append(out, indexedMirror(m))
	}
	if len(s.Mirrors) == 0 {
		out = append(out, el("p", words("no message about any mirror yet")))
	}
	if len(s.Dead) > 0 {
		out = append(out, heading("Dead letters"), letters("failed", s.Dead),
			el("p", class("quiet"), words("fix the cause, and move the messages back from the dead-letter queue")))
	}
	if len(s.Left) > 0 {
		out = append(out, heading("To be delivered again"), letters("stuck", s.Left))
	}
	if len(s.Obligations) > 0 {
		t := owedTable()
		for _, o := range s.Obligations {
			t.rows = append(t.rows, cells(o.Mirror, ago(o.Since), strconv.Itoa(o.Tries), o.Reason))
		}
		out = append(out, heading("Invalidations that are due"), t)
	}
	return out
}

func queueSection(q events.QueueStatus) node {
	section := nodes{class("mirror"), el("h3", words(q.Address))}
	if q.Error != "" {
		section = append(section, el("p", class("problem"), words("cannot be asked: "+q.Error)))
	}
	var l list
	answered := "not yet"
	if q.Answered != nil {
		answered = ago(*q.Answered) + " ago"
	}
	l.fact("answered", answered)
	held := "none"
	if q.Held > 0 {
		held = number(q.Held)
		if q.Oldest != nil {
			held += ", the first of their objects was stored " + ago(*q.Oldest) + " ago"
		}
	}
	l.fact("in hand", held)
	counts := table{class: "states", headings: []string{"received", "handled", "left", "dead", "returned"}}
	counts.rows = []nodes{cells(number(int(q.Received)), number(int(q.Handled)), number(int(q.Left)), number(int(q.Dead)), number(int(q.Returned)))}
	return el("section", append(section, l.element(), counts)...)
}

func indexedMirror(m events.MirrorStatus) node {
	section := nodes{class("mirror"), el("h3", words(m.Name))}
	if m.Last != nil && m.Last.Error != "" {
		section = append(section, el("p", class("problem"), words("not in order: "+m.Last.Error)))
	}
	var l list
	now := "nothing"
	switch {
	case m.Working != nil:
		now = "being updated for " + ago(*m.Working)
	case m.Waiting > 0:
		now = "waiting: " + plural(m.Waiting, "name")
	}
	l.fact("to do", now)
	if j := m.Last; j != nil {
		is := ago(j.At) + " ago: " + plural(j.Names, "name") + " in " + seconds(j.Seconds)
		if j.Lag > 0 {
			is += ", " + seconds(j.Lag) + " after the first was stored"
		}
		if j.Left > 0 {
			is += ", " + number(j.Left) + " to be delivered again"
		}
		l.fact("last job", is)
	}
	if m.Switched != nil {
		l.fact("last switch", ago(*m.Switched)+" ago")
	}
	if m.Invalidated != nil {
		l.fact("caches invalidated", ago(*m.Invalidated)+" ago")
	}
	for _, x := range m.Indices {
		l.fact("index ("+x.Layout+")", indexSize(x.Packages, x.Bytes))
	}
	return el("section", append(section, l.element())...)
}

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < time.Minute {
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	}
	return d.Round(time.Second).String()
}

func letters(kind string, all []events.Letter) node {
	t := table{class: kind, headings: []string{"object", "deliveries", "left", "again", "reason"}}
	for _, l := range all {
		what, again := l.Object, "never"
		if what == "" {
			what = "message " + l.ID
		}
		if l.Again != nil {
			again = l.Again.Format(time.TimeOnly)
		}
		t.rows = append(t.rows, append(nodes{titled(what, l.ID)}, cells(strconv.Itoa(l.Deliveries), ago(l.At)+" ago", again, l.Reason)...))
	}
	return t
}

var (
	received    = describe("messages_received_total", "Messages that the queue has delivered.")
	ended       = describe("messages_total", "Messages by result: handled, left to be delivered again, dead, or returned when the program stopped.", "result")
	held        = describe("messages_held", "Messages that are held.")
	leftNow     = describe("messages_left", "Messages that were left and have not been delivered again.")
	oldestEvent = describe("oldest_event_age_seconds", "Age of the oldest object named by a held message; 0: none.")
	eventLag    = describe("event_seconds", "Time from storing an object until it is in the index and caches are invalidated.", "mirror")
	receives    = describe("queue_receives_total", "Requests for messages; three a minute while there are none.")
	answeredAt  = describe("queue_answered_timestamp_seconds", "When the queue last answered; until its first answer, when the program started.")

	indexerMetrics = []*prometheus.Desc{
		buildInfo, healthy, received, ended, held, leftNow, oldestEvent, eventLag, receives, answeredAt, queueErrors,
		runs, lastPublish, switches, indexPackages, indexBytes, obligations, oldestDuty, invalidated, invalidationFailures,
	}
)

// NewIndexerMetrics returns the metrics of an indexer.
func NewIndexerMetrics(h *events.Host, version string) *Metrics {
	return newMetrics(indexerMetrics, func(m meter) {
		m.gauge(buildInfo, 1, version)
		n := h.Counted()
		m.counter(received, float64(n.Received))
		for result, count := range map[string]int64{"handled": n.Handled, "left": n.Left, "dead": n.Dead, "returned": n.Returned} {
			m.counter(ended, float64(count), result)
		}
		m.counter(receives, float64(n.Receives))
		m.counter(queueErrors, float64(n.QueueErrors))
		m.counter(invalidationFailures, float64(n.InvalidationFailures))
		for name, one := range n.Mirrors {
			m.runs(name, one.Updates, one.Failures)
			m.counter(switches, float64(one.Switches), name)
			m.counter(invalidated, float64(one.Invalidations), name)
			m.histogram(eventLag, one.Latency, name)
		}
		m.indexer(h)
	})
}

// indexer measures the current state of an indexer.
func (m meter) indexer(h *events.Host) {
	s := h.Status()
	m.gauge(healthy, truth(s.Healthy))
	m.gauge(held, float64(s.Queue.Held))
	m.gauge(leftNow, float64(s.Queue.Again))
	m.gauge(oldestEvent, age(s.Queue.Oldest))
	answered := s.Since
	if s.Queue.Answered != nil {
		answered = *s.Queue.Answered
	}
	m.gauge(answeredAt, timestamp(answered))
	owed := make(map[string]*time.Time)
	for _, o := range s.Obligations {
		owed[o.Mirror] = &o.Since
	}
	for _, one := range s.Mirrors {
		if one.Healed != nil {
			m.gauge(lastPublish, timestamp(*one.Healed), one.Name)
		}
		for _, x := range one.Indices {
			m.index(one.Name, "", x.Layout, x.Packages, x.Bytes)
		}
		since := owed[one.Name]
		m.gauge(obligations, truth(since != nil), one.Name)
		m.gauge(oldestDuty, age(since), one.Name)
	}
}
