// Package workflow speaks with the runner of a GitHub workflow: by lines of a log and the
// commands between them, by outputs, by the summary of a step.
//
// Nothing that is handed in can become a command, another line or another output, whatever
// it holds. And nothing that the runner lacks or refuses is an error: what has been done
// is done, so the rest is told as far as it can be.
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

// A Runner is what runs us: GitHub's runner, or anything that looks enough like it. Its
// methods are safe for concurrent use.
type Runner struct {
	getenv func(string) string

	mu      sync.Mutex // held while one line, command or output is written
	out     io.Writer
	gh      *githubactions.Action
	group   bool
	secrets []string // longest first, so that one within another hides nothing of it

	unwritten map[string]bool // variables whose files could not be written
}

// New returns the runner that reads out and has set the environment.
func New(out io.Writer, getenv func(string) string) *Runner {
	r := &Runner{getenv: getenv, out: steady{out}, unwritten: make(map[string]bool)}
	r.gh = githubactions.New(githubactions.WithWriter(r.out), githubactions.WithGetenv(getenv))
	return r
}

// steady never fails: go-githubactions panics if it cannot write, and a log that nobody
// reads is no reason to stop a publish.
type steady struct{ io.Writer }

func (w steady) Write(p []byte) (int, error) {
	_, _ = w.Writer.Write(p)
	return len(p), nil
}

// Is reports whether this is a runner at all, and not a terminal.
func (r *Runner) Is() bool { return r.getenv("GITHUB_ACTIONS") == "true" }

// Debugging reports whether the user has asked the runner to say more.
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

// Group begins a part of the log that can be folded; it ends the one before. An empty
// name only ends it.
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

// maxAnnotation is about what GitHub shows of one.
const maxAnnotation = 4000

func (r *Runner) annotation(text string) string {
	return cut(escape.Text(r.redact(strings.TrimSpace(text))), maxAnnotation)
}

// shortestSecret is that of what is kept out of everything that we write: to replace
// something shorter would garble what has nothing to do with it.
const shortestSecret = 6

// Mask has the runner hide a secret in all that it shows, and keeps it out of what we
// write. Only a runner is told: for anybody else the command itself would show the secret.
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

// Redact takes what was masked out of a text.
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
