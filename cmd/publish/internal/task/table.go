package task

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/vantagecompute/slurm-factory-publish/publish"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// Table shows the mirrors. ahead: changes have not been written yet.
func (r *Report) Table(b *strings.Builder, ahead bool) {
	columns := []publish.Status{publish.New, publish.Replaced, publish.Unchanged, publish.Skipped, publish.Rejected}
	for _, seldom := range []publish.Status{publish.Repaired, publish.Upstream, publish.Routed} {
		if slices.ContainsFunc(r.Mirrors, func(m MirrorReport) bool { return m.Counts[string(seldom)] > 0 }) {
			columns = slices.Insert(columns, 2, seldom)
		}
	}
	var t strings.Builder
	w := tabwriter.NewWriter(&t, 2, 8, 2, ' ', 0)
	fmt.Fprint(w, "  MIRROR\tLAYOUT")
	for _, c := range columns {
		fmt.Fprintf(w, "\t%s", strings.ToUpper(string(c)))
	}
	fmt.Fprintln(w, "\tINDEX")
	for _, m := range r.Mirrors {
		path := m.Path
		if path == "" {
			path = "."
		}
		ix := m.Index.Packages(ahead)
		escape.Fprintf(w, "  %s\t%s", path, m.Layout)
		for _, c := range columns {
			fmt.Fprintf(w, "\t%d", m.Counts[string(c)])
		}
		escape.Fprintf(w, "\t%s\n", ix)
	}
	w.Flush()
	if r.style.Fits(t.String()) {
		b.WriteString(t.String())
		return
	}
	for _, m := range r.Mirrors { // a mirror in two lines
		escape.Fprintf(b, "  %s (%s), index %s:\n    %s\n", cmp.Or(m.Path, "."), m.Layout, m.Index.Packages(ahead), countsText([]MirrorReport{m}))
	}
}
