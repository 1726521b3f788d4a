package pruning

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/price"
	"github.com/vantagecompute/slurm-factory-publish/publish/prune"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// A report is the output of `publish prune --json`.
type report struct {
	Version int             `json:"version"`
	Deletes bool            `json:"deletes"` // --yes was given
	Mirrors []*prunedMirror `json:"mirrors"`
}

// A prunedMirror is one mirror below DESTINATION.
type prunedMirror struct {
	Mirror   string               `json:"mirror"` // its path; empty for DESTINATION itself
	Layouts  []layoutReport       `json:"layouts"`
	Notes    int                  `json:"notes"`   // of publishers, and marks of Spack's prune
	Uploads  int                  `json:"uploads"` // unfinished ones
	Objects  int                  `json:"objects"` // in all
	Bytes    int64                `json:"bytes"`
	Cost     cost                 `json:"cost"`
	Findings []buildcache.Finding `json:"findings"`
	Deleted  *outcome             `json:"deleted,omitempty"` // with --yes
}

type layoutReport struct {
	Layout    string        `json:"layout"`
	Packages  int           `json:"packages"`  // stored packages
	Removed   []string      `json:"removed"`   // documents to delete
	Withdrawn int           `json:"withdrawn"` // packages taken out of the index
	Documents prune.Count   `json:"documents"`
	Content   prune.Count   `json:"content"`
	Orphans   prune.Count   `json:"orphans"` // content without references
	Largest   []prune.Share `json:"largest"`
}

// A cost estimates the requests of a prune and the storage that it saves, at the prices of S3 Standard.
type cost struct {
	Requests int     `json:"requests"`
	USD      float64 `json:"usd"`
	Saves    float64 `json:"saves_usd_a_month"`
}

type outcome struct {
	Withdrawn int   `json:"withdrawn"`
	Objects   int   `json:"objects"`
	Bytes     int64 `json:"bytes"`
	Uploads   int   `json:"uploads"`
	Spared    int   `json:"spared"` // publishers need them, or they have changed
}

func newMirror(path string, p *prune.Plan) *prunedMirror {
	m := &prunedMirror{Mirror: path, Layouts: []layoutReport{}, Notes: len(p.Notes), Uploads: len(p.Uploads), Findings: append([]buildcache.Finding{}, p.Findings...)}
	m.Objects, m.Bytes = p.Objects()
	lists, reads := 0, 0
	for _, l := range p.Layouts {
		m.Layouts = append(m.Layouts, layoutReport{
			Layout: l.Layout.Name(), Packages: l.Packages, Removed: l.Removed(), Withdrawn: l.Withdraw,
			Documents: l.Documents, Content: l.Content, Orphans: l.Orphans, Largest: l.Largest,
		})
		lists += 3 * (l.Objects/1000 + 2) // the plan, and a check before documents and before content
		reads += l.Read
	}
	deletes := (m.Objects + mirror.MaxBatch - 1) / mirror.MaxBatch // deletes are free
	m.Cost = cost{lists + reads + deletes, price.Requests(lists) + price.Reads(reads), price.Storage(m.Bytes)}
	return m
}

func (m *prunedMirror) done(out *prune.Outcome) {
	m.Deleted = &outcome{out.Withdrawn, out.Deleted.Objects, out.Deleted.Bytes, out.Uploads, out.Spared}
	m.Findings = append(m.Findings, out.Findings...)
}

// print prints the plan, and findings to a stream that may be another one.
func (m *prunedMirror) print(out, wrong io.Writer) {
	say := func(format string, args ...any) { escape.Fprintf(out, cli.Prefixed(m.Mirror)+format+"\n", args...) }
	for _, l := range m.Layouts {
		say("%s: %s of %s go, %s", l.Layout, english.Plural(l.Documents.Objects, "package", ""), humanize.Comma(int64(l.Packages)), amount(l.Documents))
		say("%s: %s of content, of them %s without references", l.Layout, amount(l.Content), amount(l.Orphans))
		for _, s := range l.Largest {
			name := s.Name
			if name == "" {
				name = "(no references)"
			}
			say("  %10s  %s", cli.Size(s.Bytes), name)
		}
	}
	if m.Notes+m.Uploads > 0 {
		say("%s of publishers, %s", english.Plural(m.Notes, "old note", ""), english.Plural(m.Uploads, "unfinished upload", "unfinished uploads"))
	}
	for i, f := range m.Findings {
		if i == cli.ShownWarnings {
			escape.Fprintf(wrong, "%sand %d more, see --json\n", cli.Prefixed(m.Mirror), len(m.Findings)-i)
			break
		}
		escape.Fprintf(wrong, "%s%s: %s\n", cli.Prefixed(m.Mirror), f.Severity, f)
	}
	say("%s, %s: $%.2f a month; about %s requests, $%.2f", english.Plural(m.Objects, "object", ""), cli.Size(m.Bytes), m.Cost.Saves, humanize.Comma(int64(m.Cost.Requests)), m.Cost.USD)
}

func amount(c prune.Count) string {
	return fmt.Sprintf("%s (%s)", english.Plural(c.Objects, "object", ""), cli.Size(c.Bytes))
}

// printOutcome prints what was deleted.
func (m *prunedMirror) printOutcome(out io.Writer) {
	d := m.Deleted
	escape.Fprintf(out, "%sdeleted %s, %s; %s withdrawn from the index; %d spared\n", cli.Prefixed(m.Mirror),
		english.Plural(d.Objects, "object", ""), cli.Size(d.Bytes), english.Plural(d.Withdrawn, "package", ""), d.Spared)
}

// end prints the next step. It returns an error if not everything could be checked.
func (r *report) end(out io.Writer, where string) error {
	objects, failed := 0, false
	for _, m := range r.Mirrors {
		objects += m.Objects + m.Uploads
		failed = failed || buildcache.Failed(m.Findings)
	}
	switch {
	case failed:
		return cli.Fail(cli.ExitVerification, errors.New("not everything could be checked: see the errors above"))
	case objects == 0:
		escape.Fprintf(out, "nothing to delete\n")
	case !r.Deletes:
		escape.Fprintf(out, "nothing was deleted: give --yes\n")
	}
	return nil
}

// A progress reports the steps of a prune, and invalidates deleted objects in caches.
type progress struct {
	to      io.Writer
	path    string
	cdn     *target.CDN
	objects int
}

func (p *progress) Step(step string) {
	escape.Fprintf(p.to, "%sprune: %s\n", cli.Prefixed(p.path), step)
}

func (p *progress) Wait(until time.Time, why string) {
	escape.Fprintf(p.to, "%sprune: wait until %s, %s\n", cli.Prefixed(p.path), until.UTC().Format(time.RFC3339), why)
}

func (p *progress) Deleted(objects int, bytes int64) {
	p.objects += objects
	if objects > 0 {
		escape.Fprintf(p.to, "%sprune: %s objects deleted\n", cli.Prefixed(p.path), humanize.Comma(int64(p.objects)))
	}
}

func (p *progress) Withdrawn(ctx context.Context, stale []string) error {
	var changes target.Changes
	changes.AddStale(p.path, stale)
	_, err := p.cdn.Update(ctx, changes)
	return err
}
