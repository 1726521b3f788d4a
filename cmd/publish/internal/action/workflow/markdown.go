package workflow

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// Text escapes text so that Markdown shows it literally anywhere in a line, also in the cell of a table:
// without links, pictures, HTML and code.
func Text(text string) string {
	var b strings.Builder
	text = escape.Line(text)
	for i, c := range text {
		switch {
		case c >= utf8.RuneSelf, c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune(` .,;-/()"'%?`, c):
			b.WriteRune(c)
		case c == ':' && strings.HasPrefix(text[i+1:], " "): // not a scheme of a link, nor :emoji:
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, "&#%d;", c)
		}
	}
	return b.String()
}

// Code is Text in a code font.
func Code(text string) string { return "<code>" + Text(text) + "</code>" }

// Block returns text in a block of code that the text cannot end.
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

// Table returns a table. Its cells are Markdown.
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
