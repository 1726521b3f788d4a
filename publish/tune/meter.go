package tune

import (
	"sync"
	"time"
)

// A meter measures the rate at which a trial sends bytes.
//
// It counts from the first report of bytes to the last. So the rate excludes the time before the first byte, in
// which connections are opened and content is hashed, and the time after the last byte, in which objects are
// completed.
//
// New connections are slow at first, and fill the buffers on the way. The meter does not count this warm-up either:
// a first part of the time or of the bytes, whichever ends first.
type meter struct {
	began     time.Time
	warmUp    time.Duration
	warmBytes int64

	mu     sync.Mutex // guards the fields below while the meter counts
	first  mark       // the first report
	warmed mark       // the first report after the warm-up
	last   mark       // the last report; its time is that of the last bytes sent
	total  int64
	ended  time.Time // zero: the meter still counts
}

// A mark is the number of bytes sent until a time. The zero mark is unset.
type mark struct {
	at    time.Time
	total int64
}

// sent counts n more bytes. A negative n takes back bytes that must be sent again.
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

// begins reports whether counting from the mark begins at now: the mark is unset, or has the same time. Bytes that
// are reported at one time were sent before it.
func (k mark) begins(now mark) bool { return k.at.IsZero() || k.at.Equal(now.at) }

func (m *meter) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended.IsZero() {
		m.ended = time.Now()
	}
}

// trial returns the result of a trial with a setting. The warm-up counts, too, if it did not end or the time after
// it is less than half of it. If all bytes were reported at one time, the whole time of the trial counts.
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
