package publish_test

import (
	"encoding/json"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
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
		m := emptyMirror(t)
		mustPublish(t, m, original(l+"-signed"), only("munge"))
		older := stale(t, m.Snapshot())
		p := mustPlan(t, m, original(l+"-signed"), only("zlib"))
		out, err := p.Apply(t.Context(), ignored{})
		must(t, err)
		same := stale(t, m.Snapshot())
		mustPublish(t, m, original(l+"-signed"), only("hwloc"))
		newer := stale(t, m.Snapshot())
		for _, row := range []struct {
			name string
			seen *mirrortest.Mem
			want string
		}{{"older", older, "the index is an older one"}, {"the same", same, ""}, {"newer", newer, ""}, {"none", emptyMirror(t), "there is no index"}} {
			got, err := out.Mirrors[0].Expectation().Unmet(t.Context(), row.seen)
			if err != nil || got != row.want {
				t.Errorf("%s, a client reads %s: %q, %v", l, row.name, got, err)
			}
			if again, err := written(t, out.Mirrors[0].Expectation()).Unmet(t.Context(), row.seen); again != got || err != nil {
				t.Errorf("%s, written down and read again, a client reads %s: %q, %v", l, row.name, again, err)
			}
		}
		gone := stale(t, m.Snapshot())
		gone.Uproot(pointerOf(l))
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
	must(t, err)
	var again reindex.Expectation
	must(t, json.Unmarshal(text, &again))
	return again
}

// What was lost to another publisher who indexed our package, too, is visible all the same.
func TestVisibleAfterALostRace(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := emptyMirror(t)
		p := mustPlan(t, m, original(l+"-signed"), only("zlib"))
		mustPublish(t, m, original(l+"-signed"), only("zlib", "munge"))
		out, err := p.Apply(t.Context(), ignored{})
		must(t, err)
		if got, err := out.Mirrors[0].Expectation().Unmet(t.Context(), m); err != nil || got != "" {
			t.Errorf("%s: %q, %v", l, got, err)
		}
	}
}

// Leftovers of uploads are discarded where the mirror holds the object, and only those.
func TestSweepDiscardsOnlyWhatIsThere(t *testing.T) {
	m := emptyMirror(t)
	p := mustPlan(t, m, original("v3-unsigned"), publish.Options{})
	out, err := p.Apply(t.Context(), ignored{})
	must(t, err)
	m.Forget()
	if err := out.Mirrors[0].Sweep(t.Context(), m); err != nil || len(m.Calls()) != 0 {
		t.Errorf("small blobs: %v, %v", err, m.Calls())
	}
	large := out.Mirrors[0].Packages[0].Blobs[0].Name
	out.Mirrors[0].Packages[0].Blobs[0].Size = 6 << 20
	const other = "blobs/sha256/00/0000000000000000000000000000000000000000000000000000000000000000"
	for _, name := range []string{large, other} {
		if err := m.Abandon(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Mirrors[0].Sweep(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	var left []string
	for l, err := range m.Leftovers(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, l.Name)
	}
	if len(left) != 1 || left[0] != other {
		t.Errorf("left: %q", left)
	}
	if err := out.Mirrors[0].Sweep(t.Context(), mirrortest.Break(m, mirrortest.Fail("", mirrortest.Refusals[1]))); err != nil {
		t.Errorf("who may not list uploads: %v", err)
	}
}

// What clients are to see of many runs is one thing for each index: the newest of it, and the packages of all.
func TestShownOfManyRunsIsMerged(t *testing.T) {
	m := emptyMirror(t)
	var all []reindex.Expectation
	var before *mirrortest.Mem
	for _, pkg := range []string{"zlib", "hwloc", "zlib"} {
		before = stale(t, m.Snapshot())
		p := mustPlan(t, m, original("v3-unsigned"), only(pkg))
		out, err := p.Apply(t.Context(), ignored{})
		must(t, err)
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
	one := emptyMirror(t)
	mustPublish(t, one, original("v3-unsigned"), only("zlib"))
	if why, err := merged[0].Unmet(t.Context(), one); err != nil || why == "" {
		t.Errorf("an index with one of the packages: %q, %v", why, err)
	}
	if why, err := all[0].Unmet(t.Context(), before); err != nil || why != "" {
		t.Errorf("merging changed what it was made of: %q, %v", why, err)
	}
}
