package daemon

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/histogram"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// Counts count the events since the daemon started, for metrics.
type Counts struct {
	checked              atomic.Int64
	sent                 atomic.Int64
	invalidationFailures atomic.Int64
	queueErrors          atomic.Int64

	// mu guards mirrors.
	mu      sync.Mutex
	mirrors map[string]*MirrorCounts
}

// MirrorCounts are the counts of one mirror.
type MirrorCounts struct {
	Jobs          map[queue.State]int // entries into each state
	Runs          int
	Failures      map[string]int // of runs, by class: see Options.Class
	Scans         int
	ScanSeconds   float64 // of the latest scan
	Documents     int     // seen by the latest scan
	Overflows     int     // of the event queue of the file system
	Objects       int
	IndexSwitches int
	Invalidations int
	// Latency counts packages by the seconds from acceptance to publication.
	Latency *histogram.Histogram
}

func (c *Counts) of(mirror string, count func(*MirrorCounts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mirrors == nil {
		c.mirrors = make(map[string]*MirrorCounts)
	}
	m := c.mirrors[mirror]
	if m == nil {
		m = &MirrorCounts{Jobs: make(map[queue.State]int), Failures: make(map[string]int), Latency: histogram.New(1, 2, 5, 10, 30, 60, 300, 1800, 7200)}
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

// ran counts a run. class is empty if it succeeded.
func (c *Counts) ran(mirror string, out Result, class string) {
	c.of(mirror, func(m *MirrorCounts) {
		m.Runs++
		m.Objects += out.Objects
		if class != "" {
			m.Failures[class]++
		}
		for _, x := range out.Indices {
			if x.Written {
				m.IndexSwitches++
			}
		}
	})
}

func (c *Counts) invalidated(mirror string) {
	c.of(mirror, func(m *MirrorCounts) { m.Invalidations++ })
}

func (c *Counts) latency(mirror string, took time.Duration) {
	c.of(mirror, func(m *MirrorCounts) { m.Latency.Observe(took.Seconds()) })
}

// Totals are the counts of the daemon as a whole.
type Totals struct {
	CheckedBytes, SentBytes, InvalidationFailures, QueueErrors int64
}

// Counted returns the counts so far.
func (d *Daemon) Counted() (Totals, map[string]MirrorCounts) {
	c := &d.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]MirrorCounts, len(c.mirrors))
	for name, m := range c.mirrors {
		one := *m
		one.Jobs, one.Failures, one.Latency = maps.Clone(m.Jobs), maps.Clone(m.Failures), m.Latency.Clone()
		all[name] = one
	}
	return Totals{c.checked.Load(), c.sent.Load(), c.invalidationFailures.Load(), c.queueErrors.Load()}, all
}
