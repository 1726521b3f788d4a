// Package style says how a stream shows text: how wide it is, and whether bold and colours help on it. Where
// there is no terminal, text stays as it is.
package style

import (
	"cmp"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Width is that of text where there is no terminal, and the least that is made use of.
const (
	Width = 80
	least = 40
)

// A Style is how a stream shows text. The zero Style leaves it as it is, at the usual width.
type Style struct {
	width    int
	terminal bool
	colour   bool
}

// Of returns the style of a stream, an io.Writer. The environment may refuse colours (NO_COLOR, or TERM=dumb), and
// COLUMNS is the width where there is no terminal.
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

// Columns is how many characters a line may have.
func (s Style) Columns() int { return max(cmp.Or(s.width, Width), least) }

// Fits reports whether the lines of a text are no longer than a line may be, as far as that is known.
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

// Faint is for what matters less than the rest.
func (s Style) Faint(text string) string { return s.in("2", text) }

// Bad is for errors and damage.
func (s Style) Bad(text string) string { return s.in("1;31", text) }

// Good is for what is done.
func (s Style) Good(text string) string { return s.in("32", text) }

// Warning is for what should be looked at.
func (s Style) Warning(text string) string { return s.in("33", text) }

func (s Style) in(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
