package bench

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// warmup is the part of a soak that is not judged: caches fill, and the heap finds its size.
const warmup = 0.25

// A Trend is how something has developed after the warm-up.
type Trend struct {
	What   string
	Unit   string
	Median float64
	Growth float64 // by the line that fits best, over all that is judged
	Most   float64 // that it may have grown by
}

// Flat reports whether it grows no more than noise does.
func (t Trend) Flat() bool { return t.Growth <= t.Most }

// quantities are what a soak looks at. What may grow is a part of the median, or so much.
var quantities = []struct {
	what, unit string
	of         func(Sample) float64
	part, most float64
}{
	{"resident memory", "bytes", func(s Sample) float64 { return s.RSS }, 0.10, 4 * mib},
	{"heap in use", "bytes", func(s Sample) float64 { return s.Heap }, 0.10, 4 * mib},
	{"file descriptors", "", func(s Sample) float64 { return s.Files }, 0.10, 3},
	{"goroutines", "", func(s Sample) float64 { return s.Goroutines }, 0.10, 5},
}

// Trends are what has become of all that is looked at.
func (s *Soak) Trends() []Trend {
	var all []Trend
	judged := s.judged()
	for _, q := range quantities {
		var at, values []float64
		for _, sample := range judged {
			at, values = append(at, sample.At.Seconds()), append(values, q.of(sample))
		}
		t := Trend{What: q.what, Unit: q.unit, Median: middle(values), Most: q.most}
		t.Most = max(t.Most, q.part*t.Median)
		if n := len(at); n > 1 {
			t.Growth = slope(at, values) * (at[n-1] - at[0])
		}
		all = append(all, t)
	}
	return all
}

func (s *Soak) judged() []Sample {
	from := time.Duration(warmup * float64(s.For))
	i := slices.IndexFunc(s.Samples, func(s Sample) bool { return s.At >= from })
	return s.Samples[max(i, 0):]
}

// slope is that of the line with the least squares.
func slope(x, y []float64) float64 {
	mx, my := mean(x), mean(y)
	above, below := 0.0, 0.0
	for i := range x {
		above += (x[i] - mx) * (y[i] - my)
		below += (x[i] - mx) * (x[i] - mx)
	}
	if below == 0 {
		return 0
	}
	return above / below
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(len(values), 1))
}

