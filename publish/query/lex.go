package query

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// The tokens of Spack's syntax for specs (spack 1.2, spec_parser.py), in the order in which they are tried. The
// first match counts, even if a later one is longer.
type tokenKind int

const (
	edgeBegins tokenKind = iota
	edgeEnds
	dependency
	versions
	propagatedFlag
	flag
	propagatedPair
	pair
	file
	qualifiedName
	name
	hash
	space
)

// A token is a piece of a query.
type token struct {
	kind tokenKind
	text string
	at   int // offset in the query, in bytes

	virtuals, substitute string // of c,cxx=gcc after the sign of a dependency
	key, value           string // of a flag or pair
}

const (
	identifier    = `[a-zA-Z_0-9][a-zA-Z_0-9\-]*`
	dotted        = identifier + `(?:\.` + identifier + `)+`
	attributeName = `[a-zA-Z_0-9][a-zA-Z_0-9\-.]*`
	assignment    = `(?:\s*(` + identifier + `(?:,` + identifier + `)*)=(` + dotted + `|` + identifier + `))?`
)

// patterns are the regular expressions of the tokens. Tokens with nil are read by functions.
var patterns = []struct {
	kind    tokenKind
	pattern *regexp.Regexp
}{
	{edgeBegins, regexp.MustCompile(`^(?:\^|%%|%)\[`)},
	{edgeEnds, regexp.MustCompile(`^\]` + assignment)},
	{dependency, regexp.MustCompile(`^(?:\^|%%|%)` + assignment)},
	{versions, nil},
	{propagatedFlag, regexp.MustCompile(`^(\+\+|~~|--)\s*(` + attributeName + `)`)},
	{flag, regexp.MustCompile(`^([~+-])\s*(` + attributeName + `)`)},
	{propagatedPair, nil},
	{pair, nil},
	{file, regexp.MustCompile(`^(?:\.|/|[a-zA-Z0-9\-_]*/)[a-zA-Z0-9\-_./]*(?:\.json|\.yaml)`)},
	{qualifiedName, regexp.MustCompile(`^` + dotted)},
	{name, regexp.MustCompile(`^(?:` + identifier + `|\*)`)},
	{hash, regexp.MustCompile(`^/([a-zA-Z_0-9]+)`)},
	{space, regexp.MustCompile(`^\s+`)},
}

// lex splits a query into tokens and drops the space between them.
func lex(text string) ([]token, error) {
	var all []token
	for at := 0; at < len(text); {
		t, ok := next(text[at:])
		if !ok {
			return nil, &SyntaxError{Query: text, At: at, Reason: "unexpected character"}
		}
		t.at = at
		at += len(t.text)
		if t.kind != space {
			all = append(all, t)
		}
	}
	return all, nil
}

// next returns the token at the beginning of text.
func next(text string) (token, bool) {
	for _, p := range patterns {
		t := token{kind: p.kind}
		switch p.kind {
		case versions:
			t.text = versionToken(text)
		case propagatedPair:
			t = pairToken(text, p.kind, "==")
		case pair:
			t = pairToken(text, p.kind, "=")
		default:
			m := p.pattern.FindStringSubmatch(text)
			if m == nil {
				continue
			}
			t.text = m[0]
			switch p.kind {
			case edgeEnds, dependency:
				t.virtuals, t.substitute = m[1], m[2]
			case propagatedFlag, flag:
				t.value, t.key = m[1], m[2]
			case hash:
				t.value = m[1]
			}
		}
		if t.text != "" {
			return t, true
		}
	}
	return token{}, false
}

var (
	pairKey  = regexp.MustCompile(`^(` + attributeName + `)(:?)=`)
	bareText = regexp.MustCompile(`^[a-zA-Z_0-9\-+*.,:=%^~/\\]+`)
)

