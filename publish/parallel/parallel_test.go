package parallel_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
)

// Each stays below its limit, stops at the first error, and reports an end of the context as one.
func TestEach(t *testing.T) {
	items := make([]int, 100)
	var running, most, calls atomic.Int32
	count := func(context.Context, int) error {
		calls.Add(1)
		n := running.Add(1)
		defer running.Add(-1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		return nil
	}
	if err := parallel.Each(t.Context(), 3, items, count); err != nil || calls.Load() != 100 || most.Load() > 3 {
		t.Errorf("%d calls, %d at once: %v", calls.Load(), most.Load(), err)
	}

	calls.Store(0)
	broken := errors.New("broken")
	err := parallel.Each(t.Context(), 1, items, func(context.Context, int) error { calls.Add(1); return broken })
	if !errors.Is(err, broken) || calls.Load() > 2 {
		t.Errorf("%d calls after the first error: %v", calls.Load(), err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := parallel.Each(ctx, 1, items, count); !errors.Is(err, context.Canceled) {
		t.Errorf("with a canceled context: %v", err)
	}
}

func TestPositions(t *testing.T) {
	for i, at := range parallel.Positions(make([]string, 5)) {
		if at != i {
			t.Errorf("position %d is %d", i, at)
		}
	}
}
