package publish_test

import (
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
)

// Leftovers of uploads are discarded where the mirror holds the object, and only those.
func TestSweepDiscardsOnlyWhatIsThere(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	p := publishtest.MustPlan(t, m, publishtest.Original("v3-unsigned"), publish.Options{})
	out, err := p.Apply(t.Context(), publishtest.Ignored{})
	publishtest.Must(t, err)
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
