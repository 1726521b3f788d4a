// Package style says how a stream shows text: the width of its lines, and whether it shows bold and colours.
// Without a terminal, text is unchanged.
package style

import (
	"cmp"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Width is the width of text without a terminal, and least is the minimum.
const (
	Width = 80
	least = 40
)

// A Style says how a stream shows text. The zero Style leaves text unchanged, at the usual width.
type Style struct {
	width    int
	terminal bool
	colour   bool
}

// Of returns the style of a stream, an io.Writer. The environment may turn colours off (NO_COLOR, or
// TERM=dumb), and COLUMNS is the width without a terminal.
func Of(stream any, lookup func(string) (string, bool)) Style {
	getenv := func(name string) string {
		if lookup == nil {
			return ""
		}
		value, _ := lookup(name)
		return value
	}
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		columns, _ := strconv.Atoi(getenv("COLUMNS"))
		return Style{width: columns}
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 0
	}
	able := getenv("TERM") != "dumb" // to do more than print lines
	return Style{width: width, terminal: able, colour: able && getenv("NO_COLOR") == ""}
}

// Terminal reports whether the stream is a terminal that moves its cursor.
func (s Style) Terminal() bool { return s.terminal }

// Columns is the maximum number of characters of a line.
func (s Style) Columns() int { return max(cmp.Or(s.width, Width), least) }

// Fits reports whether no line of a text is too long, as far as that is known.
func (s Style) Fits(text string) bool {
	for line := range strings.Lines(text) {
		if s.width > 0 && utf8.RuneCountInString(strings.TrimRight(line, "\n")) > s.Columns() {
			return false
		}
	}
	return true
}

// Bold is for headings.
func (s Style) Bold(text string) string { return s.in("1", text) }

// Faint is for details.
func (s Style) Faint(text string) string { return s.in("2", text) }

// Bad is for errors and damage.
func (s Style) Bad(text string) string { return s.in("1;31", text) }

// Good is for success.
func (s Style) Good(text string) string { return s.in("32", text) }

// Warning is for warnings.
func (s Style) Warning(text string) string { return s.in("33", text) }

func (s Style) in(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
