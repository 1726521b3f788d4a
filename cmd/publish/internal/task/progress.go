package task

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

const (
	LineEvery = 15 * time.Second // where there is no terminal
	showFrom  = 64 << 20         // a file of so many bytes gets a bar of its own
	maxBars   = 4                // of single files, so that the screen stays calm
)

// A Screen is the observer of the command line: it shows what takes long, and leaves the
// rest to the report.
type Screen struct{ Env cli.Env }

func (Screen) Begin(Part)                     {}
func (Screen) Note(string, ...any)            {}
func (Screen) Scanned(*source.Source)         {}
func (Screen) Planned(*publish.Plan, *Report) {}

func (s Screen) Progress(plan *publish.Plan) (publish.Progress, func(*publish.Outcome)) {
	p := newProgress(s.Env, plan)
	return p, func(*publish.Outcome) { p.stop() }
}

// A progress shows how a plan is carried out: bars on a terminal, else a line every 15 s.
type progress struct {
	out   io.Writer
	total int64
	began time.Time

	mu   sync.Mutex // guards sent, step and files while one event is put in
	sent int64
	step string

	bars  *mpb.Progress // nil where there is no terminal
	whole *mpb.Bar
	files map[string]*mpb.Bar

	done    chan struct{}
	stopped sync.WaitGroup
}

func newProgress(env cli.Env, plan *publish.Plan) *progress {
	p := &progress{out: env.Stderr, total: plan.Cost(0, 0, 0).Bytes, began: time.Now(), files: make(map[string]*mpb.Bar), done: make(chan struct{})}
	if p.total == 0 {
		return p
	}
	if f := cli.Terminal(env.Raw.Stderr); f != nil {
		p.bars = mpb.New(mpb.WithOutput(f), mpb.WithWidth(40))
		p.whole = p.bar("total", p.total)
		return p
	}
	p.stopped.Add(1)
	go p.lines()
	return p
}

func (p *progress) bar(name string, size int64) *mpb.Bar {
	return p.bars.AddBar(size, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(short(escape.Line(name)), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), decor.AverageSpeed(decor.SizeB1024(0), "  % .1f"), decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace)))
}

// short keeps the end of a name, which tells it from others.
func short(name string) string {
	if len(name) > 40 {
		return "..." + name[len(name)-37:]
	}
	return name
}

// Sent implements publish.Progress.
func (p *progress) Sent(name string, size, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent += n
	if p.bars == nil {
		return
	}
	p.whole.SetCurrent(min(max(p.sent, 0), p.total))
	if size < showFrom {
		return
	}
	b := p.files[name]
	if b == nil {
		if len(p.files) >= maxBars {
			return
		}
		b = p.bar(name, size)
		p.files[name] = b
	}
	b.IncrInt64(n)
	if b.Completed() {
		delete(p.files, name)
	}
}

// Step implements publish.Progress.
func (p *progress) Step(_, step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
}

func (p *progress) lines() {
	defer p.stopped.Done()
	tick := time.NewTicker(LineEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case now := <-tick.C:
			p.mu.Lock()
			fmt.Fprintln(p.out, p.line(now))
			p.mu.Unlock()
		}
	}
}

// line is the state in words: blobs: 3.1 GiB of 5.4 GiB, 88 MiB/s, 27s left.
func (p *progress) line(now time.Time) string {
	seconds := now.Sub(p.began).Seconds()
	rate := float64(p.sent) / max(seconds, 0.001)
	left := "some time"
	if rate > 0 {
		left = time.Duration(float64(p.total-p.sent) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("%s: %s of %s, %s/s, %s left", p.step, cli.Size(p.sent), cli.Size(p.total), cli.Size(int64(rate)), left)
}

func (p *progress) stop() {
	close(p.done)
	p.stopped.Wait()
	if p.bars == nil {
		return
	}
	p.mu.Lock()
	for _, b := range p.files {
		b.Abort(true)
	}
	p.whole.Abort(true)
	p.mu.Unlock()
	p.bars.Wait()
}
