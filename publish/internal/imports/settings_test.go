package imports

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A flag in a text, and the commands that may be quoted with theirs.
var (
	flagInText    = regexp.MustCompile(`(^|[^-\w])--[a-z]`)
	argument      = regexp.MustCompile(`^["\x60]--[a-z-]+["\x60]$`) // of a command that is run
	quotedCommand = regexp.MustCompile(`\b(publish (index|rollback|verify|catalog)|gpg|spack|aws) `)
)

// unclear are words for persons where a program, a user or a request is meant.
var unclear = regexp.MustCompile(`(?i)\b(whoever|somebody|anybody)\b`)

// What users read says which program, user or request is meant.
func TestMessagesNameWhatTheyMean(t *testing.T) {
	eachText(t, "", func(at, text string) {
		if unclear.MatchString(text) {
			t.Errorf("%s is unclear: %s", at, text)
		}
	})
}

// Packages do not know how a front end shows a setting: as a flag, as an input of a workflow or as a key of a file.
// They give its name (package field), so that no message has to be rewritten.
func TestNoMessageNamesAFlag(t *testing.T) {
	eachText(t, "publish", func(at, text string) {
		if flagInText.MatchString(text) && !argument.MatchString(text) && !quotedCommand.MatchString(text) {
			t.Errorf("%s names a flag: %s", at, text)
		}
	})
}

// eachText calls do for every string in the packages below a directory, those for tests aside.
func eachText(t *testing.T, below string, do func(at, text string)) {
	texts := 0
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if !strings.HasPrefix(name, below) || strings.HasSuffix(name, "test") {
			continue
		}
		for _, file := range p.GoFiles {
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					texts++
					do(fmt.Sprintf("%s/%s:%d", name, file, set.Position(l.Pos()).Line), l.Value)
				}
				return true
			})
		}
	}
	if texts < 1000 {
		t.Errorf("found %d texts", texts)
	}
}
