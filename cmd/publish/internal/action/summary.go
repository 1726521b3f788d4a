package action

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/shell"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/workflow"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// maxSummaryBytes leaves room for what follows the list of packages.
const maxSummaryBytes = 700 << 10

// maxLines is how many lines of an error are shown.
const maxLines = 50

// icon stands for the result.
func (o *outcome) icon() string {
	switch {
	case o.err == nil && o.report.Result == "dry-run":
		return "🔎"
	case o.err == nil && o.let != nil:
		return "⚠️"
	case o.err == nil:
		return "✅"
	case o.report.Result == "cancelled":
		return "⏹️"
	case cli.OneOf(cli.ExitCode(o.err), cli.ExitInvalidation, cli.ExitVerification, cli.ExitCatalog):
		return "⚠️"
	}
	return "❌"
}

// markdown is the summary of the step.
func (o *outcome) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s %s\n\n", o.icon(), workflow.Text(o.sentence()))
	if o.wrong() != nil {
		o.problem(&b)
	}
	o.table(&b)
	o.mirrors(&b)
	o.invalidation(&b)
	o.use(&b)
	o.timing(&b)
	o.packages(&b) // last, because the list may be too long
	return b.String()
}

// problem writes what went wrong and what to do about it.
func (o *outcome) problem(b *strings.Builder) {
	lines := strings.Split(o.wrong().Error(), "\n")
	if n := len(lines) - maxLines; n > 0 {
		lines = append(lines[:maxLines], fmt.Sprintf("and %d more lines: see the log of the step, or report-file", n))
	}
	fmt.Fprintf(b, "%s\n", workflow.Block("text", strings.Join(lines, "\n")))
	for _, h := range o.hints() {
		first, rest, more := strings.Cut(h, "\n")
		fmt.Fprintf(b, "- %s\n", workflow.Text(first))
		if more {
			fmt.Fprintf(b, "\n%s\n", workflow.Block("yaml", rest))
		}
	}
	if len(o.hints()) > 0 {
		b.WriteString("\n")
	}
	var auth *session.AuthError
	if errors.As(o.wrong(), &auth) {
		claims(b, auth)
	}
	var denied *mirror.DeniedError
	if errors.As(o.wrong(), &denied) {
		if p := o.lacking(denied); p != nil {
			fmt.Fprintf(b, "To be added to the policy of the role, if it lacks this:\n\n%s\n", workflow.Block("json", p.json()))
		}
	}
}

// claims writes the claims of the token of this job, and a trust policy that matches it.
func claims(b *strings.Builder, e *session.AuthError) {
	if e.Claims != nil {
		var rows [][]string
		for _, r := range e.Claims.Rows() {
			rows = append(rows, []string{workflow.Code(r[0]), workflow.Code(r[1])})
		}
		fmt.Fprintf(b, "This job's token says:\n\n%s\n", workflow.Table([]string{"claim", "value"}, rows))
	}
	if e.TrustPolicy != "" {
		fmt.Fprintf(b, "A trust policy for this job and no other:\n\n%s\n", workflow.Block("json", e.TrustPolicy))
	}
}

