package publishtest

import (
	"maps"
	"slices"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
)

func MustHeal(t testing.TB, s mirror.Store, touched ...string) []reindex.Healed {
	t.Helper()
	got, err := reindex.Heal(t.Context(), s, buildcache.Trust{}, reindex.Changes{Names: touched})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func NamesOf(s map[string][]byte) []string { return slices.Sorted(maps.Keys(s)) }

// Key is the one document of a key.
func (s Subject) Key(l string) string {
	s.T.Helper()
	for _, name := range NamesOf(s.Snapshot()) {
		_, v3 := layout.ParseV3Key(name)
		_, v2 := layout.ParseV2Key(name)
		if l == "v3" && v3 || l == "v2" && v2 {
			return name
		}
	}
	s.T.Fatal("no key")
	return ""
}
