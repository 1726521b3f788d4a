package shell_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/shell"
)

var words = []string{
	"", "zlib", "https://cache.example.org/noble/spack", "s3://b/a+b%20c", "-rf", "--unsigned", "a b", "a'b", "''", "$(touch x)", "`touch x`", "a;b", "a&b", "a|b",
	">x", "*", "~", "~root", "a=b", "#x", "!!", "a\nb", "a\\", "$HOME", `"`, "{a,b}", "[a]", "ü", "a\tb", "=x", "%1",
}

func TestASuggestedCommandRunsNothingElse(t *testing.T) {
	for _, word := range words {
		got, err := exec.Command("sh", "-c", "printf '%s.' "+shell.Quote(word)).Output()
		if err != nil || string(got) != word+"." {
			t.Errorf("%q is written %s and read %q, %v", word, shell.Quote(word), got, err)
		}
	}
}

// What needs no quotes has none, so that what is suggested is easy to read.
func TestPlainWordsStay(t *testing.T) {
	for _, word := range []string{"zlib", "https://cache.example.org/noble/spack", "s3://b/a_b", "us-east-1", "/srv/x", "arn:aws:iam::123456789012:role/publisher"} {
		if got := shell.Quote(word); got != word {
			t.Errorf("%q is written %s", word, got)
		}
	}
}

func FuzzQuote(f *testing.F) {
	for _, word := range words {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		quoted := shell.Quote(word)
		inner, isQuoted := strings.CutPrefix(quoted, "'")
		if !isQuoted {
			if quoted != word || strings.ContainsAny(word, " \t\n'\"\\$`;&|<>()*?[]{}~#!") {
				t.Errorf("%q is written %s", word, quoted)
			}
			return
		}
		inner, ended := strings.CutSuffix(inner, "'")
		if parts := strings.Split(inner, `'\''`); !ended || strings.Join(parts, "'") != word || strings.Contains(strings.Join(parts, ""), "'") {
			t.Errorf("%q is written %s", word, quoted)
		}
	})
}
