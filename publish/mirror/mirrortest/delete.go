package mirrortest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// deleteMany deletes in batches, as a prune does: each object on the condition of its listed version.
func deleteMany(t *testing.T, m Store) {
	const n = 120
	for i := range n {
		mustCreate(t, m, text(fmt.Sprintf("many/%03d +&<é>", i), fmt.Sprint(i)))
	}
	mustCreate(t, m, text("many-other", "stays"))
	var listed []mirror.Info
	for info, err := range m.List(t.Context(), mirror.Range{Prefix: "many/"}) {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, info)
	}
	if len(listed) != n {
		t.Fatalf("%d objects, want %d", len(listed), n)
	}
	replaced := listed[7].Name
	is := mustSwap(t, m, text(replaced, "another"), listed[7].Version)
	if err := m.Delete(t.Context(), listed[8].Name, listed[8].Version); err != nil { // deleting an absent object succeeds
		t.Fatal(err)
	}
	if lacks(m, DeleteManyIfSeen) {
		listed = slices.Delete(listed, 7, 8)
	}
	changed, err := mirror.DeleteAll(t.Context(), m, listed)
	if err != nil {
		t.Fatal(err)
	}
	left := []string{"many-other"}
	if !lacks(m, DeleteManyIfSeen) {
		if !slices.Equal(changed, []string{replaced}) {
			t.Errorf("changed: %q, want %q", changed, replaced)
		}
		wantVersion(t, m, replaced, "another", is)
	}
	left = append(left, replaced)
	for info, err := range m.List(t.Context(), mirror.Range{Prefix: "many"}) {
		if err != nil || !slices.Contains(left, info.Name) {
			t.Errorf("%s is there, %v", info.Name, err)
		}
	}
	wantContent(t, m, "many-other", []byte("stays"))
}