func (o *outcome) table(b *strings.Builder) {
	r := o.report
	var rows [][]string
	add := func(what, value string) {
		if value != "" {
			rows = append(rows, []string{what, value})
		}
	}
	if o.in.destination != "" {
		add("destination", workflow.Code(o.in.destination))
	}
	if u := redact.URL(o.in.target.CDN.PublicURL); u != "" {
		add("public URL", workflow.Code(u))
	}
	if r.Planned() {
		new, replaced, repaired, rejected, healed := 0, 0, 0, 0, 0
		for _, m := range r.Mirrors {
			new += m.Counts["new"]
			replaced += m.Counts["replaced"]
			repaired += m.Counts["repaired"]
			rejected += m.Counts["rejected"]
			healed += len(m.Healed)
		}
		text := fmt.Sprintf("%d found, %d new, %d there already", o.found, new, o.skipped)
		for _, n := range []struct {
			n    int
			what string
		}{{replaced, "replaced"}, {repaired, "repaired"}, {rejected, "refused"}, {healed, "added to the index that had been there without it"}} {
			if n.n > 0 {
				text += fmt.Sprintf(", %d %s", n.n, n.what)
			}
		}
		add("packages", text)
		if o.found > 0 {
			add("signatures", workflow.Text(o.signed))
		}
	}
	if s := r.Stored; s != nil {
		text := fmt.Sprintf("%s, %s", count(s.Objects, "object"), cli.Size(s.Bytes))
		if took := o.took(task.PartUpload); took > 0 && s.Bytes > 0 {
			text += fmt.Sprintf(", %s/s", cli.Size(int64(float64(s.Bytes)/took.Seconds())))
		}
		add("sent", text)
	} else if r.DryRun() && r.Planned() {
		add("would send", fmt.Sprintf("%s, %s, in about %s: $%.4f", count(r.Estimate.Objects, "object"), cli.Size(r.Estimate.Bytes), count(r.Estimate.Requests, "request"), r.Estimate.USD))
	}
	if o.Role != "" {
		add("role", workflow.Code(o.Role))
	}
	add("time", fmt.Sprintf("%.1f s", r.Seconds))
	fmt.Fprintf(b, "%s\n", workflow.Table([]string{"", ""}, rows))
}

func (o *outcome) took(p task.Part) time.Duration {
	for _, s := range o.Spent {
		if s.Part == p {
			return s.Time
		}
	}
	return 0
}

// mirrors writes the indices, before and after.
func (o *outcome) mirrors(b *strings.Builder) {
	var rows [][]string
	var views [][]string
	for _, m := range o.report.Mirrors {
		rows = append(rows, []string{
			workflow.Code("./" + m.Path), m.Layout, fmt.Sprint(m.Counts["new"]), fmt.Sprint(m.Counts["replaced"]),
			fmt.Sprint(m.Counts["unchanged"] + m.Counts["repaired"] + m.Counts["skipped"]), fmt.Sprint(m.Counts["rejected"]), o.index(m.Index),
		})
		for _, v := range m.Views {
			views = append(views, []string{workflow.Code("./" + m.Path), workflow.Code(v.Name), o.index(v.Index)})
		}
	}
	if len(rows) > 0 {
		fmt.Fprintf(b, "%s\n", workflow.Table([]string{"mirror", "layout", "new", "replaced", "there", "refused", "packages in the index"}, rows))
	}
	if len(views) > 0 {
		fmt.Fprintf(b, "%s\n", workflow.Table([]string{"mirror", "view", "packages in the view"}, views))
	}
}

// index describes the change of an index.
func (o *outcome) index(x task.IndexReport) string {
	switch {
	case x.Mode == "none":
		return "left alone"
	case x.Written:
		return fmt.Sprintf("%d → %d", x.Before, x.After)
	case x.Changes && o.in.dryRun && x.Mode == "rebuild":
		return "would be rebuilt"
	case x.Changes && o.in.dryRun:
		return fmt.Sprintf("would go from %d to %d", x.Before, x.After)
	case x.Changes:
		return fmt.Sprintf("%d, not replaced", x.Before)
	}
	return fmt.Sprintf("%d, unchanged", x.Before)
}

const maxPaths = 20

func (o *outcome) invalidation(b *strings.Builder) {
	i := o.report.Invalidate
	if i == nil {
		return
	}
	switch {
	case i.ID != "":
		fmt.Fprintf(b, "Invalidation %s, %s:\n\n", workflow.Code(i.ID), workflow.Text(i.Status))
	case o.in.dryRun:
		fmt.Fprintf(b, "Would be invalidated:\n\n")
	default:
		fmt.Fprintf(b, "Not invalidated:\n\n")
	}
	for n, p := range i.Paths {
		if n == maxPaths {
			fmt.Fprintf(b, "- and %d more\n", len(i.Paths)-n)
			break
		}
		fmt.Fprintf(b, "- %s\n", workflow.Code(p))
	}
	b.WriteString("\n")
}

