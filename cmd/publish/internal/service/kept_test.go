package service

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
)

// What an indexer keeps out of an index is named with the reason, and many packages do not fill the log.
func TestWhatIsKeptOutIsNamed(t *testing.T) {
	var out strings.Builder
	h := reindex.Healed{Layout: "v3"}
	for i := range 12 {
		h.Kept = append(h.Kept, buildcache.Warning.In(fmt.Sprint("v3/manifests/spec/munge/munge-", i), "it was withdrawn on 2026-11-29: CVE-2026-1"))
	}
	printer(false, &out)(healedMirror{Mirror: "noble", Indices: []reindex.Healed{h}})
	if text := out.String(); !strings.Contains(text, "noble: v3/manifests/spec/munge/munge-0 is left out of the index: it was withdrawn on 2026-11-29: CVE-2026-1\n") ||
		strings.Contains(text, "munge-10") || !strings.Contains(text, "2 packages are more kept out") && !strings.Contains(text, "2 packages more are left out") {
		t.Error(text)
	}
}
