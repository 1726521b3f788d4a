package rollback_test

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/rollback"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// distant is a mirror each of whose answers takes 40 ms, and each page of 1,000 names as well.
type distant struct{ *mirrortest.Mem }

const latency = 40 * time.Millisecond

func (d distant) Open(ctx context.Context, name string) (*mirror.Object, error) {
	time.Sleep(latency)
	return d.Mem.Open(ctx, name)
}

func (d distant) Stat(ctx context.Context, name string) (mirror.Info, error) {
	time.Sleep(latency)
	return d.Mem.Stat(ctx, name)
}

func (d distant) Create(ctx context.Context, u mirror.Upload) error {
	time.Sleep(latency)
	return d.Mem.Create(ctx, u)
}

func (d distant) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	time.Sleep(latency)
	return d.Mem.Swap(ctx, u, was)
}

func (d distant) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		n := 0
		time.Sleep(latency)
		d.Mem.List(ctx, r)(func(i mirror.Info, err error) bool {
			if n++; n%1000 == 0 {
				time.Sleep(latency)
			}
			return yield(i, err)
		})
	}
}

// large plants a mirror of so many packages, whose documents are only listed.
func large(t *testing.T, packages int) *mirrortest.Mem {
	t.Helper()
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("zlib", "gcc-runtime"))
	var specs []*spec.Spec
	for i := range packages {
		sum := sha256.Sum256(fmt.Append(nil, i))
		h := spec.Hash(strings.ToLower(base32.StdEncoding.EncodeToString(sum[:20])))
		name := fmt.Sprintf("%c%c-package-%d", 'a'+i%26, 'a'+i/26%26, i/4)
		text := fmt.Sprintf(`{"name":%q,"version":"1.%d","arch":{"platform":"linux","platform_os":"ubuntu24.04","target":"x86_64_v3"},"namespace":"builtin","parameters":{"build_system":"generic","cflags":[],"padding":%q},"package_hash":"x","annotations":{"original_specfile_version":5},"hash":%q}`, name, i%4, strings.Repeat("p", 500), h)
		n, err := spec.ParseNode([]byte(text), spec.Format5)
		publishtest.Must(t, err)
		n.Record = []byte(text)
		specs = append(specs, &spec.Spec{Format: spec.Format5, Nodes: []*spec.Node{n}})
		m.Plant(layout.V3Spec(n), []byte("{}"))
	}
	_, err := reindex.Edit(t.Context(), buildcache.V3, m, func(_ context.Context, _ *buildcache.Pointer, x *indices.Set) error {
		for _, s := range specs {
			x.Add(s)
		}
		return nil
	})
	publishtest.Must(t, err)
	return m
}

// A rollback of an index of 100,000 packages takes at most 0.6 s where each request takes 40 ms, without the time of processors and of sending
// the index itself.
func TestARollbackOfALargeIndexIsFast(t *testing.T) {
	packages := 100_000
	if testing.Short() {
		packages = 10_000
	}
	m := large(t, packages)
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publish.Options{Index: publish.IndexMerge})
	for _, to := range []int{2, 3} {
		synctest.Test(t, func(t *testing.T) {
			d := distant{m}
			began := time.Now()
			plan, err := rollback.NewPlan(t.Context(), rollback.Mirror{Layout: buildcache.V3, Store: d}, rollback.Target{Generation: to})
			publishtest.Must(t, err)
			planned := time.Since(began)
			r, err := plan.Apply(t.Context())
			publishtest.Must(t, err)
			if took := time.Since(began); !r.Written || took > 600*time.Millisecond {
				t.Errorf("to generation %d: %s, of which %s to plan: %+v", to, took, planned, r)
			} else {
				t.Logf("to generation %d: %s, of which %s to plan", to, took, planned)
			}
		})
	}
}
