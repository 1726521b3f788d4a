package escape_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

var hostile = []string{
	"", "zlib", "a b", "\x1b]0;PWNED\a\x1b[2J", "a\n::error::x", "a\r::error::x", "::error::x", "  ::set-output name=a::b", "\u200d::error::x", ":\u00ad:error::x",
	"##[error]x", "#\u200d#[error]x", "##\u00ad[x", "\u202egnp.exe", "a\u2028b", "a\u0085b\u009b31m", "\x9b31m", "\xff\xfe", "\xef", "\xef\xbf", "\ufffd", "\t::x", "a\tb",
	"\x7f", "\x00", "\U000e0001tag", "päckage", "日本", "100%", `\n`, "a\n\nb\n", ":", "[", "##", "#\n#[x",
}

// shown fails the test if text would do more than show what it is.
func shown(t *testing.T, of, text string) {
	t.Helper()
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && c != '\t' && !unicode.IsPrint(c) }) {
		t.Errorf("%q is shown as %q", of, text)
	}
}

// commands are what the runner of a workflow looks for; what is not ASCII it may not see.
var command = regexp.MustCompile(`(?m)^[ \t]*::|##\[`)

func noCommand(t *testing.T, of, text string) {
	t.Helper()
	visible := strings.Map(func(c rune) rune {
		if c >= utf8.RuneSelf {
			return -1
		}
		return c
	}, text)
	if command.MatchString(text) || command.MatchString(visible) {
		t.Errorf("%q is shown as %q, which a runner takes for a command", of, text)
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := escape.Line(s)
		shown(t, s, got)
		if strings.ContainsAny(got, "\n\t") {
			t.Errorf("%q becomes %q", s, got)
		}
		if again := escape.Line(got); again != got {
			t.Errorf("%q becomes %q and then %q", s, got, again)
		}
		noCommand(t, s, escape.Inert(s))
	})
}

// However the text is cut into pieces, what arrives is the same, and harmless.
func FuzzWriter(f *testing.F) {
	for i, s := range hostile {
		f.Add(s, uint8(i))
	}
	f.Fuzz(func(t *testing.T, s string, at uint8) {
		var whole, pieces bytes.Buffer
		escape.NewWriter(&whole).Write([]byte(s + "."))
		w := escape.NewWriter(&pieces)
		cut := int(at) % (len(s) + 1)
		for _, piece := range []string{s[:cut], s[cut:], "."} {
			if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}
		if whole.String() != pieces.String() {
			t.Errorf("%q in pieces is %q, at once %q", s, &pieces, &whole)
		}
		shown(t, s, whole.String())
		noCommand(t, s, whole.String())
		if strings.Count(whole.String(), "\n") != strings.Count(s, "\n") {
			t.Errorf("%q becomes %q", s, &whole)
		}
	})
}

// A document stays the document that it is.
func FuzzJSON(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, indent := range []string{"", "  "} {
			var plain, through bytes.Buffer
			for _, out := range []struct {
				enc *json.Encoder
			}{{json.NewEncoder(&plain)}, {json.NewEncoder(escape.NewWriter(&through))}} {
				out.enc.SetIndent("", indent)
				out.enc.SetEscapeHTML(false)
				if err := out.enc.Encode(map[string]any{"a" + s: []string{s, "::" + s}}); err != nil {
					t.Fatal(err)
				}
			}
			var want, got any
			if err := errors.Join(json.Unmarshal(plain.Bytes(), &want), json.Unmarshal(through.Bytes(), &got)); err != nil || fmt.Sprint(want) != fmt.Sprint(got) {
				t.Errorf("%q: %v, %v: %s", s, err, got, &through)
			}
			shown(t, s, through.String())
		}
	})
}

// A value cannot begin a line, whatever it is formatted as, and the format stays what it is.
func TestValuesStayInTheirLine(t *testing.T) {
	type named string
	for _, row := range []struct{ got, want string }{
		{escape.Sprintf("%s\t%-5s|\n", "a\nb", "c"), "a\\nb\tc    |\n"},
		{escape.Sprintf("%q", "a\nb"), `"a\nb"`},
		{escape.Sprintf("%.3s %v %d %5.1f %%", named("ab\ncd"), []string{"x\ny"}, 7, 1.25), `ab\n [x\ny] 7   1.2 %`},
		{escape.Sprintf("%v", errors.Join(errors.New("a"), errors.New("b\x1b"))), "a\n  b\\x1b"},
		{escape.Sprintf("%s", fmt.Errorf("x: %w", errors.New("one:\n  two\nhint: three"))), "x: one:\n  two\n  hint: three"},
	} {
		if row.got != row.want {
			t.Errorf("%q, want %q", row.got, row.want)
		}
	}
}

func TestWhatIsLegibleStays(t *testing.T) {
	const text = "päckage@1.0/abcdefg: 日本 \"quoted\" C:\\x\n  a: b\n\tc :: d\n"
	var out bytes.Buffer
	escape.NewWriter(&out).Write([]byte(text))
	if out.String() != text || escape.Text(text) != text {
		t.Errorf("%q becomes %q", text, &out)
	}
}
