package task

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/style"
)

// A Screen is the observer of the command line. On a terminal, and with --verbose, each step leaves a line with
// its result and duration. Bars show current uploads. With --quiet it shows nothing.
type Screen struct {
	env   cli.Env
	style style.Style
	steps bool // each step leaves a line

	mu     sync.Mutex // guards the fields below while one event is recorded
	above  io.Writer  // writer of lines above the bars; nil: there are no bars
	part   Part
	began  time.Time
	report *Report
}

// NewScreen returns the observer of one run.
func NewScreen(env cli.Env) *Screen {
	terminal := cli.Terminal(env.Raw.Stderr) != nil
	return &Screen{env: env, style: style.Of(env.Raw.Stderr, env.Lookup), steps: (terminal || env.Output.Verbose) && !env.Output.Quiet}
}

// Introduce prints source and destination. endpoint is the service that from is in; empty: Amazon's, or none.
func (s *Screen) Introduce(from, to, endpoint string) {
	if s.env.Output.Quiet {
		return
	}
	if abs, err := filepath.Abs(from); err == nil && !strings.Contains(from, "://") {
		from = abs
	}
	at := ""
	if endpoint != "" {
		at = " at " + redact.URL(endpoint)
	}
	escape.Fprintf(s.env.Stderr, "%s%s -> %s\n", redact.URL(from), at, redact.URL(target.Canonical(to)))
}

// Identified prints the identity of requests.
func (s *Screen) Identified(who *target.Identity) {
	if !s.env.Output.Quiet {
		escape.Fprintf(s.env.Stderr, "%s\n", who)
	}
}

// Begin implements Observer.
func (s *Screen) Begin(p Part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over(nil)
	s.part, s.began = p, time.Now()
}

// End implements Observer.
func (s *Screen) End(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over(err)
}

// over writes the line of the current part, if it has one: other parts have the lines of their steps.
func (s *Screen) over(err error) {
	step, did := "", ""
	switch s.part {
	case PartCDN:
		step = "invalidation"
		if s.report != nil && s.report.Invalidate != nil {
			did = english.Plural(len(s.report.Invalidate.Paths), "path", "")
		}
	case PartVerify:
		step, did = "read-back", "readers have the new index"
	default:
		return
	}
	if err != nil {
		did = "failed"
	}
	s.line(step, did, time.Since(s.began))
	s.part = ""
}

// line writes the line of a step.
func (s *Screen) line(step, what string, took time.Duration) {
	if !s.steps {
		return
	}
	to := s.above
	if to == nil {
		to = s.env.Raw.Stderr
	}
	room := min(s.style.Columns()-len("invalidation    999.9 s"), 60)
	fmt.Fprintf(to, "%s  %-*s %s\n", s.style.Bold(fmt.Sprintf("%-12s", step)), room, cli.Short(escape.Line(what), room), s.style.Faint(fmt.Sprintf("%6.1f s", took.Seconds())))
}

// stepDone writes the line of a step of a plan.
func (s *Screen) stepDone(step, did string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(step, did, took)
}

// showAbove makes lines appear above bars; nil: the bars have ended.
func (s *Screen) showAbove(bars io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.above = bars
}

// Note implements Observer.
func (s *Screen) Note(string, ...any) {}

// Waiting says what the run waits for, also without a terminal: nothing else shows that it is alive.
func (s *Screen) Waiting(until string) {
	if !s.env.Output.Quiet {
		escape.Fprintf(s.env.Stderr, "waiting until %s\n", until)
	}
}

// Scanned implements Observer.
func (s *Screen) Scanned(src *source.Source) {
	n := 0
	for _, m := range src.Mirrors {
		n += len(m.Packages)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	what := english.Plural(n, "package", "")
	if m := len(src.Mirrors); m > 1 {
		what += " in " + english.Plural(m, "mirror", "")
	}
	s.line("scan", what, time.Since(s.began))
}

// Planned implements Observer.
func (s *Screen) Planned(_ *publish.Plan, r *Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report = r
	s.line("plan", countsText(r.Mirrors), time.Since(s.began))
}

// countsText says how many packages are new, replaced, unchanged, skipped and rejected.
func countsText(mirrors []MirrorReport) string {
	text := ""
	for _, status := range []publish.Status{publish.New, publish.Replaced, publish.Repaired, publish.Upstream, publish.Routed, publish.Unchanged, publish.Skipped, publish.Withdrawn, publish.Rejected} {
		n := 0
		for _, m := range mirrors {
			n += m.Counts[string(status)]
		}
		if n > 0 {
			text += fmt.Sprintf(", %d %s", n, status)
		}
	}
	if text == "" {
		return "no packages"
	}
	return text[2:]
}

// Progress implements Observer.
func (s *Screen) Progress(plan *publish.Plan) (publish.Progress, func(*publish.Outcome)) {
	p := newProgress(s, plan)
	return p, p.stop
}
