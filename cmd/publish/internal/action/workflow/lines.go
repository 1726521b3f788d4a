package workflow

import "bytes"

// Lines is a writer to the log of the step; its lines are never commands of the workflow.
type Lines struct {
	to   *Runner
	rest []byte
}

// Lines returns a writer of lines to the log.
func (r *Runner) Lines() *Lines { return &Lines{to: r} }

// Write writes complete lines.
func (l *Lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		at := bytes.IndexByte(l.rest, '\n')
		if at < 0 {
			return len(p), nil
		}
		l.to.Say("%s", l.rest[:at])
		l.rest = l.rest[at+1:]
	}
}

// End writes the rest of an incomplete line.
func (l *Lines) End() {
	if len(l.rest) > 0 {
		l.to.Say("%s", l.rest)
	}
	l.rest = nil
}

// mostShown is the maximum number of bytes of the output of a command in the summary: its end.
const mostShown = 64 << 10

// A Tail keeps the end of what is written to it.
type Tail struct{ text []byte }

// Write keeps the end of p.
func (t *Tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if n := len(t.text) - mostShown; n > mostShown {
		t.text = append([]byte(nil), t.text[n:]...)
	}
	return len(p), nil
}

// String returns complete lines.
func (t *Tail) String() string {
	text := t.text
	if n := len(text) - mostShown; n > 0 {
		text = text[n:]
		if at := bytes.IndexByte(text, '\n'); at >= 0 {
			text = text[at+1:]
		}
	}
	return string(text)
}
