package steplog

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// notable is the size from which an object gets its own line.
const notable = 256 << 20

// A meter counts sent bytes and writes a line every 15 s.
type meter struct {
	say   func(format string, args ...any)
	every bool // a line for every object

	whole struct {
		objects int
		bytes   int64
	}
	retries atomic.Int64

	mu   sync.Mutex // guards the fields below while one event is recorded
	sent map[sending]int64
	done int
	now  int64 // bytes

	began, last time.Time
	lastBytes   int64

	ended   chan struct{}
	stopped sync.WaitGroup
}

// A sending is an object that is being sent. All blobs of a package have its name, so several may share one.
type sending struct {
	name string
	size int64
}

func newMeter(plan *publish.Plan, say func(string, ...any)) *meter {
	m := &meter{say: say, sent: make(map[sending]int64), ended: make(chan struct{})}
	add := func(o buildcache.Object) {
		m.whole.objects++
		m.whole.bytes += o.Size
	}
	for _, p := range plan.Mirrors {
		for _, o := range p.Blobs {
			add(o)
		}
		for _, wave := range p.Documents {
			for _, w := range wave {
				add(w.Object)
			}
		}
		for _, o := range append(p.Marker[:len(p.Marker):len(p.Marker)], p.Keys...) {
			add(o)
		}
	}
	for _, f := range plan.Files {
		for _, w := range f.Writes {
			add(w.Object)
		}
	}
	return m
}

// Sent implements publish.Progress.
func (m *meter) Sent(name string, size, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now += n
	if size <= 0 {
		return
	}
	of := sending{name, size}
	before := m.sent[of] / size
	m.sent[of] += n
	after := m.sent[of] / size
	m.done += int(after - before)
	if after > before && (m.every || size >= notable) {
		m.say("sent %q, %s", name, humanize.IBytes(uint64(size)))
	}
}

// Stored implements publish.Progress. Sent has counted the bytes.
func (m *meter) Stored(string, int64) {}

// objects returns how many objects were sent, and how many there are.
func (m *meter) objects() (sent, of int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.done, m.whole.objects
}

func (m *meter) start() {
	m.began = time.Now()
	m.last = m.began
	m.stopped.Add(1)
	go func() {
		defer m.stopped.Done()
		tick := time.NewTicker(task.LineEvery)
		defer tick.Stop()
		for {
			select {
			case <-m.ended:
				return
			case now := <-tick.C:
				m.say("%s", m.line(now))
			}
		}
	}()
}

func (m *meter) stop() {
	close(m.ended)
	m.stopped.Wait()
}

// line describes the progress: 142/214 objects · 3.1/5.4 GiB · 88 MiB/s · ETA 27 s · 2 retries. The rate is
// that since the last line.
func (m *meter) line(now time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	rate := float64(m.now-m.lastBytes) / max(now.Sub(m.last).Seconds(), 0.001)
	mean := float64(m.now) / max(now.Sub(m.began).Seconds(), 0.001)
	m.last, m.lastBytes = now, m.now
	left := "?"
	if mean > 0 {
		left = time.Duration(float64(max(m.whole.bytes-m.now, 0)) / mean * float64(time.Second)).Round(time.Second).String()
	}
	line := fmt.Sprintf("%d/%d objects · %s of %s · %s/s · ETA %s", m.done, m.whole.objects, cli.Size(m.now), cli.Size(m.whole.bytes), cli.Size(int64(rate)), left)
	if n := m.retries.Load(); n > 0 {
		line += fmt.Sprintf(" · %d retries", n)
	}
	return line
}
