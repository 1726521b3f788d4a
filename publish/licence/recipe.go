package licence

import (
	"slices"
	"strings"
	"unicode"
)

// A Recipe holds the statements of a package.py, as far as it can be read without running it.
type Recipe struct {
	about    string // first paragraph of its description
	homepage string
	bases    []string
	licences []statement
	noBinary []statement
}

// A statement holds under conditions.
type statement struct {
	text  string
	when  []string // specs, all of which must match
	never bool     // when=False
}

// notWritten stands for a licence that a recipe computes.
const notWritten = "LicenseRef-computed-by-recipe"

// Parse reads a recipe.
func Parse(text, name string) *Recipe {
	r := new(Recipe)
	lines := logicalLines(text)
	class := className(name)
	named := slices.ContainsFunc(lines, func(l line) bool { return l.class() == class })
	var blocks []block
	within := false // within the class of the package
	began := false  // the class began on the previous line
	for _, l := range lines {
		for len(blocks) > 0 && l.indent <= blocks[len(blocks)-1].indent {
			blocks = blocks[:len(blocks)-1]
		}
		if l.indent == 0 {
			c := l.class()
			if within = c != "" && (c == class || !named); within {
				r.bases = append(r.bases, l.bases()...)
			}
			began = within
			continue
		}
		if !within {
			continue
		}
		if t := l.tokens; began && len(t) == 1 && t[0].kind == str {
			r.about = paragraph(t[0].text)
		} else if len(t) == 3 && t[0].is("homepage") && t[1].is("=") && t[2].kind == str && len(blocks) == 0 {
			r.homepage = t[2].text
		}
		began = false
		if b, ok := l.block(); ok {
			blocks = append(blocks, b)
			continue
		}
		if !slices.ContainsFunc(blocks, func(b block) bool { return b.function }) {
			r.take(l, blocks)
		}
	}
	return r
}

// maxAbout is the maximum length of a stored description in characters.
const maxAbout = 400

// paragraph returns the first paragraph of a description, in one line.
func paragraph(text string) string {
	var lines []string
	for l := range strings.Lines(strings.TrimSpace(text)) {
		if l = strings.TrimSpace(l); l == "" {
			break
		}
		lines = append(lines, l)
	}
	one := []rune(strings.Join(strings.Fields(strings.Join(lines, " ")), " "))
	if len(one) > maxAbout {
		one = append(one[:maxAbout], '…')
	}
	return string(one)
}

// take reads one line of the body of a class.
func (r *Recipe) take(l line, blocks []block) {
	t := l.tokens
	if len(t) < 3 || !t[1].is("(") || !t[0].is("license") && !t[0].is("redistribute") {
		return
	}
	a := arguments(t[2:])
	s := statement{text: notWritten}
	for _, b := range blocks {
		s.when = append(s.when, b.when...)
	}
	switch w := a["when"]; {
	case w.kind == str:
		s.when = append(s.when, w.text)
	case w.is("False"):
		s.never = true
	}
	if t[0].is("redistribute") {
		if b := first(a, "binary", "1"); b.kind != 0 && !b.is("True") && !b.is("None") {
			r.noBinary = append(r.noBinary, s)
		}
		return
	}
	if written := first(a, "license_identifier", "0"); written.kind == str {
		s.text = written.text
	}
	r.licences = append(r.licences, s)
}

func first(a map[string]token, names ...string) token {
	for _, n := range names {
		if t, ok := a[n]; ok {
			return t
		}
	}
	return token{}
}

// arguments parses the arguments of a call: by name, or by position from 0. A value other than a single literal
// has the kind other.
func arguments(t []token) map[string]token {
	a := make(map[string]token)
	position, depth := 0, 0
	var name string
	var value []token
	end := func() {
		if len(value) > 0 {
			if name == "" {
				name = string(rune('0' + position))
				position++
			}
			a[name] = literal(value)
		}
		name, value = "", nil
	}
	for i, x := range t {
		switch {
		case depth == 0 && (x.is(",") || x.is(")")):
			end()
			if x.is(")") {
				return a
			}
		case depth == 0 && x.is("=") && len(value) == 1 && i > 0:
			name, value = value[0].text, nil
		default:
			if x.is("(") || x.is("[") || x.is("{") {
				depth++
			} else if x.is(")") || x.is("]") || x.is("}") {
				depth--
			}
			value = append(value, x)
		}
	}
	return a
}

// literal returns the value of an argument. Adjacent strings are joined.
func literal(value []token) token {
	if len(value) == 1 {
		return value[0]
	}
	text := ""
	for _, x := range value {
		if x.kind != str {
			return token{kind: other}
		}
		text += x.text
	}
	return token{kind: str, text: text}
}

// A block is the indented lines under a line that ends with a colon.
type block struct {
	indent   int
	function bool // def or class: nothing in it is a directive of the package
	when     []string
}

