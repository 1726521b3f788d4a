package workflow

import "bytes"

// Lines shows what is written to it in the log of the step, where nothing of it is a command of the workflow.
type Lines struct {
	to   *Runner
	rest []byte
}

// Lines returns what shows lines in the log.
func (r *Runner) Lines() *Lines { return &Lines{to: r} }

// Write shows whole lines.
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

// End shows what is left of a line.
func (l *Lines) End() {
	if len(l.rest) > 0 {
		l.to.Say("%s", l.rest)
	}
	l.rest = nil
}

// mostShown is how much of what a command writes the summary shows, in bytes: the end of it.
const mostShown = 64 << 10

// A Tail is the end of what is written to it.
type Tail struct{ text []byte }

// Write keeps the end.
func (t *Tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if n := len(t.text) - mostShown; n > mostShown {
		t.text = append([]byte(nil), t.text[n:]...)
	}
	return len(p), nil
}

// String returns whole lines.
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
