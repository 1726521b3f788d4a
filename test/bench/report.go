package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Cells returns those that were measured, in order.
func (r *Results) Cells() []Cell {
	var all []Cell
	seen := make(map[Cell]bool)
	for _, row := range r.Rows {
		if !seen[row.Cell] {
			seen[row.Cell] = true
			all = append(all, row.Cell)
		}
	}
	for _, crowd := range r.Crowds {
		if !seen[crowd.Cell] {
			seen[crowd.Cell] = true
			all = append(all, crowd.Cell)
		}
	}
	return all
}

// Write writes the results as a page, results.md, with a plot for each cell in which
// peers were measured too; and as they are, results.json.
func (r *Results) Write(dir, command string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var page strings.Builder
	r.head(&page, command)
	r.verdicts(&page)
	for _, c := range r.Cells() {
		fmt.Fprintf(&page, "\n## %s\n\n", upper(c.String()))
		if crowds := r.crowdsIn(c); len(crowds) > 0 {
			name := plotName(c)
			if err := os.WriteFile(filepath.Join(dir, name), plotCrowds(c, crowds), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(&page, "![%s](%s)\n\n", c, name)
			r.crowdTable(&page, c)
			continue
		}
		if rows := r.in(c); r.bestPeer(c) != nil {
			name := plotName(c)
			if err := os.WriteFile(filepath.Join(dir, name), plot(c, rows), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(&page, "![%s](%s)\n\n", c, name)
		}
		r.table(&page, c)
	}
	if err := os.WriteFile(filepath.Join(dir, "results.md"), []byte(page.String()), 0o644); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "results.json"), append(raw, '\n'), 0o644)
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func plotName(c Cell) string {
	words := []string{c.Work, c.Scenario}
	if c.Act != "" {
		words = append(words, strings.NewReplacer(" ", "-", ",", "").Replace(c.Act))
	}
	return strings.Join(words, "-") + ".svg"
}

func (r *Results) head(w io.Writer, command string) {
	fmt.Fprintf(w, "# Results\n\nMade by `%s`; what it does is in [README.md](README.md). Client and server share the machine: compare within a table, not between them.\n\n", command)
	fmt.Fprintf(w, "| | |\n|---|---|\n")
	line := func(k, v string) { fmt.Fprintf(w, "| %s | %s |\n", k, v) }
	line("when", r.Began.UTC().Format("2006-01-02 15:04")+", for "+r.Took.Round(time.Second).String())
	line("machine", r.Machine+", "+humanize.IBytes(uint64(r.Memory))+", Linux "+r.Kernel)
	line("load before and after", r.LoadFrom+", "+r.LoadTo)
	line("Go", r.Go)
	if r.Scale != 1 {
		line("scale", fmt.Sprintf("workloads divided by %d", r.Scale))
	}
	var versions []string
	for _, c := range r.Clients {
		if c.Version != "" {
			versions = append(versions, c.Name+" "+c.Version)
		}
	}
	line("peers", strings.Join(versions, ", "))
	for _, what := range r.LeftOut {
		line("left out", what)
	}
}

func (r *Results) verdicts(w io.Writer) {
	fmt.Fprintf(w, "\n## Targets\n\n| work | | target | measured | | floor |\n|---|---|---|---|---|---|\n")
	for _, v := range r.Verdicts() {
		limit := "at most "
		if v.Least {
			limit = "at least "
		}
		value, verdict, floor := "", "not measured", ""
		if v.Floor > 0 {
			floor = quantity(v.Floor, v.Unit)
		}
		if v.Measured {
			value, verdict = quantity(v.Value, v.Unit), "reached"
			if !v.Reached() {
				verdict = "**not reached**"
			}
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", v.Cell, v.What, limit+quantity(v.Most, v.Unit), value, verdict, floor)
	}
	fmt.Fprintf(w, "\nA floor is what a client would take that checks what it sends and does nothing else, on this machine and against this server: what %d processors need to read the files, to hash two at a time, to write each to a connection in one bare request, and for the server's part; or one of them to read and hash a single file.\n", r.CPUs)
}

// table shows the rows of a cell, the fastest first.
func (r *Results) table(w io.Writer, c Cell) {
	fmt.Fprintf(w, "| client | wall s | by the best peer | CPU s | server CPU s | peak MiB | requests | connections | rounds |\n|---|---|---|---|---|---|---|---|---|\n")
	best := r.bestPeer(c)
	for _, row := range r.in(c) {
		if len(row.Runs) == 0 {
			fmt.Fprintf(w, "| %s | %s | | | | | | | |\n", row.Client, row.Note)
			continue
		}
		ratio := ""
		if best != nil {
			ratio = fmt.Sprintf("%.2f", float64(row.wall())/float64(best.wall()))
		}
		name := row.Client
		if row.client.Ours {
			name = "**" + name + "**"
		}
		fmt.Fprintf(w, "| %s | %.2f | %s | %.2f | %s | %d | %s | %s | %d |\n", name, row.wall().Seconds(), ratio,
			row.cpu().Seconds(), inSeconds(row.server()), row.peak()>>20, number(row.requests()), number(row.dialled()), len(row.Runs))
	}
}

// inSeconds is empty for what was not measured.
func inSeconds(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", d.Seconds())
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// Print shows all tables and verdicts as text.
func (r *Results) Print(w io.Writer) {
	for _, c := range r.Cells() {
		fmt.Fprintf(w, "\n%s\n\n", c)
		if len(r.crowdsIn(c)) > 0 {
			r.crowdTable(w, c)
			continue
		}
		r.table(w, c)
	}
	fmt.Fprintln(w)
	for _, v := range r.Verdicts() {
		if v.Measured {
			fmt.Fprintln(w, v)
		}
	}
}
