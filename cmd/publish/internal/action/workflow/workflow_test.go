package workflow

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

type variables map[string]string

func (v variables) getenv(name string) string { return v[name] }

// inRunner returns a runner, its log, and the files that it reads.
func inRunner(t testing.TB, extra variables) (r *Runner, log *bytes.Buffer, output, summary string) {
	t.Helper()
	dir := t.TempDir()
	output, summary = filepath.Join(dir, "output"), filepath.Join(dir, "summary")
	env := variables{"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": summary}
	for name, v := range extra {
		env[name] = v
	}
	log = new(bytes.Buffer)
	return New(log, env.getenv), log, output, summary
}

// A command is what the runner takes out of a line of a log.
type command struct {
	name, data string
	properties map[string]string
}

// commandOf reads a line as the runner does (ActionCommand.cs): "::name k=v,k=v::data" at the
// beginning, after space, or "##[name k=v;k=v]data" anywhere.
func commandOf(line string) (command, bool) {
	if c, ok := newCommand(strings.TrimSpace(line)); ok {
		return c, true
	}
	_, rest, ok := strings.Cut(line, "##[")
	head, data, closed := strings.Cut(rest, "]")
	name, _, _ := strings.Cut(strings.TrimSpace(head), " ")
	return command{name: name, data: data}, ok && closed
}

func newCommand(line string) (command, bool) {
	rest, ok := strings.CutPrefix(line, "::")
	head, data, ended := strings.Cut(rest, "::")
	if !ok || !ended {
		return command{}, false
	}
	name, properties, _ := strings.Cut(head, " ")
	c := command{name: name, data: unescaped(data), properties: map[string]string{}}
	for _, p := range strings.Split(properties, ",") {
		key, value, _ := strings.Cut(p, "=")
		c.properties[key] = unescaped(strings.NewReplacer("%3A", ":", "%2C", ",").Replace(value))
	}
	return c, true
}

func unescaped(s string) string {
	return strings.NewReplacer("%0D", "\r", "%0A", "\n", "%25", "%").Replace(s)
}

// unseen are characters that a comparison by culture, as the runner makes it, passes over.
func unseen(line string) string {
	return strings.Map(func(c rune) rune {
		if c > unicode.MaxASCII {
			return -1
		}
		return c
	}, line)
}

func commandsIn(log string) []command {
	var all []command
	for _, line := range strings.FieldsFunc(log, func(c rune) bool { return c == '\n' || c == '\r' }) {
		for _, l := range []string{line, unseen(line)} {
			if c, ok := commandOf(l); ok {
				all = append(all, c)
				break
			}
		}
	}
	return all
}

// outputsIn reads a file of outputs as the runner does, and every one of them.
func outputsIn(t testing.TB, file string) [][2]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var all [][2]string
	rest := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	for len(rest) > 0 && rest[0] != "" {
		name, delimiter, ok := strings.Cut(rest[0], "<<")
		if value, end := "", false; !ok {
			if name, value, end = strings.Cut(rest[0], "="); !end {
				t.Fatalf("the runner would fail the step: invalid format %q", rest[0])
			}
			all, rest = append(all, [2]string{name, value}), rest[1:]
			continue
		}
		n := slices.Index(rest[1:], delimiter)
		if n < 0 {
			t.Fatalf("the runner would fail the step: no delimiter %q", delimiter)
		}
		all = append(all, [2]string{name, strings.Join(rest[1:1+n], "\n")})
		rest = rest[n+2:]
	}
	return all
}

var nasty = []string{
	"::add-mask::x", "  ::set-output name=a::b", "\u200d::error::x", ":\u00ad:error::x", "\ufeff::error::x", "a\n::error::x", "a\r::error::x", "a\u2028::error::x",
	"##[group]x", "x ##[add-mask]x", "#\u200d#[error]x", "##\u00ad[error]x", "%0A::error::x", "100%", "\x1b[31mred", "\xff\xfe::error::", "\u202egnp.exe",
	delimiter, "\n" + delimiter + "\nresult<<x", "a=b\nresult=evil", "|a|b|", "</details><script>", "`code`", "```\n# h\n```", "[a](http://b)", "![a](http://b)", "", ":", "::", "\t::x::y",
}

func TestNothingInALogIsACommand(t *testing.T) {
	for _, text := range nasty {
		notACommand(t, text)
	}
}

func notACommand(t testing.TB, text string) {
	t.Helper()
	r, log, _, _ := inRunner(t, nil)
	r.Say("%s", text)
	if c := commandsIn(log.String()); len(c) > 0 {
		t.Errorf("%q is the command %q: %q", text, c, log)
	}
	if strings.ContainsFunc(log.String(), func(c rune) bool { return c != '\n' && c != '\t' && !unicode.IsPrint(c) }) {
		t.Errorf("%q shows as %q", text, log)
	}
}

func FuzzSay(f *testing.F) {
	for _, text := range nasty {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { notACommand(t, text) })
}

