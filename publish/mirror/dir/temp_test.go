package dir_test

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
)

// TestTempPaths: the path of what is being written tells what it is to become, whatever
// the name, and file systems take it.
func TestTempPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		element := rapid.StringMatching(`[a%2F.ü日 ~-]{1,120}`)
		full := strings.Join(rapid.SliceOfN(element, 1, 6).Draw(t, "name"), "/")
		id := dir.NewID()
		p := dir.TempPath(full, id)
		for e := range strings.SplitSeq(p, "/") {
			if len(e) > 255 || e == "." || e == ".." || !utf8.ValidString(e) {
				t.Fatalf("%q has the element %q", p, e)
			}
		}
		if path.Clean(p) != p {
			t.Fatalf("%q is not clean", p)
		}
		gotFull, gotID, err := dir.ParseTempPath(p)
		if err != nil || gotFull != full || gotID != id {
			t.Fatalf("%q became %q, %q, %v", full, gotFull, gotID, err)
		}
	})
}
