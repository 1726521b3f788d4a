package steplog

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
)

// A line every 15 s says how far it is, and how fast it went since the one before.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards lines while one is added
		var lines []string
		object := func(name string, size int64) publish.Write {
			return publish.Write{Object: buildcache.Object{Name: name, Size: size}}
		}
		m := newMeter(&publish.Plan{Mirrors: []*publish.MirrorPlan{{
			Blobs:     []buildcache.Object{{Name: "b", Size: 512 << 20}, {Name: "c", Size: 10 << 20}, {Name: "c", Size: 10 << 20}},
			Documents: [][]publish.Write{{object("d", 100)}},
			Marker:    []buildcache.Object{{Name: "layout.json", Size: 20}},
		}}}, func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, fmt.Sprintf(format, args...))
		})
		m.start()
		time.Sleep(10 * time.Second)
		m.Sent("zlib@1/abc", 10<<20, 10<<20)
		m.Sent("zlib@1/abc", 10<<20, 10<<20)
		m.Sent("gcc@14/def", 512<<20, 130<<20)
		time.Sleep(15 * time.Second)
		m.retries.Add(2)
		m.Sent("gcc@14/def", 512<<20, 382<<20)
		m.Sent("zlib@1/abc", 10<<20, -10<<20) // the answer was lost
		time.Sleep(10 * time.Second)
		m.stop()
		want := []string{
			"2/5 objects · 150 MiB of 532 MiB · 10 MiB/s · ETA 38s",
			`sent "gcc@14/def", 512 MiB`,
			"2/5 objects · 522 MiB of 532 MiB · 25 MiB/s · ETA 1s · 2 retries",
		}
		if !slices.Equal(lines, want) {
			t.Errorf("%q, want\n%q", lines, want)
		}
	})
}
