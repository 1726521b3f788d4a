package histogram

import (
	"maps"
	"testing"
)

// Each bucket holds those below it, and a copy stays as it was.
func TestMeasurementsAreCountedByBounds(t *testing.T) {
	h := New(1, 10)
	for _, v := range []float64{-1, 1, 2, 100} {
		h.Observe(v)
	}
	before := h.Clone()
	h.Observe(5)
	for _, row := range []struct {
		of    *Histogram
		want  map[float64]uint64
		count uint64
		sum   float64
	}{
		{before, map[float64]uint64{1: 2, 10: 3}, 4, 103},
		{h, map[float64]uint64{1: 2, 10: 4}, 5, 108},
	} {
		if buckets, count, sum := row.of.Buckets(); !maps.Equal(buckets, row.want) || count != row.count || sum != row.sum {
			t.Errorf("%v, %d, %v", buckets, count, sum)
		}
	}
}
