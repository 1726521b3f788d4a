package queue_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// What a hook waits for: one acknowledgement, and many at once.
func BenchmarkAccept(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("%d at once", callers), func(b *testing.B) {
			q := open(b, b.TempDir())
			var n atomic.Int64
			took := make([]time.Duration, b.N)
			b.SetParallelism(callers)
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					i := n.Add(1)
					began := time.Now()
					if _, err := q.Accept(context.Background(), job("a", int(i))); err != nil {
						b.Error(err)
					}
					took[i-1] = time.Since(began)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acks/s")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
		})
	}
}
