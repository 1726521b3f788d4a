package task

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/price"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/style"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/pages"
)

// A Report is the plan and the result of a publish.
type Report struct {
	Version  int    `json:"version"`
	Program  string `json:"program"`
	Result   string `json:"result"` // published, unchanged, dry-run, failed or cancelled
	ExitCode int    `json:"exit_code"`
	Error    string `json:"error,omitempty"`
	Source   string `json:"source"`
	// SourceEndpoint is the URL of the S3 service that Source is in; empty: Amazon's, or none.
	SourceEndpoint string               `json:"source_endpoint,omitempty"`
	Destination    string               `json:"destination"`
	Identity       *target.Identity     `json:"identity,omitempty"` // identity of requests to S3
	Settings       []cli.Setting        `json:"settings"`
	SigningKey     string               `json:"signing_key,omitempty"` // fingerprint of the key that signs
	Mirrors        []MirrorReport       `json:"mirrors"`
	Files          []fileReport         `json:"files"`
	Findings       []buildcache.Finding `json:"findings"`
	Estimate       price.Cost           `json:"estimate"`
	Stored         *Stored              `json:"stored,omitempty"`
	Pages          []pages.Page         `json:"pages,omitempty"` // with --catalog; in a dry run, those that would be written
	Invalidate     *target.Invalidation `json:"invalidation,omitempty"`
	Routed         *Report              `json:"routed,omitempty"` // the publish to another destination, because of licences
	Seconds        float64              `json:"seconds"`

	output  cli.Output
	style   style.Style // of standard output
	began   time.Time
	dryRun  bool
	planned bool // the plan is known
	signs   bool // and makes signatures
	changes bool
	indexed bool // everything is stored and the index names it
}

type Stored struct {
	Objects  int   `json:"objects"`
	Bytes    int64 `json:"bytes"`
	Requests int64 `json:"requests"` // to S3, all that were made
}

type MirrorReport struct {
	Path     string          `json:"path"`
	Layout   string          `json:"layout"`
	Packages []PackageReport `json:"packages"`
	Counts   map[string]int  `json:"counts"` // of packages, by status
	Healed   []string        `json:"healed"` // packages that were there and not in the index
	// Untrusted are existing documents and keys that the trusted keys do not cover.
	Untrusted []string     `json:"untrusted"`
	Index     IndexReport  `json:"index"`
	Views     []ViewReport `json:"views,omitempty"`     // named indices, of which clients choose one
	Promotion string       `json:"promotion,omitempty"` // name of the record of a promotion
}

// A ViewReport describes the change of a named index.
type ViewReport struct {
	Name  string      `json:"name"`
	Index IndexReport `json:"index"`
}

// Packages says how many packages the index offers. ahead: changes have not been written yet.
func (r IndexReport) Packages(ahead bool) string {
	switch {
	case r.Mode == string(publish.IndexNone):
		return "left alone"
	case r.Changes && !r.Written && !ahead:
		return fmt.Sprintf("%d, not touched", r.Before)
	case r.Before != r.After:
		return fmt.Sprintf("%d -> %d", r.Before, r.After)
	}
	return fmt.Sprint(r.After)
}

// Published reports whether an index names the new packages of the mirror.
func (m MirrorReport) Published() bool { return m.Index.Written || !m.Index.Changes }

// An IndexReport describes the change of an index, planned or done.
type IndexReport struct {
	Mode    string `json:"mode"`
	Before  int    `json:"before"` // offered packages
	After   int    `json:"after"`
	Changes bool   `json:"changes"`
	Written bool   `json:"written"`
	Digest  string `json:"digest,omitempty"`
	Version string `json:"version,omitempty"` // version of the object that clients read first; in S3, its ETag
	// Audiences say how many packages each version of Spack sees, if they differ.
	Audiences []indices.Audience `json:"audiences,omitempty"`
}

type PackageReport struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Hash    string `json:"hash"`
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Bytes   int64  `json:"bytes"`                   // of its blobs
	License string `json:"license,omitempty"`       // according to its recipe, if the recipe was read
	Signed  bool   `json:"signed"`                  // in SOURCE, or by this run
	WasBy   string `json:"was_signed_by,omitempty"` // the key whose signature this run replaces
	OS      string `json:"os,omitempty"`            // and Target: from its spec, if the spec was read
	Target  string `json:"target,omitempty"`
}

type fileReport struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	WasBy  string `json:"was_signed_by,omitempty"` // the key whose signature this run replaces
}

