package imports

import (
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
	quotedCommand = regexp.MustCompile(`\b(publish (index|verify|catalog)|gpg|spack|aws) `)
)

// Packages do not know how a front end shows a setting: as a flag, as an input of a workflow or as a key of a file.
// They give its name (package field), so that no message has to be rewritten.
func TestNoMessageNamesAFlag(t *testing.T) {
	texts := 0
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if !strings.HasPrefix(name, "publish") || strings.HasSuffix(name, "test") || name == "publish/sign/gpg" { // whose flags are those of gpg
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
					if flagInText.MatchString(l.Value) && !quotedCommand.MatchString(l.Value) {
						t.Errorf("%s/%s:%d names a flag: %s", name, file, set.Position(l.Pos()).Line, l.Value)
					}
				}
				return true
			})
		}
	}
	if texts < 1000 {
		t.Errorf("found %d texts", texts)
	}
}
