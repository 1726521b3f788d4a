package action

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

// What an action does before its job.
const (
	partInputs   task.Part = "Inputs"
	partIdentity task.Part = "Identity"
	partCommand  task.Part = "Command"
)

// parts are in their order.
var parts = []task.Part{partInputs, partIdentity, partCommand, task.PartScan, task.PartPlan, task.PartUpload, task.PartIndex, task.PartPages, task.PartCDN, task.PartVerify}

// A stepLog is the observer of an action: it writes the log, a group for each part, and
// knows how far the job is even if the job does not end.
type stepLog struct {
	runner *workflow.Runner

	trusted bool // signatures are checked

	mu       sync.Mutex // guards what follows while one event is put in
	role     string     // that was assumed
	part     task.Part
	began    time.Time
	spent    []spent
	meter    *meter
	indexing []string // the mirrors whose index was begun
	written  []string // those whose index was replaced
	warnings []warning
}

// spent is how long a part took.
type spent struct {
	part task.Part
	time time.Duration
}

// A warning is what is wrong with so many things in the same way.
type warning struct {
	kind  string
	about []string
}

func newStepLog(r *workflow.Runner) *stepLog { return &stepLog{runner: r} }

// acts: a role was assumed.
func (w *stepLog) acts(role string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.role = role
}

// Begin implements observer. A part that is over does not come back.
func (w *stepLog) Begin(p task.Part) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beginsLocked(p)
}

func (w *stepLog) beginsLocked(p task.Part) {
	if slices.Index(parts, p) <= slices.Index(parts, w.part) {
		return
	}
	w.closePart()
	w.part, w.began = p, time.Now()
	w.runner.Group(string(p))
}

func (w *stepLog) closePart() {
	if w.part != "" {
		w.spent = append(w.spent, spent{w.part, time.Since(w.began)})
	}
}

// End implements task.Observer. Whatever is wrong is in the report.
func (w *stepLog) End(error) {}

// ends: the last part is over.
func (w *stepLog) ends() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closePart()
}

// Note implements observer.
func (w *stepLog) Note(format string, args ...any) { w.runner.Say(format, args...) }

// Scanned implements observer.
func (w *stepLog) Scanned(src *source.Source) {
	n := 0
	for _, m := range src.Mirrors {
		n += len(m.Packages)
		w.runner.Say("%q: %s of layout %s", "./"+m.Path, count(len(m.Packages), "package"), m.Layout.Name())
	}
	w.runner.Say("%s in %s, %s", count(n, "package"), count(len(src.Mirrors), "mirror"), count(len(src.Files), "plain file"))
}

func count(n int, what string) string { return english.Plural(n, what, "") }

// Planned implements observer.
func (w *stepLog) Planned(_ *publish.Plan, r *task.Report) {
	var b strings.Builder
	if r.DryRun() || w.runner.Debugging() {
		r.Packages(&b)
	}
	r.Table(&b, true)
	fmt.Fprintln(&b, w.signatures(r))
	fmt.Fprintf(&b, "to store: %s, %s, in about %s", count(r.Estimate.Objects, "object"), cli.Size(r.Estimate.Bytes), count(r.Estimate.Requests, "request"))
	w.runner.Say("%s", b.String())
}

// signatures says how many packages are signed, and whether that was looked at.
func (w *stepLog) signatures(r *task.Report) string {
	signed, all := 0, 0
	for _, m := range r.Mirrors {
		for _, p := range m.Packages {
			all++
			if p.Signed {
				signed++
			}
		}
	}
	text := fmt.Sprintf("%d of %s signed", signed, count(all, "package"))
	if r.SigningKey != "" {
		return text + ", those that were not by " + r.SigningKey
	}
	switch {
	case signed == 0:
		return text
	case w.trusted:
		return text + ", all by trusted-keys"
	}
	return text + ", by whom is not checked: trusted-keys is empty"
}

// Progress implements observer.
func (w *stepLog) Progress(plan *publish.Plan) (publish.Progress, func(*publish.Outcome)) {
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
	*stepLog
	*meter
}

// Step implements publish.Progress.
func (m metered) Step(mirror, step string) {
	if step != "index" {
		return
	}
	m.stepLog.mu.Lock()
	defer m.stepLog.mu.Unlock()
	m.stepLog.indexing = append(m.stepLog.indexing, mirror)
	m.stepLog.beginsLocked(task.PartIndex)
}

// observe receives every request to S3.
func (w *stepLog) observe(r s3.Request) {
	if r.Status != 0 && r.Status < 500 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.meter != nil {
		w.meter.retries.Add(1)
	}
}

// progress is how far the job is.
type progress struct {
	role              string
	part              task.Part
	spent             []spent
	sent, total       int
	indexing, written []string
}

func (w *stepLog) progress() progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := progress{role: w.role, part: w.part, spent: slices.Clone(w.spent), indexing: slices.Clone(w.indexing), written: slices.Clone(w.written)}
	if w.meter != nil {
		f.sent, f.total = w.meter.objects()
	}
	return f
}

// warn writes what is no reason to fail into the log, and keeps it for the top of the run.
func (w *stepLog) warn(kind, about string) {
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
	maxWarnings = 5 // annotations: GitHub shows 10 of a step, and nobody reads them
	maxAbout    = 5 // of what a warning is about
)

// annotate shows the warnings at the top of the run, each kind once.
func (w *stepLog) annotate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, one := range w.warnings {
		if i == maxWarnings-1 && len(w.warnings) > maxWarnings {
			w.runner.Warning("more warnings", fmt.Sprintf("%d kinds of warnings more: see the log of the step", len(w.warnings)-i))
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

// log is for the packages below.
func (w *stepLog) log() *slog.Logger { return slog.New(logHandler{w, nil}) }

// A logHandler writes what others say into the log of the step.
type logHandler struct {
	*stepLog
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
		s.warn(r.Message, text)
	} else {
		s.runner.Say("%s %s", r.Message, text)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (s logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{s.stepLog, append(slices.Clone(s.attrs), attrs...)}
}

// WithGroup implements slog.Handler.
func (s logHandler) WithGroup(string) slog.Handler { return s }
