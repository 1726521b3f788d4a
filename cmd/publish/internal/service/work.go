package service

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/retrying"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/pages"
)

// A mirrorWork publishes one mirror for a daemon: it implements daemon.Work.
type mirrorWork struct {
	Mirror
	log         *slog.Logger
	environment target.Environment

	runs    sync.Mutex // guards running
	running map[*daemon.Run]bool

	// mu guards the fields below, and is held while the destination is opened, so that it is opened once.
	mu     sync.Mutex
	to     *opened
	warned map[buildcache.Finding]bool // findings logged before
}

// maxWarned bounds how many warnings are remembered.
const maxWarned = 1000

// warn logs problems of the destination or the keys, each once.
func (w *mirrorWork) warn(findings []buildcache.Finding) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range findings {
		if f.Severity != buildcache.Warning || w.warned[f] {
			continue
		}
		if w.warned == nil || len(w.warned) >= maxWarned {
			w.warned = make(map[buildcache.Finding]bool)
		}
		w.warned[f] = true
		w.log.Warn("publishing continues", "file", f.File, "reason", f.Reason)
	}
}

// An opened is a destination and the CDN in front of it. It is kept between runs, for its connections.
type opened struct {
	*target.Destination
	cdn *target.CDN
}

func (w *mirrorWork) inbox() (*source.Inbox, error) {
	return source.OpenInbox(w.Source, source.Rules{Selection: w.Options.Selection, Trust: w.Options.Trust, Signs: w.Options.Sign.Key != nil})
}

// Arrivals implements daemon.Work. It opens the directory each time: another one may have been mounted.
func (w *mirrorWork) Arrivals(ctx context.Context, dir string) iter.Seq2[daemon.File, error] {
	return func(yield func(daemon.File, error) bool) {
		in, err := w.inbox()
		if err != nil {
			yield(daemon.File{}, err)
			return
		}
		defer in.Close()
		for a, err := range in.Arrivals(ctx, dir) {
			if !yield(daemon.File{Name: a.File, Mark: a.Mark}, err) {
				return
			}
		}
	}
}

// MayHold implements daemon.Work.
func (w *mirrorWork) MayHold(dir string) bool { return source.MayHold(dir) }

// Read implements daemon.Work.
func (w *mirrorWork) Read(ctx context.Context, file string) (daemon.Package, error) {
	in, err := w.inbox()
	if err != nil {
		return daemon.Package{}, err
	}
	defer in.Close()
	a, err := in.Read(ctx, file)
	if err != nil {
		return daemon.Package{}, err
	}
	return daemon.Package{File: file, Digest: a.Digest.String(), ID: a.ID, Bytes: a.Bytes}, nil
}

// Check implements daemon.Work.
func (w *mirrorWork) Check(ctx context.Context, p daemon.Package, read func(int64)) error {
	in, err := w.inbox()
	if err != nil {
		return err
	}
	defer in.Close()
	digest, err := blob.ParseDigest(p.Digest)
	if err != nil {
		return fmt.Errorf("%w: %w", arrival.ErrRefused, err)
	}
	return in.Check(ctx, p.File, digest, read)
}

// open returns the destination, and opens it if necessary.
func (w *mirrorWork) open(ctx context.Context) (*opened, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.to != nil {
		return w.to, nil
	}
	d, err := target.Open(ctx, w.Destination, w.Target, w.environment)
	if err != nil {
		return nil, err
	}
	c, err := d.OpenCDN(ctx, nil)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	w.to = &opened{d, c}
	return w.to, nil
}

// forgetOpened makes the next run open the destination again, with the credentials of that time.
func (w *mirrorWork) forgetOpened(o *opened) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.to == o {
		w.to = nil
	}
}

// An obligation is an invalidation and page updates that are due once an index is replaced, as the queue stores
// it.
type obligation struct {
	Names []string              `json:"names"` // below the destination
	Shown []reindex.Expectation `json:"shown"`
	Pages []string              `json:"pages,omitempty"` // mirrors whose page must be updated
}

// owes reports whether a replaced index has obligations.
func (m *Mirror) owes() bool { return m.Catalog || m.Target.CDN.Caches() }

