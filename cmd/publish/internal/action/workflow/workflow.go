// Package workflow writes to the runner of a GitHub workflow: lines of a log and the commands between them,
// outputs, and the summary of a step.
//
// No text from a caller can become a command, another line or another output. A feature that the runner lacks
// or refuses is not an error: the work is done, so the rest is reported as far as possible.
package workflow

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/sethvargo/go-githubactions"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// A Runner is GitHub's runner, or a compatible one. Its methods are safe for concurrent use.
type Runner struct {
	getenv func(string) string

	mu      sync.Mutex // held while one line, command or output is written
	out     io.Writer
	gh      *githubactions.Action
	group   bool
	secrets []string // longest first, so that a secret within another does not split it

	unwritten map[string]bool // variables whose files could not be written
}

// New returns the runner that reads out and has set the environment.
func New(out io.Writer, getenv func(string) string) *Runner {
	r := &Runner{getenv: getenv, out: steady{out}, unwritten: make(map[string]bool)}
	r.gh = githubactions.New(githubactions.WithWriter(r.out), githubactions.WithGetenv(getenv))
	return r
}

// steady never fails: go-githubactions panics if it cannot write, and a closed log is no reason to stop a
// publish.
type steady struct{ io.Writer }

func (w steady) Write(p []byte) (int, error) {
	_, _ = w.Writer.Write(p)
	return len(p), nil
}

// Is reports whether this is a runner at all, and not a terminal.
func (r *Runner) Is() bool { return r.getenv("GITHUB_ACTIONS") == "true" }

// Debugging reports whether the user has requested debug logging.
func (r *Runner) Debugging() bool { return r.getenv("RUNNER_DEBUG") == "1" }

// Say writes lines to the log.
func (r *Runner) Say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.say(fmt.Sprintf(format, args...))
}

func (r *Runner) say(text string) {
	_, _ = io.WriteString(r.out, escape.Text(r.redact(strings.TrimRight(text, "\n")))+"\n")
}

// Group begins a part of the log that can be folded, and ends the previous one. An empty name only ends it.
func (r *Runner) Group(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.group {
		r.gh.EndGroup()
	}
	if r.group = name != ""; r.group {
		r.gh.Group(escape.Inert(name))
	}
}

// Error and Warning show a message at the top of the run, under a title.
func (r *Runner) Error(title, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.titled(title).Errorf("%s", r.annotation(message))
}

// Warning is like Error.
func (r *Runner) Warning(title, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warn(title, message)
}

func (r *Runner) warn(title, message string) { r.titled(title).Warningf("%s", r.annotation(message)) }

func (r *Runner) titled(title string) *githubactions.Action {
	return r.gh.WithFieldsMap(map[string]string{"title": r.redact(escape.Inert(title))})
}

// maxAnnotation is about the length that GitHub shows of an annotation.
const maxAnnotation = 4000

func (r *Runner) annotation(text string) string {
	return cut(escape.Text(r.redact(strings.TrimSpace(text))), maxAnnotation)
}

// shortestSecret is the minimum length of a secret that is redacted: replacing shorter texts would garble
// unrelated text.
const shortestSecret = 6

// Mask has the runner hide a secret in all its output, and redacts it in ours. The command is sent only to a
// runner: elsewhere it would show the secret.
func (r *Runner) Mask(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.FieldsFuncSeq(secret, func(c rune) bool { return c == '\n' || c == '\r' }) {
		line = strings.TrimSpace(line)
		if line == "" || slices.Contains(r.secrets, line) {
			continue
		}
		if r.Is() {
			r.gh.AddMask(line)
		}
		r.secrets = append(r.secrets, line)
		slices.SortStableFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	}
}

// Redact removes masked secrets from a text.
func (r *Runner) Redact(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.redact(text)
}

func (r *Runner) redact(text string) string {
	for _, s := range r.secrets {
		if len(s) >= shortestSecret {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	return text
}
