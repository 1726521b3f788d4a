package escape

import (
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

// A Writer writes out all invisible characters except line breaks and tabs, and passes the rest on. No line of
// its output is a command to the runner of a workflow. JSON stays the same document. It is safe for concurrent
// use, but pieces of a line that are written at the same time may be mixed up.
type Writer struct {
	mu    sync.Mutex // held while one piece is escaped and written
	w     io.Writer
	state state
	tail  []byte // bytes of a character whose end is not written yet
}

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := append(w.tail, p...)
	end := complete(text)
	w.tail = append([]byte(nil), text[end:]...)
	var b strings.Builder
	b.Grow(end)
	w.state.write(&b, string(text[:end]))
	if _, err := io.WriteString(w.w, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// complete returns the length of the part of a text that does not end within a character.
func complete(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if at := len(text) - n; utf8.RuneStart(text[at]) {
			if utf8.FullRune(text[at:]) {
				break
			}
			return at
		}
	}
	return len(text)
}

// A state describes the line so far. The runner looks for "::" at the beginning of a line, after space, and for
// "##[", its older form, anywhere. Its culture-sensitive comparison ignores some characters, so everything
// beyond ASCII counts as unseen.
type state struct {
	begun bool    // the line has a character that is neither space nor unseen
	seen  [2]rune // the last two visible characters
}

func (s *state) write(b *strings.Builder, text string) {
	for i, c := range text {
		switch {
		case c == '\n':
			*s = state{}
			b.WriteByte('\n')
			continue
		case c == '[' && s.seen == [2]rune{'#', '#'}:
			b.WriteString(`\u005b`)
			s.see(c)
			continue
		case c == ':' && !s.begun:
			b.WriteByte('\\')
		}
		if c == '\t' {
			b.WriteByte('\t')
		} else {
			write(b, c, text[i:])
		}
		s.see(c)
	}
}

// see records a character of the line.
func (s *state) see(c rune) {
	if c >= utf8.RuneSelf {
		return
	}
	s.begun = s.begun || c != ' ' && c != '\t'
	s.seen = [2]rune{s.seen[1], c}
}