// begin records that a run has begun, until the returned function is called.
func (w *mirrorWork) begin(r *daemon.Run) (end func()) {
	w.runs.Lock()
	defer w.runs.Unlock()
	if w.running == nil {
		w.running = make(map[*daemon.Run]bool)
	}
	w.running[r] = true
	return func() {
		w.runs.Lock()
		defer w.runs.Unlock()
		delete(w.running, r)
	}
}

// retrying shows in the status that requests to the destination are retried.
func (w *mirrorWork) retrying(attempt, most int, err error) {
	line := retrying.Line(attempt, most, err)
	if line == "" {
		return
	}
	w.runs.Lock()
	defer w.runs.Unlock()
	for r := range w.running {
		r.Progress.Retrying(line)
	}
}

// Publish implements daemon.Work.
func (w *mirrorWork) Publish(ctx context.Context, r *daemon.Run) (daemon.Result, error) {
	if err := target.Apart(w.Source, w.Destination); err != nil { // symbolic links may have changed since the configuration was read
		return daemon.Result{}, runError(err)
	}
	defer w.begin(r)()
	d, err := w.open(ctx)
	if err != nil {
		return daemon.Result{}, runError(err)
	}
	out, err := w.publishTo(ctx, d, r)
	if errors.Is(err, mirror.ErrCredentials) {
		w.forgetOpened(d)
	}
	return out, runError(err)
}

func (w *mirrorWork) publishTo(ctx context.Context, d *opened, r *daemon.Run) (daemon.Result, error) {
	o := w.Options
	o.Selection.Documents = []string{}
	for _, p := range r.Packages {
		o.Selection.Documents = append(o.Selection.Documents, p.File)
	}
	src, err := source.Open(ctx, w.Source, o.Selection)
	if err != nil {
		if errors.Is(err, source.ErrNothing) { // the packages are no longer selected
			return daemon.Result{Refused: verdicts(r, nil)}, nil
		}
		return daemon.Result{}, err
	}
	defer src.Close()
	plan, err := publish.NewPlan(ctx, src, func(p string) mirror.Store { return d.Mirror(p) }, o)
	if err != nil {
		return daemon.Result{}, err
	}
	if w.owes() {
		if err := r.Intend(w.intention(plan)); err != nil {
			return daemon.Result{}, err
		}
	}
	r.Progress.Planned(plan.Cost(0, 0, 0).Bytes)
	applied, err := plan.Apply(ctx, r.Progress)
	var found *buildcache.FindingsError
	if err != nil && !errors.As(err, &found) {
		return daemon.Result{Objects: applied.Objects, Bytes: applied.Bytes}, err
	}
	w.warn(applied.Findings)
	w.sweep(ctx, d, applied)
	return w.outcome(r, applied), nil
}

// intention returns the obligation of a plan, before the plan is applied.
func (w *mirrorWork) intention(plan *publish.Plan) []byte {
	owed := obligation{Names: plan.Stale()}
	if w.Catalog {
		owed.Pages = pages.Of(plan.Expected(), func(x publish.Index) bool { return x.Changes })
	}
	return encode(owed)
}

func encode(d obligation) []byte {
	text, err := json.Marshal(d)
	if err != nil {
		panic(err) // all its values can be written as JSON
	}
	return text
}

func (w *mirrorWork) sweep(ctx context.Context, d *opened, applied *publish.Outcome) {
	for _, m := range applied.Mirrors {
		if err := m.Sweep(ctx, d.Mirror(m.Path)); err != nil && ctx.Err() == nil {
			w.log.Warn("unfinished uploads of others are left over", "mirror", m.Path, "reason", err.Error())
		}
	}
}

