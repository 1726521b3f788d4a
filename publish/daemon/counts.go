package daemon

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// Counts are what happened since the daemon began, for metrics.
type Counts struct {
	checked      atomic.Int64
	sent         atomic.Int64
	runFailures  atomic.Int64
	tellFailures atomic.Int64
	queueErrors  atomic.Int64

	// mu guards mirrors while one thing is counted.
	mu      sync.Mutex
	mirrors map[string]*MirrorCounts
}

// MirrorCounts are those of one mirror.
type MirrorCounts struct {
	Jobs          map[queue.State]int // that came into a state
	Runs          int
	FailedRuns    int
	Scans         int
	ScanSeconds   float64 // of the last one
	Documents     int     // that it saw
	Overflows     int     // of hints
	Objects       int
	IndexSwitches int
	Told          int // caches
	// Latency counts packages by how long it took from being taken over to being published: at
	// most Latencies[i] seconds each; the last is all.
	Latency    [len(Latencies) + 1]int
	LatencySum float64
}

// Latencies are bounds, in seconds.
var Latencies = [...]float64{1, 2, 5, 10, 30, 60, 300, 1800, 7200}

func (c *Counts) of(mirror string, count func(*MirrorCounts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mirrors == nil {
		c.mirrors = make(map[string]*MirrorCounts)
	}
	m := c.mirrors[mirror]
	if m == nil {
		m = &MirrorCounts{Jobs: make(map[queue.State]int)}
		c.mirrors[mirror] = m
	}
	count(m)
}

func (c *Counts) moved(mirror string, to queue.State) {
	c.of(mirror, func(m *MirrorCounts) { m.Jobs[to]++ })
}

func (c *Counts) scanned(mirror string, took time.Duration, documents int) {
	c.of(mirror, func(m *MirrorCounts) { m.Scans, m.ScanSeconds, m.Documents = m.Scans+1, took.Seconds(), documents })
}

func (c *Counts) ran(mirror string, out Outcome, err error) {
	c.of(mirror, func(m *MirrorCounts) {
		m.Runs++
		m.Objects += out.Objects
		if err != nil {
			m.FailedRuns++
		}
		for _, x := range out.Indices {
			if x.Written {
				m.IndexSwitches++
			}
		}
	})
}

func (c *Counts) told(mirror string) {
	c.of(mirror, func(m *MirrorCounts) { m.Told++ })
}

func (c *Counts) latency(mirror string, took time.Duration) {
	c.of(mirror, func(m *MirrorCounts) {
		seconds := max(took.Seconds(), 0)
		m.LatencySum += seconds
		m.Latency[len(Latencies)]++
		for i, bound := range Latencies {
			if seconds <= bound {
				m.Latency[i]++
			}
		}
	})
}

// Totals are the counts that are not of one mirror.
type Totals struct {
	CheckedBytes, SentBytes                int64
	RunFailures, TellFailures, QueueErrors int64
}

// Counted returns what was counted so far.
func (d *Daemon) Counted() (Totals, map[string]MirrorCounts) {
	c := &d.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]MirrorCounts, len(c.mirrors))
	for name, m := range c.mirrors {
		one := *m
		one.Jobs = maps.Clone(m.Jobs)
		all[name] = one
	}
	return Totals{c.checked.Load(), c.sent.Load(), c.runFailures.Load(), c.tellFailures.Load(), c.queueErrors.Load()}, all
}
