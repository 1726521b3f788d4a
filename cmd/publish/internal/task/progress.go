package task

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/vantagecompute/slurm-factory-publish/publish"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

const (
	LineEvery = 15 * time.Second // without a terminal
	showFrom  = 64 << 20         // a file of this size gets its own bar
	maxBars   = 4                // of single files, to keep the screen readable
	maxName   = 40               // shown characters of a name
)

// A progress shows how a plan is applied: bars on a terminal, otherwise a line every 15 s; and each finished
// step.
type progress struct {
	screen *Screen
	total  int64
	began  time.Time
	trees  bool // there are several mirrors, so a step names its mirror

	mu    sync.Mutex // guards the fields below while one event is recorded
	sent  int64
	step  string           // the newest step
	steps map[string]*step // the unfinished ones, by mirror
	index map[string]time.Duration

	bars  *mpb.Progress // nil where there is no terminal
	whole *mpb.Bar
	files map[string]*mpb.Bar

	done    chan struct{}
	stopped sync.WaitGroup
}

// A step of a mirror, and what it has stored.
type step struct {
	name    string
	began   time.Time
	objects int
	bytes   int64
}

func newProgress(s *Screen, plan *publish.Plan) *progress {
	p := &progress{
		screen: s, total: plan.Cost(0, 0, 0).Bytes, began: time.Now(), trees: len(plan.Mirrors) > 1,
		steps: make(map[string]*step), index: make(map[string]time.Duration), files: make(map[string]*mpb.Bar), done: make(chan struct{}),
	}
	if p.total == 0 || s.env.Output.Quiet {
		return p
	}
	if s.style.Terminal() {
		p.bars = mpb.New(mpb.WithOutput(s.env.Raw.Stderr), mpb.WithWidth(40))
		p.whole = p.bar("total", p.total)
		s.showAbove(p.bars)
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
	if len(name) > maxName {
		return "..." + name[len(name)-maxName+3:]
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
func (p *progress) Step(mirror, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over(mirror)
	if name != "" {
		p.step, p.steps[mirror] = name, &step{name: name, began: time.Now()}
	}
}

// Stored implements publish.Progress.
func (p *progress) Stored(mirror string, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.steps[mirror]; s != nil {
		s.objects++
		s.bytes += size
	}
}

// over writes the line of a finished step of a mirror. The line of the index waits for its size.
func (p *progress) over(mirror string) {
	s := p.steps[mirror]
	if s == nil {
		return
	}
	delete(p.steps, mirror)
	took := time.Since(s.began)
	switch {
	case s.name == "index":
		p.index[mirror] = took
	case s.objects > 0:
		did := english.Plural(s.objects, "object", "") + ", " + cli.Size(s.bytes)
		if s.bytes >= showFrom {
			did += fmt.Sprintf(", %s/s", cli.Size(int64(float64(s.bytes)/max(took.Seconds(), 0.001))))
		}
		p.screen.stepDone(s.name, p.of(mirror)+did, took)
	}
}

// of names a mirror if there are several.
func (p *progress) of(mirror string) string {
	if !p.trees {
		return ""
	}
	return cli.Prefixed(mirror)
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
			_, _ = io.WriteString(p.screen.env.Stderr, p.line(now)+"\n")
			p.mu.Unlock()
		}
	}
}

// line describes the state: blobs: 3.1 GiB of 5.4 GiB, 88 MiB/s, 27s left.
func (p *progress) line(now time.Time) string {
	seconds := now.Sub(p.began).Seconds()
	rate := float64(p.sent) / max(seconds, 0.001)
	left := "some time"
	if rate > 0 {
		left = time.Duration(float64(p.total-p.sent) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("%s: %s of %s, %s/s, %s left", p.step, cli.Size(p.sent), cli.Size(p.total), cli.Size(int64(rate)), left)
}

// stop ends the display, and writes the result.
func (p *progress) stop(out *publish.Outcome) {
	close(p.done)
	p.stopped.Wait()
	if p.bars != nil {
		p.mu.Lock()
		for _, b := range p.files {
			b.Abort(true)
		}
		p.whole.Abort(true)
		p.mu.Unlock()
		p.bars.Wait()
		p.screen.showAbove(nil)
	}
	for _, m := range out.Mirrors {
		if took, ok := p.index[m.Path]; ok && m.Index.Written {
			p.screen.stepDone("index", fmt.Sprintf("%s%d -> %d packages, %s", p.of(m.Path), m.Index.Before, m.Index.After, cli.Size(m.Index.Bytes)), took)
		}
	}
}
