package workflow

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// harmless makes a line that the runner does not take for a command, of one that may
// hold anything. The runner looks for "::" at the beginning of a line, after space, and for
// "##[", its older form, anywhere; and where it compares strings as people do, it does not
// see some characters. So here everything beyond ASCII counts as unseen.
func harmless(line string) string {
	var b strings.Builder
	seen := ""     // the last two visible characters
	begun := false // something is before that is neither space nor unseen
	for _, c := range printable(line) {
		ascii := c < utf8.RuneSelf
		switch {
		case c == '[' && seen == "##":
			b.WriteByte('\\')
		case c == ':' && !begun:
			b.WriteByte('\\')
		}
		if ascii && c != ' ' && c != '\t' {
			begun = true
		}
		if ascii {
			seen += string(c)
			seen = seen[max(0, len(seen)-2):]
		}
		b.WriteRune(c)
	}
	return b.String()
}

// printable writes out what cannot be seen, or what changes how the rest is seen: control
// characters, invisible ones, those that turn the direction of writing. A line break is
// such a character.
func printable(text string) string {
	clean := func(c rune) bool { return c != '\t' && !unicode.IsPrint(c) || c == utf8.RuneError }
	if !strings.ContainsFunc(text, clean) {
		return text
	}
	var b strings.Builder
	for i, c := range text {
		switch {
		case c == utf8.RuneError:
			_, n := utf8.DecodeRuneInString(text[i:])
			if n > 1 {
				b.WriteRune(c)
			} else {
				fmt.Fprintf(&b, `\x%02x`, text[i])
			}
		case !clean(c):
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c < 0x100:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}

// cut ends a text that is too long, between two characters.
func cut(text string, limit int) string {
	const end = " ..."
	if len(text) <= limit {
		return text
	}
	n := max(0, limit-len(end))
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + end
}