// NewReport returns the report of a publish that begins now.
func NewReport(env cli.Env, source, destination string, dryRun bool, used []cli.Setting) *Report {
	return &Report{
		Version: cli.ReportVersion, Program: "publish " + env.Version, Source: redact.URL(source), Destination: redact.URL(destination),
		Settings: used, Mirrors: []MirrorReport{}, Files: []fileReport{}, Findings: []buildcache.Finding{},
		output: env.Output, style: style.Of(env.Raw.Stdout, env.Lookup), began: time.Now(), dryRun: dryRun,
	}
}

// SetPlan records the plan, the paths to invalidate, the size from which objects are sent in parts, and the
// size of a part.
func (r *Report) SetPlan(p *publish.Plan, paths []string, threshold, partSize int64) {
	r.planned, r.changes, r.SigningKey, r.signs = true, p.Changes(), string(p.SigningKey()), p.Signs()
	if len(paths) > 0 {
		r.Invalidate = &target.Invalidation{Paths: paths}
	}
	r.Estimate = p.Cost(threshold, partSize, len(paths))
	r.Update(p.Expected())
}

func (r *Report) Warn(mirror, reason string) {
	r.Findings = append(r.Findings, buildcache.Finding{Severity: buildcache.Warning, File: mirror, Reason: reason})
}

// Update copies the states of packages and the findings of an outcome.
func (r *Report) Update(p *publish.Outcome) {
	if p.Findings != nil {
		r.Findings = p.Findings
	}
	r.Mirrors = r.Mirrors[:0]
	for _, m := range p.Mirrors {
		r.Mirrors = append(r.Mirrors, reportOf(m))
	}
	r.Files = r.Files[:0]
	for _, f := range p.Files {
		r.Files = append(r.Files, fileReport{f.Name, string(f.Status), f.WasBy})
	}
}

func reportOf(m *publish.MirrorOutcome) MirrorReport {
	out := MirrorReport{
		Path: m.Path, Layout: m.Layout, Packages: []PackageReport{}, Counts: map[string]int{}, Healed: append([]string{}, m.Index.Healed...),
		Untrusted: append([]string{}, m.Untrusted...),
		Index:     indexReportOf(m.Index),
		Promotion: m.Promotion,
	}
	for _, v := range m.Views {
		out.Views = append(out.Views, ViewReport{v.Name, indexReportOf(v.Index)})
	}
	for _, p := range m.Packages {
		k := PackageReport{Name: p.Package.Package, Version: p.Version, Hash: string(p.Hash), Status: string(p.Status), Reason: p.Reason, License: p.Licence, Signed: p.Signed || p.ToSign, WasBy: p.Replaces()}
		for _, b := range p.Blobs {
			k.Bytes += max(b.Size, 0)
		}
		if p.Spec != nil {
			k.OS, k.Target = p.Spec.Root().OS, p.Spec.Root().Target
		}
		out.Packages = append(out.Packages, k)
		out.Counts[k.Status]++
	}
	return out
}

func indexReportOf(x publish.Index) IndexReport {
	return IndexReport{string(x.Mode), x.Before, x.After, x.Changes, x.Written, x.Digest(), string(x.Version()), x.Audiences}
}

// SetOutcome records the outcome, and the number of requests.
func (r *Report) SetOutcome(out *publish.Outcome, requests int64) {
	r.Update(out)
	r.Stored = &Stored{Objects: out.Objects, Bytes: out.Bytes, Requests: requests}
}

// MarkIndexed records that everything is stored and in the index.
func (r *Report) MarkIndexed() { r.indexed = true }

// DryRun reports whether this is a dry run.
func (r *Report) DryRun() bool { return r.dryRun }

// Planned reports whether the plan is known.
func (r *Report) Planned() bool { return r.planned }

// Changes reports whether the plan changes the destination.
func (r *Report) Changes() bool { return r.changes }

// Indexed reports whether everything is stored and in the index.
func (r *Report) Indexed() bool { return r.indexed }

// Finish records how the publish ended.
func (r *Report) Finish(err error) {
	r.Seconds = time.Since(r.began).Seconds()
	r.ExitCode = cli.ExitCode(err)
	var stopped cli.SignalError
	switch {
	case errors.As(err, &stopped):
		r.Result = "cancelled"
	case err != nil:
		r.Result = "failed"
	case r.dryRun:
		r.Result = "dry-run"
	case r.changes || r.Stored != nil && r.Stored.Objects > 0:
		r.Result = "published"
	default:
		r.Result = "unchanged"
	}
	if err != nil {
		r.Error = err.Error()
	}
}

