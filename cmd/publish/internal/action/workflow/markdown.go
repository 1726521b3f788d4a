package workflow

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// Text writes text so that Markdown shows it as it is, anywhere in a line, also in the cell
// of a table: no link, no picture, no HTML, no code of it works.
func Text(text string) string {
	var b strings.Builder
	text = escape.Line(text)
	for i, c := range text {
		switch {
		case c >= utf8.RuneSelf, c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune(` .,;-/()"'%?`, c):
			b.WriteRune(c)
		case c == ':' && strings.HasPrefix(text[i+1:], " "): // no scheme of a link, no :emoji:
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, "&#%d;", c)
		}
	}
	return b.String()
}

// Code is Text in the letters of code.
func Code(text string) string { return "<code>" + Text(text) + "</code>" }

// Block is text as it is, in a block of code that nothing in it can end.
func Block(language, text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := range lines {
		lines[i] = escape.Line(lines[i])
	}
	return fence + language + "\n" + strings.Join(lines, "\n") + "\n" + fence + "\n"
}

// Table is a table. Its cells are Markdown.
func Table(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	line(strings.Split(strings.Repeat("---,", len(head)-1)+"---", ","))
	for _, r := range rows {
		line(r)
	}
	return b.String()
}
