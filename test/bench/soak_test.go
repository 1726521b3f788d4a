package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A short soak: packages are published, samples are taken, and a page is written. What is flat
// shows only after minutes: `make soak`.
func TestSoak(t *testing.T) {
	s, err := RunSoak(t.Context(), SoakOptions{For: 8 * time.Second, Every: 500 * time.Millisecond, Binaries: binaries(t), Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if s.Packages < 8 || len(s.Samples) < 4 || s.Requests < 10 || s.Bytes < 100_000 {
		t.Errorf("%d packages, %d samples, %d requests, %d bytes", s.Packages, len(s.Samples), s.Requests, s.Bytes)
	}
	for _, x := range s.Samples {
		if x.RSS < 10*mib || x.Heap < mib || x.Files < 5 || x.Goroutines < 5 {
			t.Errorf("a sample: %+v", x)
		}
	}
	dir := t.TempDir()
	if err := s.Write(dir, "make soak"); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "soak.md"))
	if err != nil || !strings.Contains(string(page), "resident memory") {
		t.Errorf("%v:\n%s", err, page)
	}
	plot, err := os.ReadFile(filepath.Join(dir, "soak.svg"))
	if err != nil || strings.Count(string(plot), "<polyline") != len(quantities) {
		t.Errorf("%v:\n%s", err, plot)
	}
	for d := xml.NewDecoder(strings.NewReader(string(plot))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// What grows steadily is found out, whatever the noise; what is only noise is not, nor what grows before
// it is judged.
func TestWhatIsFlat(t *testing.T) {
	made := func(rss func(minute float64) float64) *Soak {
		s := &Soak{For: 20 * time.Minute}
		for i := range 120 {
			minute := float64(i) / 6
			noise := 5 * mib * math.Sin(float64(i)*2.3)
			s.Samples = append(s.Samples, Sample{
				At: time.Duration(minute * float64(time.Minute)), RSS: rss(minute) + noise, Heap: 20 * mib, Files: 20 + float64(i%4), Goroutines: 40,
			})
		}
		return s
	}
	for name, row := range map[string]struct {
		rss  func(float64) float64
		flat bool
	}{
		"noise":          {func(float64) float64 { return 60 * mib }, true},
		"a warm-up":      {func(m float64) float64 { return mib * min(20+m*10, 60) }, true},
		"half a MiB/min": {func(m float64) float64 { return mib * (60 + m/2) }, false},
	} {
		if s := made(row.rss); s.Flat() != row.flat {
			t.Errorf("%s: %+v", name, s.Trends())
		}
	}
	leak := made(func(float64) float64 { return 60 * mib })
	for i := range leak.Samples {
		leak.Samples[i].Files += float64(i) / 20 // one in more than three minutes
	}
	if leak.Flat() {
		t.Errorf("descriptors: %+v", leak.Trends())
	}
}