// Print writes the report to standard output, for a program or for people.
func (r *Report) Print(env cli.Env, asJSON bool) error {
	if asJSON {
		return cli.WriteJSON(env.Stdout, r)
	}
	if !r.style.Terminal() {
		return r.PrintTo(env.Stdout)
	}
	body, said := r.text()
	_, err := io.WriteString(env.Results, escape.Text(body)+r.styled(escape.Line(said)))
	return err
}

// PrintTo writes the report for people, without bold and colours.
func (r *Report) PrintTo(w io.Writer) error {
	body, said := r.text()
	if said != "" {
		said += "\n"
	}
	_, err := io.WriteString(w, body+said)
	return err
}

// text returns the report, and the sentence at its end.
func (r *Report) text() (body, said string) {
	var b strings.Builder
	if r.output.Quiet {
		r.warnings(&b)
		return b.String(), ""
	}
	if r.planned {
		r.planText(&b)
	}
	return b.String(), r.outcome()
}

// styled is the last sentence as a terminal shows it.
func (r *Report) styled(said string) string {
	if said == "" {
		return ""
	}
	switch r.Result {
	case "published":
		said = r.style.Good(said)
	case "failed", "cancelled":
		said = r.style.Bad(said)
	}
	return said + "\n"
}

func (r *Report) planText(b *strings.Builder) {
	if r.dryRun {
		escape.Fprintf(b, "plan for %s -> %s (dry run: nothing is written)\n", r.Source, r.Destination)
		for _, s := range r.Settings {
			escape.Fprintf(b, "  %s = %s (%s)\n", s.Name, s.Value, s.From)
		}
		r.Packages(b)
	}
	if len(r.Mirrors) > 0 {
		r.Table(b, r.dryRun)
	}
	if r.signs {
		escape.Fprintf(b, "  signing key: %s%s\n", r.SigningKey, r.replaced())
	}
	for _, m := range r.Mirrors {
		if n := len(m.Healed); n > 0 {
			path := m.Path
			if path == "" {
				path = "."
			}
			escape.Fprintf(b, "  healed: %s missing in the index of %s: %s\n", english.PluralWord(n, "1 package was", fmt.Sprint(n)+" packages were"), path, alike.Few(m.Healed))
		}
		for _, v := range m.Views {
			escape.Fprintf(b, "  view %s of %s, packages: %s\n", v.Name, cmp.Or(m.Path, "."), v.Index.Packages(r.dryRun))
		}
		if m.Promotion != "" {
			escape.Fprintf(b, "  record of the promotion: %s\n", m.Promotion)
		}
		for _, a := range m.Index.Audiences {
			escape.Fprintf(b, "  %s: %s\n", a.Readers, english.Plural(a.Packages, "package", ""))
		}
	}
	for _, f := range r.Files {
		escape.Fprintf(b, "  file %q: %s\n", f.Name, f.Status)
	}
	r.warnings(b)
	if r.dryRun {
		escape.Fprintf(b, "  would store %d objects, %s, in about %d requests: $%.4f\n", r.Estimate.Objects, cli.Size(r.Estimate.Bytes), r.Estimate.Requests, r.Estimate.USD)
		if i := r.Invalidate; i != nil {
			escape.Fprintf(b, "  would invalidate %d paths: $%.4f once the month's 1,000 free ones are used up\n", len(i.Paths), r.Estimate.PathsUSD)
		}
	}
	for _, p := range r.Pages {
		if r.dryRun {
			escape.Fprintf(b, "  would update the page %s and its parts, which are not among these objects\n", pages.Name(p.Mirror))
		} else {
			escape.Fprintf(b, "  page %s\n", p)
		}
	}
	if i := r.Invalidate; i != nil {
		for _, p := range i.Paths {
			escape.Fprintf(b, "  invalidate %s\n", p)
		}
		if i.ID != "" {
			escape.Fprintf(b, "  invalidation %s: %s\n", i.ID, i.Status)
		}
	}
}

func (r *Report) warnings(b *strings.Builder) {
	warnings := slices.DeleteFunc(slices.Clone(r.Findings), func(f buildcache.Finding) bool { return f.Severity != buildcache.Warning })
	for _, l := range alike.Lines(warnings, r.output.Verbose) {
		escape.Fprintf(b, "  warning: %s\n", l)
	}
}

