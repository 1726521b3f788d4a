package workflow

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSummary is the maximum length of a summary. GitHub rejects a summary of more than 1 MiB.
const maxSummary = 900 << 10

// delimiter is what go-githubactions writes before and after the value of an output. It cannot be within a
// value.
const delimiter = "_GitHubActionsFileCommandDelimeter_"

// Output sets an output of the step. A value is one line. Other values are left out, because the name of a file
// could set other outputs.
func (r *Runner) Output(name, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	value = r.redact(value)
	if value == delimiter || strings.ContainsFunc(value, breaks) {
		r.warn("output left out", fmt.Sprintf("output %s is left out: its value has more than one line", name))
		return
	}
	r.file("GITHUB_OUTPUT", func() { r.gh.SetOutput(name, value) })
}

// breaks reports whether a character may end a line for some program.
func breaks(c rune) bool { return unicode.IsControl(c) || c == '\u2028' || c == '\u2029' }

// Summary adds Markdown to the summary of the step.
func (r *Runner) Summary(markdown string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file("GITHUB_STEP_SUMMARY", func() { r.gh.AddStepSummary(cut(r.redact(markdown), maxSummary)) })
}

// lacking says which output is missing if a file cannot be written.
var lacking = map[string]string{
	"GITHUB_OUTPUT":       "outputs are missing",
	"GITHUB_STEP_SUMMARY": "the summary is missing",
}

// file writes to the file that a variable names. Outside of a runner the variable is not set, and nothing is
// written; go-githubactions would panic. A file that cannot be written is reported once, at the top of the run:
// later steps lack its content.
func (r *Runner) file(variable string, write func()) {
	if r.getenv(variable) == "" {
		return
	}
	defer func() {
		if why := recover(); why != nil {
			if !r.unwritten[variable] {
				r.warn(lacking[variable], fmt.Sprintf("cannot write to $%s: %v", variable, why))
			}
			r.unwritten[variable] = true
		}
	}()
	write()
}

// cut shortens a text to a limit in bytes, between two characters.
func cut(text string, limit int) string {
	const end = " ..."
	if len(text) <= limit {
		return text
	}
	n := max(0, limit-len(end))
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + end
}
