// Package escape makes untrusted text harmless to show: in a terminal, in a log, and in the log of a workflow,
// whose runner takes some lines for commands.
//
// Names, versions, reasons and messages of servers come from others. A control character in one of them could
// move the cursor, hide the rest of the line or begin a new one. Here it is written out, as \n or \x1b.
package escape

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns text as one line, with characters written out that are invisible or change how the rest is
// shown: control characters, line breaks, invisible characters, those that change the direction of writing,
// bytes that are not UTF-8. Line(Line(s)) is Line(s).
func Line(text string) string {
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for i, c := range text {
		write(&b, c, text[i:])
	}
	return b.String()
}

// hidden reports whether a character is written out. A replacement character may stand for a byte that is not
// UTF-8.
func hidden(c rune) bool { return !unicode.IsPrint(c) || c == utf8.RuneError }

// write writes the character c, with which text begins, as itself or written out. For characters that
// encoding/json leaves alone, the output is valid within a JSON string and means the same there.
func write(b *strings.Builder, c rune, text string) {
	_, size := utf8.DecodeRuneInString(text)
	switch {
	case c == utf8.RuneError && size == 1:
		fmt.Fprintf(b, `\x%02x`, text[0])
	case unicode.IsPrint(c):
		b.WriteRune(c)
	case c == '\n':
		b.WriteString(`\n`)
	case c == '\r':
		b.WriteString(`\r`)
	case c == '\t':
		b.WriteString(`\t`)
	case c < 0x7f:
		fmt.Fprintf(b, `\x%02x`, c)
	case c > 0xffff:
		c -= 0x10000
		fmt.Fprintf(b, `\u%04x\u%04x`, 0xd800+c>>10, 0xdc00+c&0x3ff)
	default:
		fmt.Fprintf(b, `\u%04x`, c)
	}
}

// Text keeps the lines of text, and makes sure that none of them is a command to a runner.
func Text(text string) string {
	var b strings.Builder
	var s state
	s.write(&b, text)
	return b.String()
}

// Inert is Text of one line.
func Inert(line string) string { return Text(Line(line)) }

// Error returns the message of an error. Lines after the first are indented, so that none looks like a separate
// message.
func Error(err error) string {
	lines := strings.Split(strings.TrimRight(err.Error(), "\n"), "\n")
	for i, l := range lines {
		l = Line(l)
		if i > 0 && !strings.HasPrefix(l, "  ") {
			l = "  " + l
		}
		lines[i] = l
	}
	return strings.Join(lines, "\n")
}

// Sprintf is fmt.Sprintf with every argument, of any type, as a Line, and errors as Error. The format itself is
// trusted and not escaped.
func Sprintf(format string, args ...any) string {
	if false {
		_ = fmt.Sprintf(format, args...) // so that go vet checks the calls
	}
	return fmt.Sprintf(format, escaped(args)...)
}

// Fprintf is fmt.Fprintf with arguments as in Sprintf.
func Fprintf(w io.Writer, format string, args ...any) (int, error) {
	if false {
		_, _ = fmt.Fprintf(w, format, args...) // so that go vet checks the calls
	}
	return fmt.Fprintf(w, format, escaped(args)...)
}

func escaped(args []any) []any {
	all := make([]any, len(args))
	for i, a := range args {
		all[i] = value{a}
	}
	return all
}

// A value formats its operand and escapes the result.
type value struct{ of any }

// Format implements fmt.Formatter.
func (v value) Format(f fmt.State, verb rune) {
	if err, ok := v.of.(error); ok && (verb == 'v' || verb == 's') {
		_, _ = io.WriteString(f, Error(err))
		return
	}
	_, _ = io.WriteString(f, Line(fmt.Sprintf(fmt.FormatString(f, verb), v.of)))
}