// replaced names the keys whose signatures are replaced.
func (r *Report) replaced() string {
	keys := make(map[string]bool)
	for _, m := range r.Mirrors {
		for _, p := range m.Packages {
			keys[p.WasBy] = true
		}
	}
	for _, f := range r.Files {
		keys[f.WasBy] = true
	}
	if delete(keys, ""); len(keys) == 0 {
		return ""
	}
	return ", in place of " + strings.Join(slices.Sorted(maps.Keys(keys)), ", ")
}

// shownPackages is how many packages of each status are listed without --verbose.
const shownPackages = 20

// Packages lists the packages in a table that fits the width, problems first. It omits empty columns. Without
// --verbose it lists the first packages of each status, and counts the others.
func (r *Report) Packages(b *strings.Builder) {
	for _, m := range r.Mirrors {
		for _, status := range []publish.Status{publish.Rejected, publish.Withdrawn, publish.Replaced, publish.Repaired, publish.Skipped, publish.New, publish.Routed, publish.Upstream, publish.Unchanged} {
			shown := 0
			for _, p := range m.Packages {
				if p.Status != string(status) {
					continue
				}
				if shown++; shown <= shownPackages || r.output.Verbose {
					r.packageLine(b, p)
				}
			}
			if more := shown - shownPackages; more > 0 && !r.output.Verbose {
				fmt.Fprintf(b, "  %-9s and %d more: --verbose lists all\n", status, more)
			}
		}
	}
}

func (r *Report) packageLine(b *strings.Builder, p PackageReport) {
	line := fmt.Sprintf("%-9s %s@%s/%.7s", p.Status, p.Name, p.Version, p.Hash)
	switch {
	case p.Reason != "":
		line += ": " + p.Reason
	case p.Bytes > 0 && p.Status != string(publish.Unchanged):
		line += ", " + cli.Size(p.Bytes)
	}
	if p.License != "" {
		line += ", " + p.License
	}
	line = escape.Line(line)
	if !r.output.Verbose && r.style.Terminal() {
		line = cli.Short(line, r.style.Columns()-2)
	}
	fmt.Fprintf(b, "  %s\n", line)
}

// Untrusted counts the objects at the destination that the trusted keys do not cover.
func (r *Report) Untrusted() int {
	n := 0
	for _, m := range r.Mirrors {
		n += len(m.Untrusted)
	}
	return n
}

// unchanged says that nothing is to be sent, and whether there are problems anyway.
func (r *Report) unchanged() string {
	if n := r.Untrusted(); n > 0 {
		return fmt.Sprintf("nothing to send, but the destination offers %s that the trusted keys do not cover: see the warnings", english.Plural(n, "object", ""))
	}
	skipped := 0
	for _, m := range r.Mirrors {
		skipped += m.Counts["skipped"]
	}
	if skipped > 0 {
		return fmt.Sprintf("nothing to do: %s there with another document, which stays; all else is published", english.PluralWord(skipped, "1 package is", fmt.Sprint(skipped)+" packages are"))
	}
	return "nothing to do: everything is published"
}

// outcome describes the result in one sentence.
func (r *Report) outcome() string {
	n, repaired := 0, 0
	for _, m := range r.Mirrors {
		n += m.Counts["new"] + m.Counts["replaced"]
		repaired += m.Counts["repaired"]
	}
	packages := english.Plural(n, "package", "")
	if repaired > 0 {
		packages += fmt.Sprintf(", repaired %d", repaired)
	}
	switch r.Result {
	case "published":
		return fmt.Sprintf("published %s: %s, %s in %.1f s", packages, english.Plural(r.Stored.Objects, "object", ""), cli.Size(r.Stored.Bytes), r.Seconds)
	case "unchanged":
		return r.unchanged()
	case "dry-run":
		if !r.changes {
			return r.unchanged()
		}
		return "would publish " + strings.Replace(packages, "repaired", "repair", 1)
	}
	switch {
	case r.indexed && r.ExitCode == cli.ExitSource:
		return fmt.Sprintf("%s: published %s, refused others", r.Result, packages)
	case r.indexed && r.ExitCode == cli.ExitCatalog:
		return r.Result + ": everything is published and in the index, but the page of the cache is not up to date"
	case r.indexed:
		return r.Result + ": everything is published and in the index, but clients may not see it yet"
	case r.Stored != nil && r.Stored.Objects > 0:
		return fmt.Sprintf("%s: %s stored, which will not be sent again; the next run continues from there", r.Result, english.Plural(r.Stored.Objects, "object", ""))
	}
	return r.Result
}
