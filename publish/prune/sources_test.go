package prune

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
)

// objectsOf is a mirror as an inventory has it.
func objectsOf(t *testing.T, m *mirrortest.Mem) iter.Seq2[mirror.Info, error] {
	var all []mirror.Info
	for info, err := range m.List(t.Context(), mirror.Range{}) {
		publishtest.Must(t, err)
		all = append(all, info)
	}
	return func(yield func(mirror.Info, error) bool) {
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// blobless is a mirror whose content is not listed.
type blobless struct {
	*mirrortest.Mem
	t *testing.T
}

func (b blobless) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	if strings.HasPrefix(r.Prefix, layout.V3Blobs) {
		b.t.Errorf("%s is listed", r.Prefix)
	}
	return b.Mem.List(ctx, r)
}

// With an inventory, the plan is that of a listing, and lists no content. What was published since the inventory was made stays, with
// the content at which only it points.
func TestAnInventoryTakesThePlaceOfAListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		orphan := plantOrphan(m, "orphan")
		// Content of a package that was not published yet when the inventory was made.
		b := mirrortest.Break(m, mirrortest.Fail("v3/manifests/spec/", mirrortest.ErrInjected))
		publishtest.PublishTo(t, b, publishtest.Original("v3-signed"), publishtest.Only("zlib"))
		time.Sleep(30 * day)
		inventory := objectsOf(t, m)
		publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publishtest.Only("zlib"))
		o := careful(Keep{Hashes: hashes("munge")})
		listed := mustPlan(t, m, o)
		o.Listing = inventory
		p := mustPlan(t, blobless{m, t}, o)
		if got, want := p.Layouts[0].Removed(), listed.Layouts[0].Removed(); !slices.Equal(got, want) || p.Layouts[0].Content.Objects < listed.Layouts[0].Content.Objects {
			t.Errorf("with an inventory %v go and %+v, with a listing %v and %+v", got, p.Layouts[0].Content, want, listed.Layouts[0].Content)
		}
		_, err := p.Apply(t.Context(), m, m, silent{})
		publishtest.Must(t, err)
		if _, ok := m.Snapshot()[orphan]; ok {
			t.Error("the orphan is still there")
		}
		if err := publishtest.NewReader().Look(m.Snapshot()); err != nil {
			t.Error(err)
		}
	})
}

// Packages that were fetched are kept, with what they depend on.
func TestUsedPackagesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		mustPrune(t, m, careful(Keep{Used: hashes("munge")}))
		in := publishtest.IndexOf(t, m.Snapshot(), "v3")
		if r := in[known["munge"]]; !r.InBuildcache {
			t.Error("munge is gone")
		}
		if r := in[known["zlib"]]; !r.InBuildcache {
			t.Error("zlib, which it needs, is gone")
		}
		if r := in[known["slurm"]]; r.InBuildcache {
			t.Error("slurm is still there")
		}
	})
}