func middle(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// Flat reports whether nothing grows.
func (s *Soak) Flat() bool {
	return !slices.ContainsFunc(s.Trends(), func(t Trend) bool { return !t.Flat() })
}

// Print tells how it went.
func (s *Soak) Print(w io.Writer) {
	fmt.Fprintf(w, "| | median | grew by | may grow by | |\n|---|---|---|---|---|\n")
	for _, t := range s.Trends() {
		verdict := "flat"
		if !t.Flat() {
			verdict = "**grows**"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", t.What, amount(t.Median, t.Unit), amount(t.Growth, t.Unit), amount(t.Most, t.Unit), verdict)
	}
}

func amount(v float64, unit string) string {
	if unit == "bytes" {
		return fmt.Sprintf("%.1f MiB", v/mib)
	}
	return fmt.Sprintf("%.1f", v)
}

// Write writes a page, soak.md, and a plot, soak.svg.
func (s *Soak) Write(dir, command string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var page strings.Builder
	fmt.Fprintf(&page, "# A daemon at work for long\n\nMade by `%s`. Packages appear without a pause, %d at a time, one in %d of 20 MiB; the bucket is 40 ms away, answers 1 %% of requests\n"+
		"with an error and resets 1 %% of connections. After every %d packages source and bucket are emptied, so that there is as much to do in the\n"+
		"end as at the beginning. What is judged begins after a quarter of the time: the line that fits best, over all of it.\n\n", command, soakBatch, soakLarge, soakRound)
	fmt.Fprintf(&page, "| | |\n|---|---|\n")
	line := func(k, v string) { fmt.Fprintf(&page, "| %s | %s |\n", k, v) }
	m := s.Machine
	line("when", m.Began.UTC().Format("2006-01-02 15:04")+", for "+m.Took.Round(time.Second).String())
	line("machine", m.Machine+", "+humanize.IBytes(uint64(m.Memory))+", Linux "+m.Kernel)
	line("load before and after", m.LoadFrom+", "+m.LoadTo)
	line("Go", m.Go)
	line("published", fmt.Sprintf("%d packages in %d rounds, none of them failed", s.Packages, s.Rounds))
	line("requests", fmt.Sprintf("%d, of which %d were refused or reset on demand", s.Requests, s.Refused))
	line("sent", humanize.IBytes(uint64(s.Bytes)))
	line("samples", fmt.Sprint(len(s.Samples)))
	fmt.Fprintf(&page, "\n![Memory, descriptors and goroutines over time](soak.svg)\n\n")
	s.Print(&page)
	fmt.Fprintf(&page, "\n| after | resident memory | heap in use | file descriptors | goroutines |\n|---|---|---|---|---|\n")
	for i, next := 0, time.Duration(0); i < len(s.Samples); i++ {
		if x := s.Samples[i]; x.At >= next || i == len(s.Samples)-1 {
			fmt.Fprintf(&page, "| %s | %s | %s | %.0f | %.0f |\n", x.At.Round(time.Second), amount(x.RSS, "bytes"), amount(x.Heap, "bytes"), x.Files, x.Goroutines)
			next = x.At + s.For/20
		}
	}
	return writeAll(dir, map[string][]byte{"soak.md": []byte(page.String()), "soak.svg": s.plot()})
}

func writeAll(dir string, files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Where curves are drawn: one chart for bytes above one for numbers.
const (
	chartLeft   = 60
	chartRight  = 740
	chartHeight = 150
)

// plot draws what was sampled over time.
func (s *Soak) plot() []byte {
	const height = 2*(chartHeight+50) + 10
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12" fill="#1f2328">`+"\n", plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", plotWidth, height)
	s.chart(&b, 30, "MiB", 1.0/mib, 0, 1)
	s.chart(&b, 30+chartHeight+50, "", 1, 2, 3)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// chart draws some quantities.
func (s *Soak) chart(b *bytes.Buffer, top int, unit string, scale float64, which ...int) {
	colors := []string{"#0969da", "#d4a72c"}
	most := 1.0
	for _, q := range which {
		for _, x := range s.Samples {
			most = max(most, quantities[q].of(x)*scale)
		}
	}
	step := tick(most)
	bottom := top + chartHeight
	for v := 0.0; v <= most+step/2; v += step {
		y := float64(bottom) - v/(most*1.05)*chartHeight
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#d8dee4"/>`+"\n", chartLeft, y, chartRight, y)
		text(b, chartLeft-6, int(y)+4, "end", "normal", strings.TrimSpace(fmt.Sprintf("%g %s", v, unit)))
	}
	across := func(at time.Duration) float64 {
		return chartLeft + at.Seconds()/s.For.Seconds()*(chartRight-chartLeft)
	}
	for i := range 5 {
		at := s.For * time.Duration(i) / 4
		text(b, across(at), bottom+16, "middle", "normal", at.Round(time.Second).String())
	}
	from := across(time.Duration(warmup * float64(s.For)))
	fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#8c959f" stroke-dasharray="4 4"/>`+"\n", from, top, from, bottom)
	for i, q := range which {
		var points strings.Builder
		for _, x := range s.Samples {
			fmt.Fprintf(&points, "%.1f,%.1f ", across(x.At), float64(bottom)-quantities[q].of(x)*scale/(most*1.05)*chartHeight)
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.TrimSpace(points.String()), colors[i])
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/>`+"\n", chartLeft+i*150, top-20, colors[i])
		text(b, float64(chartLeft+i*150+15), top-11, "start", "normal", quantities[q].what)
	}
}
