package prune

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
)

// batches deletes many objects in one request, which takes a while.
type batches struct {
	*mirrortest.Mem
	requests, most int
}

func (b *batches) DeleteAll(ctx context.Context, objects []mirror.Info) ([]string, error) {
	time.Sleep(latency)
	b.requests++
	b.most = max(b.most, len(objects))
	var changed []string
	for _, o := range objects {
		if o.Version == otherVersion {
			changed = append(changed, o.Name)
			continue
		}
		if err := b.Mem.Delete(ctx, o.Name, o.Version); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// 100,000 objects are deleted in 60 s where a request takes 40 ms, at most 1,000 in each. The grace period comes on top.
func TestAHundredThousandObjectsAreDeleted(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		for i := range n {
			plantOrphan(m, fmt.Sprint("orphan ", i))
		}
		time.Sleep(30 * day)
		p := mustPlan(t, m, careful(Keep{}))
		b := &batches{Mem: m}
		began := time.Now()
		out, err := p.Apply(t.Context(), m, b, silent{})
		if err != nil || out.Deleted.Objects < n {
			t.Fatalf("%+v, %v", out, err)
		}
		took := time.Since(began) - 15*time.Minute
		t.Logf("%d objects in %s and %d requests that delete, of at most %d objects", out.Deleted.Objects, took, b.requests, b.most)
		if took > time.Minute || b.most > mirror.MaxBatch || b.requests > n/mirror.MaxBatch+3 {
			t.Errorf("%d requests that delete, of at most %d objects, in %s", b.requests, b.most, took)
		}
	})
}