func (w *mirrorWork) outcome(r *daemon.Run, applied *publish.Outcome) daemon.Result {
	out := daemon.Result{
		Refused: verdicts(r, applied), Notes: make(map[string]string), Objects: applied.Objects, Bytes: applied.Bytes,
	}
	owed := obligation{Names: applied.Stale}
	if w.Catalog {
		owed.Pages = pages.Of(applied, func(x publish.Index) bool { return x.Written })
	}
	for _, m := range applied.Mirrors {
		owed.Shown = append(owed.Shown, m.Expectations()...)
		out.Indices = append(out.Indices, daemon.IndexStatus{
			Path: m.Path, Layout: m.Layout, Packages: m.Index.After, Bytes: m.Index.Bytes, Written: m.Index.Written,
		})
		for _, p := range m.Packages {
			switch p.Status {
			case publish.Skipped:
				out.Notes[below(m.Path, p.SourceFile())] = "the destination holds it with another document, which stays"
			case publish.Withdrawn:
				out.Notes[below(m.Path, p.SourceFile())] = "the destination has withdrawn it, and does not offer it: " + p.Reason
			}
		}
	}
	if w.Target.CDN.PublicURL != "" || w.Target.CDN.Distribution != "" && len(owed.Names) > 0 || len(owed.Pages) > 0 {
		out.Obligation = encode(owed)
	}
	return out
}

func below(dir, name string) string { return strings.TrimPrefix(dir+"/"+name, "/") }

// verdicts returns why packages of a run were not published.
func verdicts(r *daemon.Run, applied *publish.Outcome) map[string]string {
	refused := make(map[string]string)
	for _, p := range r.Packages {
		refused[p.File] = arrival.ErrNotSelected.Error()
	}
	digests := make(map[string]string)
	for _, p := range r.Packages {
		digests[p.File] = p.Digest
	}
	if applied == nil {
		return refused
	}
	for _, f := range applied.Findings {
		if _, ours := refused[f.File]; ours && f.Severity == buildcache.Error {
			refused[f.File] = f.Reason
		}
	}
	for _, m := range applied.Mirrors {
		for _, p := range m.Packages {
			file := below(m.Path, p.SourceFile())
			switch {
			case p.Status == publish.Rejected:
				refused[file] = cmp.Or(blobReason(m.Path, p, applied.Findings), p.Reason)
			case blob.DigestOf(p.Document).String() != digests[file]:
				refused[file] = arrival.ErrAnother.Error()
			default:
				delete(refused, file)
			}
		}
	}
	return refused
}

// blobReason returns the problem of a blob of a package, if there is one.
func blobReason(path string, p publish.PlannedPackage, findings []buildcache.Finding) string {
	for _, f := range findings {
		if slices.ContainsFunc(p.Blobs, func(b buildcache.Object) bool { return below(path, b.Name) == f.File }) {
			return f.Reason
		}
	}
	return ""
}

// runError tells the daemon whether a failed run is retried.
func runError(err error) error {
	if err == nil {
		return nil
	}
	what := cli.Repeat(err)
	return &daemon.RunError{Lasting: what == cli.Lasting, Suspect: what == cli.Suspect, Err: err}
}

// Invalidate implements daemon.Work. One invalidation meets the obligations of several runs.
func (w *mirrorWork) Invalidate(ctx context.Context, obligations [][]byte) error {
	all := obligation{}
	for _, text := range obligations {
		var d obligation
		if err := json.Unmarshal(text, &d); err != nil {
			return fmt.Errorf("read the obligations: %w", err)
		}
		all.Names = append(all.Names, d.Names...)
		all.Shown = append(all.Shown, d.Shown...)
		all.Pages = append(all.Pages, d.Pages...)
	}
	d, err := w.open(ctx)
	if err != nil {
		return err
	}
	written, behind := updatePages(ctx, d.Destination, w.Target.CDN.PublicURL, all.Pages, w.Options.Trust, w.log)
	all.Names = append(all.Names, pages.Stale(written)...)
	slices.Sort(all.Names)
	all.Names = slices.Compact(all.Names)
	_, err = d.cdn.Update(ctx, target.Changes{Stale: all.Names, Shown: reindex.MergeExpectations(all.Shown)})
	err = errors.Join(err, behind)
	if errors.Is(err, mirror.ErrCredentials) {
		w.forgetOpened(d)
	}
	return err
}

// Close implements daemon.Work.
func (w *mirrorWork) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.to == nil {
		return nil
	}
	err := w.to.Close()
	w.to = nil
	return err
}
