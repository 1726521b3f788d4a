package publishtest

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
)

// Counting counts the names that a listing yields.
type Counting struct {
	mirror.Store
	Listed, Lists *atomic.Int64
}

// NewCounting returns a store that has counted nothing.
func NewCounting(s mirror.Store) Counting {
	return Counting{s, new(atomic.Int64), new(atomic.Int64)}
}

func (c Counting) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	c.Lists.Add(1)
	return func(yield func(mirror.Info, error) bool) {
		for info, err := range c.Store.List(ctx, r) {
			c.Listed.Add(1)
			if !yield(info, err) {
				return
			}
		}
	}
}

// PlantMany plants packages of which nobody reads the content, and an index that Spack made of
// them.
func PlantMany(t testing.TB, m *mirrortest.Mem, many int) {
	t.Helper()
	var x strings.Builder
	x.WriteString(`{"database":{"version":"8","installs":{`)
	for i := range many {
		digest := blob.DigestOf(fmt.Appendf(nil, "%d", i))
		m.Plant(layout.V3Blob(digest), []byte{'x'})
		hash := strings.Map(func(r rune) rune { return 'a' + (r-'0')%26 }, digest.String())[:32]
		m.Plant(fmt.Sprintf("%sp%d/p%d-1-%s.spec.manifest.json", layout.V3Specs, i%500, i%500, hash), []byte("x"))
		fmt.Fprintf(&x, `"%s":{"spec":{"name":"p%d","version":"1","hash":"%s","pad":"%s"},"ref_count":0,"in_buildcache":true},`, hash, i%500, hash, strings.Repeat("x", 1000))
	}
	PlantIndex(t, m, strings.TrimSuffix(x.String(), ",")+"}}}")
}

// PlantIndex plants an index as Spack writes it.
func PlantIndex(t testing.TB, m *mirrortest.Mem, text string) {
	t.Helper()
	digest := blob.DigestOf([]byte(text))
	m.Plant(layout.V3Blob(digest), []byte(text))
	pointer := manifest.Manifest{Records: []manifest.Record{{Size: int64(len(text)), MediaType: manifest.IndexType(index.V8), Compression: "none", Digest: digest}}}
	manifestText, err := pointer.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m.Plant(layout.V3Index, manifestText)
}
