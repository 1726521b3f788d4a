// Package histogram counts measurements in buckets.
//
// Daemon and indexer count under the mutex of what they count, so that all figures of a moment agree. Only
// publish/daemon/api, which hands them to Prometheus, imports its library.
package histogram

import "slices"

// A Histogram counts measurements by upper bounds, and adds them up. It has no mutex of its own.
type Histogram struct {
	bounds []float64
	counts []uint64 // of each bound, those of lower bounds included
	count  uint64
	sum    float64
}

// New returns a histogram with upper bounds in increasing order.
func New(bounds ...float64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]uint64, len(bounds))}
}

// Observe counts a measurement; one below 0 counts as 0, since clocks may be ahead.
func (h *Histogram) Observe(v float64) {
	v = max(v, 0)
	h.count++
	h.sum += v
	for i, bound := range h.bounds {
		if v <= bound {
			h.counts[i]++
		}
	}
}

// Clone returns a copy.
func (h *Histogram) Clone() *Histogram {
	c := *h
	c.counts = slices.Clone(h.counts)
	return &c
}

// Buckets returns the number of measurements up to each bound, that of all, and their sum.
func (h *Histogram) Buckets() (buckets map[float64]uint64, count uint64, sum float64) {
	buckets = make(map[float64]uint64, len(h.bounds))
	for i, bound := range h.bounds {
		buckets[bound] = h.counts[i]
	}
	return buckets, h.count, h.sum
}
