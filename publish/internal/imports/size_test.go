package imports

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// How many lines a file and a package may have, outside tests. What is larger is two things: find the seam.
const (
	maxFileLines    = 500
	maxPackageLines = 2500
)

// larger are the packages that have more, and may not grow: each stack of CDK is one package.
var larger = map[string]int{"infra": 3250, "infra/cmd/infra": 3110}

// No file and no package is too large to be read as a whole.
func TestFilesAndPackagesAreSmall(t *testing.T) {
	files, err := lineCounts(filepath.FromSlash("../../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 300 {
		t.Errorf("found %d files", len(files))
	}
	for _, wrong := range tooLarge(files) {
		t.Error(wrong)
	}
}

func TestWhatIsTooLargeIsFound(t *testing.T) {
	got := tooLarge(map[string]int{"a/x.go": maxFileLines, "b/x.go": maxFileLines + 1, "c/1.go": 500, "c/2.go": 500, "c/3.go": 500, "c/4.go": 500, "c/5.go": 500, "c/6.go": 1})
	if len(got) != 2 {
		t.Errorf("got %q", got)
	}
}

// tooLarge says which files and packages are.
func tooLarge(files map[string]int) (wrong []string) {
	packages := make(map[string]int)
	for name, lines := range files {
		packages[filepath.Dir(name)] += lines
		if lines > maxFileLines {
			wrong = append(wrong, fmt.Sprintf("%s has %d lines, and may have %d", name, lines, maxFileLines))
		}
	}
	for name, lines := range packages {
		if most := cmp.Or(larger[name], maxPackageLines); lines > most {
			wrong = append(wrong, fmt.Sprintf("package %s has %d lines, and may have %d", name, lines, most))
		}
	}
	return wrong
}

// lineCounts counts the lines of the Go files below a directory, by their names in it, without those of tests and what
// tools have made.
func lineCounts(root string) (map[string]int, error) {
	files := make(map[string]int)
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && name != root && (strings.HasPrefix(e.Name(), ".") || slices.Contains([]string{"bin", "testdata", "node_modules", "cdk.out", "test"}, e.Name())):
			return filepath.SkipDir
		case e.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(name)
		short, _ := filepath.Rel(root, name)
		files[short] = bytes.Count(text, []byte("\n"))
		return err
	})
	return files, err
}