func (l line) block() (block, bool) {
	t := l.tokens
	if len(t) == 0 || !t[len(t)-1].is(":") {
		return block{}, false
	}
	b := block{indent: l.indent}
	switch {
	case t[0].is("def"), t[0].is("class"), t[0].is("async"):
		b.function = true
	case t[0].is("with") && len(t) > 4 && t[1].is("when") && t[2].is("("):
		if w := first(arguments(t[3:]), "0", "condition"); w.kind == str {
			b.when = []string{w.text}
		}
	case t[0].is("with") && len(t) > 4 && t[1].is("default_args") && t[2].is("("):
		if w := arguments(t[3:])["when"]; w.kind == str {
			b.when = []string{w.text}
		}
	}
	return b, true // of any other, such as if, the condition cannot be decided
}

// class returns the name of the class that a line begins; empty: none.
func (l line) class() string {
	if t := l.tokens; l.indent == 0 && len(t) > 2 && t[0].is("class") {
		return t[1].text
	}
	return ""
}

func (l line) bases() (names []string) {
	for i, x := range l.tokens[2:] {
		if x.kind == word && !l.tokens[i+1].is("=") {
			names = append(names, x.text)
		}
	}
	return names
}

// className returns Spack's name for the class of a package.
func className(name string) string {
	var b strings.Builder
	for _, part := range strings.FieldsFunc(name, func(c rune) bool { return c == '-' || c == '_' }) {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	if c := b.String(); c != "" && c[0] >= '0' && c[0] <= '9' {
		return "_" + c
	}
	return b.String()
}

type kind int

const (
	word kind = iota + 1
	str
	other
)

// A token is a word, the value of a string, or one other character.
type token struct {
	kind kind
	text string
}

// is reports whether a token is a word or a character of the language.
func (t token) is(text string) bool { return t.kind != str && t.text == text }

// A line is a logical line of Python: within brackets it continues on the next line.
type line struct {
	indent int
	tokens []token
}

// opening returns the prefix and the quotes of a string at the beginning of a text, if there is one.
func opening(text string) (prefix, quotes string) {
	rest := strings.TrimLeft(text[:min(2, len(text))], "rRbBuUfF")
	prefix = text[:min(2, len(text))-len(rest)]
	for _, quotes := range []string{`"""`, "'''", `"`, "'"} {
		if strings.HasPrefix(text[len(prefix):], quotes) {
			return prefix, quotes
		}
	}
	return "", ""
}

// wordIn returns the word, name or number, at the beginning of a text.
func wordIn(text string) string {
	end := strings.IndexFunc(text, func(c rune) bool { return c != '_' && c != '.' && !unicode.IsLetter(c) && !unicode.IsDigit(c) })
	if end < 0 {
		end = len(text)
	}
	return strings.TrimRight(text[:end], ".")
}

// logicalLines splits Python roughly into lines: comments are left out, and unknown syntax becomes characters.
func logicalLines(text string) []line {
	var all []line
	var now line
	depth, begins := 0, true
	for text != "" {
		if begins && depth == 0 {
			rest := strings.TrimLeft(text, " \t")
			now = line{indent: len(text) - len(rest)}
			text, begins = rest, false
			continue
		}
		t, rest := next(text)
		text = rest
		switch {
		case t.is("\n"):
			if depth == 0 {
				if len(now.tokens) > 0 {
					all = append(all, now)
				}
				begins = true
			}
			continue
		case t.is("(") || t.is("[") || t.is("{"):
			depth++
		case t.is(")") || t.is("]") || t.is("}"):
			depth = max(0, depth-1)
		}
		if t.kind != 0 {
			now.tokens = append(now.tokens, t)
		}
	}
	if len(now.tokens) > 0 {
		all = append(all, now)
	}
	return all
}

// next returns the first token of a text, of kind 0 if there is none to keep, and the rest.
func next(text string) (token, string) {
	switch c := text[0]; {
	case c == ' ' || c == '\t' || c == '\r':
		return token{}, text[1:]
	case c == '#':
		if i := strings.IndexByte(text, '\n'); i >= 0 {
			return token{}, text[i:]
		}
		return token{}, ""
	case strings.HasPrefix(text, "\\\n"):
		return token{}, text[2:]
	}
	if prefix, quotes := opening(text); quotes != "" {
		value, rest := quoted(text[len(prefix)+len(quotes):], quotes, strings.ContainsAny(prefix, "rR"))
		if strings.ContainsAny(prefix, "fF") {
			return token{kind: other}, rest
		}
		return token{str, value}, rest
	}
	if w := wordIn(text); w != "" {
		return token{word, w}, text[len(w):]
	}
	return token{other, text[:1]}, text[1:]
}

// quoted reads a string to its closing quotes.
func quoted(text, quotes string, raw bool) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], quotes):
			return b.String(), text[i+len(quotes):]
		case text[i] == '\\' && i+1 < len(text):
			i++
			if raw || !strings.ContainsRune("\n\"'\\", rune(text[i])) {
				b.WriteByte('\\')
			}
			if text[i] != '\n' || raw {
				b.WriteByte(text[i])
			}
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String(), ""
}
