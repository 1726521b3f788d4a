package tune

import (
	"sync"
	"time"
)

// A meter measures how fast a trial sends.
//
// It counts from one report of bytes to another. So the time before the first byte, in which connections are made
// and content is hashed, and the time after the last one, in which objects are completed, are no part of the rate.
//
// Connections take their time to become fast and to fill the buffers on the way. What is sent meanwhile is not
// counted either: a first part of the time or of the bytes, whichever is over first.
type meter struct {
	began     time.Time
	warmUp    time.Duration
	warmBytes int64

	mu     sync.Mutex // guards what follows while it is counted
	first  mark       // the first report
	warmed mark       // the first report after warming up
	last   mark       // the last report of bytes that were sent
	total  int64
	ended  time.Time // zero: it is still counted
}

// A mark is how much had been sent at a time. The zero mark is none.
type mark struct {
	at    time.Time
	total int64
}

// sent counts n more bytes, or fewer if n is negative: what is sent again was not sent before.
func (m *meter) sent(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ended.IsZero() {
		return
	}
	m.total += n
	now := mark{time.Now(), m.total}
	if m.first.begins(now) {
		m.first = now
	}
	if m.warmed.begins(now) && (now.at.Sub(m.first.at) >= m.warmUp || now.total >= m.warmBytes) {
		m.warmed = now
	}
	if n < 0 {
		now.at = m.last.at
	}
	m.last = now
}

// begins reports whether now is where counting from the mark begins: there is none yet, or it is of the same
// moment. What is reported at one moment was sent before it.
func (k mark) begins(now mark) bool { return k.at.IsZero() || k.at.Equal(now.at) }

func (m *meter) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended.IsZero() {
		m.ended = time.Now()
	}
}

// trial is what was measured. Everything between the first report and the last counts if hardly anything came after
// warming up, and the whole time if all was reported at one moment.
func (m *meter) trial(s Setting) Trial {
	from := m.warmed
	if from.at.IsZero() || m.last.at.Sub(from.at) < from.at.Sub(m.first.at)/2 {
		from = m.first
	}
	t := Trial{Setting: s, Bytes: max(m.last.total-from.total, 0), Took: m.last.at.Sub(from.at)}
	if t.Took <= 0 {
		t.Bytes, t.Took = m.total, m.ended.Sub(m.began)
	}
	t.Rate = float64(t.Bytes) / max(t.Took.Seconds(), 1e-9)
	return t
}
