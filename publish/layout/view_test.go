package layout_test

import (
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
)

// A view is found by Spack's clients under the name that was given, and is not taken for another one: each name that is
// refused here was seen to go wrong with Spack 1.2, or names an object that is something else.
func TestNamesOfViewsAreThoseThatClientsFind(t *testing.T) {
	for _, good := range []string{"site", "a/b/c", "UP_1.x-y", "index", "spec", "2026-11", "slurm/25.11", "x__verse", "a__v", strings.Repeat("x", 200)} {
		if err := layout.CheckView(good); err != nil {
			t.Errorf("%v", err)
		}
		if view, ok := layout.ParseV3View(layout.V3View(good)); view != good || !ok {
			t.Errorf("%s is read as %q", layout.V3View(good), view)
		}
	}
	for _, bad := range []string{
		"", "/", "/abs", "trail/", "a//b", "..", "../esc", "a/../b", "a..b", ".", "./a", ".hidden", "-dash", "_x", "with space", "a?b", "a#b", "a%2Fb", "a\\b",
		"x__v3", "a/x__v3", "x__v3/a", "a__v1__v2", "index.manifest.json", "a/b.manifest.json", "ä", "a\nb", "a\x00b", "a:b", "a,b", "a*", strings.Repeat("x", 201),
	} {
		if err := layout.CheckView(bad); err == nil || !strings.Contains(err.Error(), "name of a view") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if layout.V3View("") != layout.V3Index {
		t.Error("the index without a name is another one")
	}
}
