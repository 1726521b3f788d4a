// Package steplog writes the log of a step of a workflow, and knows the progress of the step.
package steplog

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/workflow"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// The parts of an action before its job.
const (
	PartInputs   task.Part = "Inputs"
	PartIdentity task.Part = "Identity"
	PartCommand  task.Part = "Command"
)

// Parts lists the parts in their order.
var Parts = []task.Part{PartInputs, PartIdentity, PartCommand, task.PartScan, task.PartPlan, task.PartUpload, task.PartIndex, task.PartPages, task.PartCDN, task.PartVerify}

// A Log is the observer of an action. It writes the log, with a group for each part, and knows the progress of
// the job even if the job does not end.
type Log struct {
	runner *workflow.Runner

	Trusted bool // signatures are checked

	mu       sync.Mutex // guards the fields below while one event is recorded
	role     string     // the assumed role
	part     task.Part
	began    time.Time
	spent    []Spent
	meter    *meter
	indexing []string // the mirrors whose index is being written
	written  []string // the mirrors whose index was replaced
	warnings []warning
}

// Spent is how long a part took.
type Spent struct {
	Part task.Part
	Time time.Duration
}

// A warning is a kind of problem, with the things that have it.
type warning struct {
	kind  string
	about []string
}

// New returns the log of a step.
func New(r *workflow.Runner) *Log { return &Log{runner: r} }

// Acts records that a role was assumed.
func (w *Log) Acts(role string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.role = role
}

// Begin implements task.Observer. A part that has ended does not begin again.
func (w *Log) Begin(p task.Part) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beginsLocked(p)
}

func (w *Log) beginsLocked(p task.Part) {
	if slices.Index(Parts, p) <= slices.Index(Parts, w.part) {
		return
	}
	w.closePart()
	w.part, w.began = p, time.Now()
	w.runner.Group(string(p))
}

func (w *Log) closePart() {
	if w.part != "" {
		w.spent = append(w.spent, Spent{w.part, time.Since(w.began)})
	}
}

// End implements task.Observer. The report holds the error.
func (w *Log) End(error) {}

// Close ends the last part.
func (w *Log) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closePart()
}

// Note implements task.Observer.
func (w *Log) Note(format string, args ...any) { w.runner.Say(format, args...) }

// Scanned implements task.Observer.
func (w *Log) Scanned(src *source.Source) {
	n := 0
	for _, m := range src.Mirrors {
		n += len(m.Packages)
		w.runner.Say("%q: %s of layout %s", "./"+m.Path, english.Plural(len(m.Packages), "package", ""), m.Layout.Name())
	}
	w.runner.Say("%s in %s, %s", english.Plural(n, "package", ""), english.Plural(len(src.Mirrors), "mirror", ""), english.Plural(len(src.Files), "plain file", ""))
}

// Planned implements task.Observer.
func (w *Log) Planned(_ *publish.Plan, r *task.Report) {
	var b strings.Builder
	if r.DryRun() || w.runner.Debugging() {
		r.Packages(&b)
	}
	r.Table(&b, true)
	fmt.Fprintln(&b, w.Signatures(r))
	fmt.Fprintf(&b, "to store: %s, %s, in about %s", english.Plural(r.Estimate.Objects, "object", ""), cli.Size(r.Estimate.Bytes), english.Plural(r.Estimate.Requests, "request", ""))
	w.runner.Say("%s", b.String())
}

// Signatures says how many packages are signed, and whether the signatures were checked.
func (w *Log) Signatures(r *task.Report) string {
	signed, all := 0, 0
	for _, m := range r.Mirrors {
		for _, p := range m.Packages {
			all++
			if p.Signed {
				signed++
			}
		}
	}
	text := fmt.Sprintf("%d of %s signed", signed, english.Plural(all, "package", ""))
	if r.SigningKey != "" {
		return text + ", those that were not by " + r.SigningKey
	}
	switch {
	case signed == 0:
		return text
	case w.Trusted:
		return text + ", all by trusted-keys"
	}
	return text + ", by whom is not checked: trusted-keys is empty"
}

