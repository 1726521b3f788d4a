package reindex_test

import (
	"encoding/json"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
)

// stale is a cache that still has an earlier state of a mirror.
func stale(t testing.TB, s map[string][]byte) *mirrortest.Mem {
	t.Helper()
	m := mirrortest.NewMem(t)
	for name, content := range s {
		m.Plant(name, content)
	}
	return m
}

// Clients are told of what was published when they read the new index, or a newer one, but
// not when they read an older one.
func TestVisible(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("munge"))
		older := stale(t, m.Snapshot())
		p := publishtest.MustPlan(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
		out, err := p.Apply(t.Context(), publishtest.Ignored{})
		publishtest.Must(t, err)
		same := stale(t, m.Snapshot())
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("hwloc"))
		newer := stale(t, m.Snapshot())
		for _, row := range []struct {
			name string
			seen *mirrortest.Mem
			want string
		}{{"older", older, "the index is an older one"}, {"the same", same, ""}, {"newer", newer, ""}, {"none", publishtest.EmptyMirror(t), "there is no index"}} {
			got, err := out.Mirrors[0].Expectation().Unmet(t.Context(), row.seen)
			if err != nil || got != row.want {
				t.Errorf("%s, a client reads %s: %q, %v", l, row.name, got, err)
			}
			if again, err := written(t, out.Mirrors[0].Expectation()).Unmet(t.Context(), row.seen); again != got || err != nil {
				t.Errorf("%s, written down and read again, a client reads %s: %q, %v", l, row.name, again, err)
			}
		}
		gone := stale(t, m.Snapshot())
		gone.Uproot(publishtest.PointerOf(l))
		denied := mirrortest.Break(gone, mirrortest.Fail("", mirrortest.Refusals[1]))
		if _, err := out.Mirrors[0].Expectation().Unmet(t.Context(), denied); err == nil {
			t.Errorf("%s: no error where nothing can be read", l)
		}
	}
}

// written is a Shown that was written down and read again.
func written(t *testing.T, s reindex.Expectation) reindex.Expectation {
	t.Helper()
	text, err := json.Marshal(s)
	publishtest.Must(t, err)
	var again reindex.Expectation
	publishtest.Must(t, json.Unmarshal(text, &again))
	return again
}

// What was lost to another publisher who indexed our package, too, is visible all the same.
func TestVisibleAfterALostRace(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.EmptyMirror(t)
		p := publishtest.MustPlan(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib", "munge"))
		out, err := p.Apply(t.Context(), publishtest.Ignored{})
		publishtest.Must(t, err)
		if got, err := out.Mirrors[0].Expectation().Unmet(t.Context(), m); err != nil || got != "" {
			t.Errorf("%s: %q, %v", l, got, err)
		}
	}
}

// What clients are to see of many runs is one thing for each index: the newest of it, and the packages of all.
func TestShownOfManyRunsIsMerged(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	var all []reindex.Expectation
	var before *mirrortest.Mem
	for _, pkg := range []string{"zlib", "hwloc", "zlib"} {
		before = stale(t, m.Snapshot())
		p := publishtest.MustPlan(t, m, publishtest.Original("v3-unsigned"), publishtest.Only(pkg))
		out, err := p.Apply(t.Context(), publishtest.Ignored{})
		publishtest.Must(t, err)
		all = append(all, out.Mirrors[0].Expectation())
	}
	other := all[0]
	other.Path = "elsewhere"
	merged := reindex.MergeExpectations(append(all[:2:2], other, all[2]))
	if len(merged) != 2 || merged[0].Path != "" || merged[1].Path != "elsewhere" {
		t.Fatalf("%+v", merged)
	}
	if why, err := merged[0].Unmet(t.Context(), m); err != nil || why != "" {
		t.Errorf("the newest index: %q, %v", why, err)
	}
	one := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, one, publishtest.Original("v3-unsigned"), publishtest.Only("zlib"))
	if why, err := merged[0].Unmet(t.Context(), one); err != nil || why == "" {
		t.Errorf("an index with one of the packages: %q, %v", why, err)
	}
	if why, err := all[0].Unmet(t.Context(), before); err != nil || why != "" {
		t.Errorf("merging changed what it was made of: %q, %v", why, err)
	}
}