// Whatever an annotation says, it is one command with one message and one title.
func FuzzAnnotations(f *testing.F) {
	for _, text := range nasty {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, title, message string) {
		r, log, _, _ := inRunner(t, nil)
		r.Error(title, message)
		r.Warning(title, message)
		r.Group("x" + title)
		r.Group("")
		got := commandsIn(log.String())
		var names []string
		for _, c := range got {
			names = append(names, c.name)
		}
		if !slices.Equal(names, []string{"error", "warning", "group", "endgroup"}) || strings.Count(log.String(), "\n") != 4 {
			t.Fatalf("%q, %q: commands %q in %q", title, message, names, log)
		}
		if want := escape.Inert(title); got[0].properties["title"] != want || len(got[0].properties) != 1 {
			t.Errorf("title is %q, want %q", got[0].properties, want)
		}
	})
}

// Whatever an output is set to, it is that output that is set, and to that or not at all.
func FuzzOutput(f *testing.F) {
	for _, text := range nasty {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r, _, output, _ := inRunner(t, nil)
		r.Output("first", value)
		r.Output("result", "published")
		got := outputsIn(t, output)
		if len(got) == 2 && got[0] == [2]string{"first", value} {
			got = got[1:]
		}
		if len(got) != 1 || got[0] != [2]string{"result", "published"} {
			t.Errorf("%q: outputs %q", value, got)
		}
	})
}

func TestOutputs(t *testing.T) {
	r, log, output, _ := inRunner(t, nil)
	for _, value := range nasty {
		r.Output("a", value)
	}
	r.Output("json", `[{"name":"zlib"}]`)
	got := outputsIn(t, output)
	if last := got[len(got)-1]; last != [2]string{"json", `[{"name":"zlib"}]`} {
		t.Errorf("outputs %q", got)
	}
	if !strings.Contains(log.String(), "output a is left out") {
		t.Errorf("nobody is told: %s", log)
	}
}

// brackets are what begins something in Markdown or HTML.
var structure = regexp.MustCompile("[][<>|`*_~#!&\\\\$@=+{}]")

func FuzzMarkdown(f *testing.F) {
	for _, text := range nasty {
		f.Add(text)
	}
	entity := regexp.MustCompile(`&#\d+;`)
	f.Fuzz(func(t *testing.T, text string) {
		if got := Text(text); structure.MatchString(entity.ReplaceAllString(got, "")) || strings.ContainsAny(got, "\n\r") || strings.Contains(entity.ReplaceAllString(got, ""), "://") {
			t.Errorf("%q becomes %q", text, got)
		}
		lines := strings.Split(Block("text", text), "\n")
		fence := strings.TrimSuffix(lines[0], "text")
		for i, line := range lines[1:] {
			if isEnd := i == len(lines)-3; strings.HasPrefix(strings.TrimSpace(line), fence) != isEnd {
				t.Errorf("%q becomes %q", text, lines)
			}
		}
	})
}

// A runner without the files of a runner, or with some that cannot be written, is no reason
// to crash: the publish is done.
func TestARunnerThatLacksEverything(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "no", "such")
	for _, env := range []variables{{}, {"GITHUB_OUTPUT": gone, "GITHUB_STEP_SUMMARY": gone}, {"GITHUB_OUTPUT": t.TempDir(), "GITHUB_STEP_SUMMARY": t.TempDir()}} {
		var log bytes.Buffer
		r := New(&log, env.getenv)
		r.Output("result", "published")
		r.Summary("# done")
		if said := strings.Contains(log.String(), "cannot write to $GITHUB_OUTPUT") && strings.Contains(log.String(), "cannot write to $GITHUB_STEP_SUMMARY"); said != (len(env) > 0) {
			t.Errorf("%v: log %q", env, &log)
		}
	}
	r := New(broken{}, variables{}.getenv)
	r.Say("x")
	r.Group("x")
	r.Error("x", "x")
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestSecrets(t *testing.T) {
	r, log, output, summary := inRunner(t, nil)
	r.Mask("")
	r.Mask("secret-token\nsecond-line\n")
	r.Mask("secret-token-longer")
	r.Mask("abc") // too short to be looked for
	want := "::add-mask::secret-token\n::add-mask::second-line\n::add-mask::secret-token-longer\n::add-mask::abc\n"
	if log.String() != want {
		t.Errorf("log %q, want %q", log, want)
	}
	log.Reset()
	r.Say("a secret-token-longer b second-line abc")
	r.Error("secret-token", "secret-token")
	r.Warning("secret-token", "secret-token")
	r.Output("o", "secret-token")
	r.Summary("secret-token")
	all := log.String() + r.Redact("secret-token")
	for _, file := range []string{output, summary} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all += string(text)
	}
	if strings.Contains(all, "secret") || strings.Contains(all, "longer") || strings.Contains(all, "second-line") || !strings.Contains(all, "a *** b *** abc") {
		t.Errorf("a secret is shown: %s", all)
	}
	log.Reset()
	out := New(log, variables{}.getenv)
	out.Mask("secret-token")
	if log.Len() > 0 {
		t.Errorf("shown outside of a runner: %s", log)
	}
}

func TestSummariesAreNotTooLong(t *testing.T) {
	r, _, _, summary := inRunner(t, nil)
	r.Summary(strings.Repeat("ü", 1<<20))
	info, err := os.Stat(summary)
	if err != nil || info.Size() > maxSummary+1 {
		t.Errorf("%v, %v", info.Size(), err)
	}
}
