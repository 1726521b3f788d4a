package reindex_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
)

// Where there is no pointer, the history is read while the mirror is listed.
func TestTheHistoryIsReadBesideTheListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := &far{Store: mirrortest.NewMem(t), sent: new(atomic.Int64)}, time.Now()
		seen, err := buildcache.SurveyFor(t.Context(), buildcache.Layouts()[0], s, nil)
		if err != nil || !seen.Pointer.Recalled {
			t.Fatalf("%+v, %v", seen, err)
		}
		if took := time.Since(began); took != 2*trip {
			t.Errorf("took %v, want a trip for the pointer and one for all else: %v", took, 2*trip)
		}
	})
}

// slowProof is far storage that has to prove that it obeys conditions.
type slowProof struct {
	*far
	asked *atomic.Int64
}

func (slowProof) Proof(mirror.Version) string { return "if-none-match here" }

func (s slowProof) Prove(context.Context, mirror.Version, *mirror.Upload) error {
	s.asked.Add(1)
	time.Sleep(trip)
	return nil
}

// Conditions are proved while the index is on its way.
func TestConditionsAreProvedBesideTheIndex(t *testing.T) {
	took := func(with func(*far) mirror.Store) (took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			mem := mirrortest.NewMem(t)
			publishtest.MustPublish(t, mem, publishtest.Original("v3-unsigned"), publish.Options{Index: publish.IndexNone})
			began := time.Now()
			if _, err := reindex.RebuildIndex(t.Context(), buildcache.Layouts()[0], with(&far{Store: mem, sent: new(atomic.Int64)}), reindex.Rebuilding{}); err != nil {
				t.Fatal(err)
			}
			took = time.Since(began)
		})
		return took
	}
	asked := new(atomic.Int64)
	without := took(func(f *far) mirror.Store { return f })
	with := took(func(f *far) mirror.Store { return slowProof{f, asked} })
	if with != without || asked.Load() != 1 {
		t.Errorf("took %v with a proof and %v without, and %d were asked for", with, without, asked.Load())
	}
}