// pairToken reads a key and a value with a sign between them.
func pairToken(text string, kind tokenKind, sign string) token {
	m := pairKey.FindStringSubmatch(text)
	if m == nil {
		return token{}
	}
	rest, ok := strings.CutPrefix(text[len(m[1])+len(m[2]):], sign)
	if !ok {
		return token{}
	}
	stored := bareText.FindString(rest)
	if stored == "" {
		stored = quoted(rest)
	}
	if stored == "" {
		return token{}
	}
	return token{kind: kind, text: m[1] + m[2] + sign + stored, key: m[1] + m[2], value: unquoted(stored)}
}

// quoted returns the longest quoted string at the beginning of text. Quotes inside it are escaped with a backslash.
func quoted(text string) string {
	if text == "" || text[0] != '\'' && text[0] != '"' {
		return ""
	}
	end := 0
	for i := 1; i < len(text); i++ {
		if text[i] == text[0] {
			end = i + 1
			if text[i-1] != '\\' {
				break
			}
		}
	}
	return text[:end]
}

func unquoted(text string) string {
	if quote := text[:1]; len(text) > 1 && (quote == `'` || quote == `"`) && strings.HasSuffix(text, quote) && !strings.Contains(text, "\n") {
		return strings.ReplaceAll(text[1:len(text)-1], `\`+quote, quote)
	}
	return text
}

var gitVersion = regexp.MustCompile(`^@(?:git\.[a-zA-Z_0-9][a-zA-Z_0-9./\-]*|[A-Fa-f0-9]{40})`)

// versionToken returns the @ and the list of versions at the beginning of text, or an empty string.
func versionToken(text string) string {
	if text == "" || text[0] != '@' {
		return ""
	}
	if git := gitVersion.FindString(text); git != "" {
		if rest, ok := strings.CutPrefix(text[len(git):], "="); ok {
			if n := oneVersion(rest, false); n > 0 {
				return text[:len(git)+1+n]
			}
		}
		return git
	}
	at := 1 + spaces(text[1:])
	n := versionOrRange(text[at:])
	if n == 0 {
		return ""
	}
	for at += n; ; at += n {
		comma := at + spaces(text[at:])
		if !strings.HasPrefix(text[comma:], ",") {
			return text[:at]
		}
		comma += 1 + spaces(text[comma+1:])
		if n = versionOrRange(text[comma:]); n == 0 {
			return text[:at]
		}
		at = comma
	}
}

func spaces(text string) int { return len(text) - len(strings.TrimLeftFunc(text, unicode.IsSpace)) }

// versionOrRange returns the length of the version or range at the beginning of text.
func versionOrRange(text string) int {
	from := oneVersion(text, false)
	if !strings.HasPrefix(text[from:], ":") {
		return from
	}
	return from + 1 + oneVersion(text[from+1:], true)
}

// oneVersion returns the length of the version at the beginning of text. The upper end of a range must not be the
// name of an attribute: @1.2:target=zen4.
func oneVersion(text string, upper bool) int {
	begin := 0
	if strings.HasPrefix(text, "=") {
		begin = 1
	}
	end := begin
	for end < len(text) && (isWord(text[end]) || end > begin && (text[end] == '-' || text[end] == '.')) {
		end++
	}
	for ; end > begin; end-- {
		boundary := isWord(text[end-1]) != (end < len(text) && isWord(text[end]))
		if boundary && !(upper && strings.HasPrefix(text[end+spaces(text[end:]):], "=")) {
			return end
		}
	}
	return 0
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// A SyntaxError reports an invalid part of a query and its position.
type SyntaxError struct {
	Query  string
	At     int // offset in bytes
	Reason string
}

func (e *SyntaxError) Error() string {
	rest := e.Query[min(e.At, len(e.Query)):]
	if rest == "" {
		return fmt.Sprintf("query %q: %s at its end", e.Query, e.Reason)
	}
	return fmt.Sprintf("query %q: %s at %q", e.Query, e.Reason, rest)
}
