package help

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// wrap breaks the lines of a text to a width. Empty lines separate paragraphs. Lines that begin with a space
// stay.
func wrap(text string, width int) string {
	var out []string
	var words []string
	flush := func() {
		if len(words) > 0 {
			out = append(out, fill(words, width)...)
			words = nil
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		switch {
		case line == "", strings.HasPrefix(line, " "):
			flush()
			out = append(out, line)
		default:
			words = append(words, strings.Fields(line)...)
		}
	}
	flush()
	return strings.Join(out, "\n")
}

// fill joins words into lines.
func fill(words []string, width int) (lines []string) {
	line := ""
	for _, w := range words {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+w, " ")
	}
	return append(lines, line)
}

// words matches the words of a command; a quoted text is one word.
var words = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`)

// continued breaks an example into lines of a shell that end in backslashes. Examples with a comment stay.
func continued(line string, width int) string {
	if utf8.RuneCountInString(line) <= width || strings.Contains(line, " # ") {
		return line + "\n"
	}
	var b strings.Builder
	begin := strings.Repeat(" ", indent)
	for _, w := range words.FindAllString(line, -1) {
		if len(strings.TrimSpace(begin)) > 0 && utf8.RuneCountInString(begin)+utf8.RuneCountInString(w)+len("  \\") > width {
			b.WriteString(begin + " \\\n")
			begin = strings.Repeat(" ", 2*indent)
		}
		if len(strings.TrimSpace(begin)) > 0 {
			begin += " "
		}
		begin += w
	}
	return b.String() + begin + "\n"
}

// Hang writes a text after the beginning of its first line, and indents the other lines.
func Hang(begin, text string, width, by int) string {
	lines := fill(strings.Fields(text), max(width-by, leastText))
	return begin + strings.Join(lines, "\n"+strings.Repeat(" ", by)) + "\n"
}