// Progress implements task.Observer.
func (w *Log) Progress(plan *publish.Plan) (publish.Progress, func(*publish.Outcome)) {
	m := newMeter(plan, w.runner.Say)
	m.every = w.runner.Debugging()
	w.mu.Lock()
	w.meter = m
	w.mu.Unlock()
	m.start()
	return metered{w, m}, func(out *publish.Outcome) {
		m.stop()
		for _, p := range out.Mirrors {
			if p.Index.Written {
				w.mu.Lock()
				w.written = append(w.written, p.Path)
				w.mu.Unlock()
				w.runner.Say("index of %q: %d packages, before %d", "./"+p.Path, p.Index.After, p.Index.Before)
			}
		}
	}
}

// metered is a meter whose log shows steps.
type metered struct {
	*Log
	*meter
}

// Step implements publish.Progress.
func (m metered) Step(mirror, step string) {
	if step != "index" {
		return
	}
	m.Log.mu.Lock()
	defer m.Log.mu.Unlock()
	m.Log.indexing = append(m.Log.indexing, mirror)
	m.Log.beginsLocked(task.PartIndex)
}

// Observe receives every request to S3.
func (w *Log) Observe(r s3.Request) {
	if r.Status != 0 && r.Status < 500 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.meter != nil {
		w.meter.retries.Add(1)
	}
}

// A State is the progress of the job.
type State struct {
	Role              string // the assumed role
	Part              task.Part
	Spent             []Spent
	Sent, Total       int      // objects
	Indexing, Written []string // the mirrors whose index is being written, and was replaced
}

// State returns the progress of the job, also while it runs.
func (w *Log) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := State{Role: w.role, Part: w.part, Spent: slices.Clone(w.spent), Indexing: slices.Clone(w.indexing), Written: slices.Clone(w.written)}
	if w.meter != nil {
		f.Sent, f.Total = w.meter.objects()
	}
	return f
}

// Warn writes a warning into the log, and keeps it for the annotations of the run.
func (w *Log) Warn(kind, about string) {
	w.runner.Say("warning: %s: %s", kind, about)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.warnings {
		if w.warnings[i].kind == kind {
			w.warnings[i].about = append(w.warnings[i].about, about)
			return
		}
	}
	w.warnings = append(w.warnings, warning{kind, []string{about}})
}

const (
	maxWarnings = 5 // annotations: GitHub shows 10 per step, and more are not read
	maxAbout    = 5 // things that one warning names
)

// Annotate shows the warnings at the top of the run, each kind once.
func (w *Log) Annotate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, one := range w.warnings {
		if i == maxWarnings-1 && len(w.warnings) > maxWarnings {
			w.runner.Warning("more warnings", fmt.Sprintf("%d more kinds of warnings: see the log of the step", len(w.warnings)-i))
			return
		}
		w.runner.Warning(one.kind, one.text())
	}
}

func (one warning) text() string {
	if len(one.about) == 1 {
		return one.about[0]
	}
	text := fmt.Sprintf("%d times:\n%s", len(one.about), strings.Join(one.about[:min(len(one.about), maxAbout)], "\n"))
	if n := len(one.about) - maxAbout; n > 0 {
		text += fmt.Sprintf("\nand %d more, see the log of the step", n)
	}
	return text
}

// Logger returns a logger for other packages.
func (w *Log) Logger() *slog.Logger { return slog.New(logHandler{w, nil}) }

// A logHandler writes the records of other packages into the log of the step.
type logHandler struct {
	*Log
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (s logHandler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || s.runner.Debugging()
}

// Handle implements slog.Handler.
func (s logHandler) Handle(_ context.Context, r slog.Record) error {
	var about []string
	add := func(a slog.Attr) bool {
		about = append(about, fmt.Sprintf("%s=%q", a.Key, a.Value.String()))
		return true
	}
	for _, a := range s.attrs {
		add(a)
	}
	r.Attrs(add)
	text := strings.Join(about, " ")
	if r.Level >= slog.LevelWarn {
		s.Warn(r.Message, text)
	} else {
		s.runner.Say("%s %s", r.Message, text)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (s logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{s.Log, append(slices.Clone(s.attrs), attrs...)}
}

// WithGroup implements slog.Handler.
func (s logHandler) WithGroup(string) slog.Handler { return s }