// use writes how clients use the mirror.
func (o *outcome) use(b *strings.Builder) {
	if o.err != nil || o.in.dryRun || o.found == 0 {
		return
	}
	var text strings.Builder
	signed := false
	for n, m := range o.report.Mirrors {
		if n == maxShownMirrors {
			fmt.Fprintf(&text, "# and %d more\n", len(o.report.Mirrors)-n)
			break
		}
		flag := ""
		if slices.ContainsFunc(m.Packages, func(p task.PackageReport) bool { return !p.Signed }) {
			flag = "--unsigned "
		}
		signed = signed || slices.ContainsFunc(m.Packages, func(p task.PackageReport) bool { return p.Signed })
		u := o.mirrorURL(m.Path)
		fmt.Fprintf(&text, "spack mirror add %s%s %s\n", flag, shell.Quote(mirrorName(u)), shell.Quote(u))
		for _, v := range m.Views {
			name := mirrorName(u) + "-" + strings.ReplaceAll(v.Name, "/", "-")
			fmt.Fprintf(&text, "spack mirror add %s--name %s %s %s  # only the view\n", flag, shell.Quote(v.Name), shell.Quote(name), shell.Quote(u))
		}
	}
	if signed {
		text.WriteString("spack buildcache keys --install --trust\n")
	}
	fmt.Fprintf(&text, "spack install --cache-only /%.7s\n", o.example().Hash)
	fmt.Fprintf(b, "<details><summary>Use it</summary>\n\n%s\n[For users who install](%s): keys, configuration files, containers, clusters without internet.\n\n</details>\n\n",
		workflow.Block("sh", text.String()), clientsPage)
}

// docs is the address of the documentation for readers of a log or a summary.
const docs = "https://github.com/vantagecompute/slurm-factory-publish/blob/main/docs/"

// clientsPage is the page for users who install from a mirror.
const clientsPage = docs + "clients.md"

const maxShownMirrors = 10

// mirrorName suggests a name for a mirror: the last two parts of its path.
func mirrorName(u string) string {
	parts := strings.FieldsFunc(u[strings.Index(u, "://")+3:], func(c rune) bool { return c == '/' })
	return strings.Join(parts[max(0, len(parts)-2):], "-")
}

// example returns a package to install: Slurm, if the mirror has it.
func (o *outcome) example() task.PackageReport {
	var last task.PackageReport
	for _, m := range o.report.Mirrors {
		for _, p := range m.Packages {
			if last = p; p.Name == "slurm" {
				return p
			}
		}
	}
	return last
}

func (o *outcome) timing(b *strings.Builder) {
	var rows [][]string
	for _, s := range o.Spent {
		rows = append(rows, []string{string(s.Part), fmt.Sprintf("%.1f s", s.Time.Seconds())})
	}
	if len(rows) > 0 {
		fmt.Fprintf(b, "<details><summary>Time</summary>\n\n%s\n</details>\n\n", workflow.Table([]string{"part", "time"}, rows))
	}
}

// packages writes the packages of the plan, up to the requested number and the size limit.
func (o *outcome) packages(b *strings.Builder) {
	if o.found == 0 || o.in.maxSpecs == 0 {
		return
	}
	fmt.Fprintf(b, "<details><summary>%s</summary>\n\n", count(o.found, "package"))
	b.WriteString(workflow.Table([]string{"package", "hash", "built for", "size", ""}, nil))
	shown := 0
	for _, m := range o.report.Mirrors {
		for _, p := range m.Packages {
			if shown == o.in.maxSpecs || b.Len() > maxSummaryBytes {
				break
			}
			shown++
			state := workflow.Text(p.Status)
			if p.Reason != "" {
				state += ": " + workflow.Text(p.Reason)
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", workflow.Code(p.Name+"@"+p.Version), workflow.Code(fmt.Sprintf("%.7s", p.Hash)),
				workflow.Text(strings.TrimPrefix(p.OS+"/"+p.Target, "/")), cli.Size(p.Bytes), state)
		}
	}
	if n := o.found - shown; n > 0 {
		fmt.Fprintf(b, "\nand %d more\n", n)
	}
	b.WriteString("\n</details>\n")
}
