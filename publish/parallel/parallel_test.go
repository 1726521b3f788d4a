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

// What waits in one list keeps nothing of another one from being done, and both share the limit.
func TestBeside(t *testing.T) {
	all, done := make(chan struct{}), atomic.Int32{}
	err := parallel.Beside(t.Context(), 4, func(_ context.Context, item int) error {
		if item > 0 {
			if done.Add(1) == 3 {
				close(all)
			}
			return nil
		}
		<-all
		return nil
	}, []int{0, 0, 0, 0, 0}, nil, []int{1, 2, 3})
	if err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	err = parallel.Beside(t.Context(), 1, func(ctx context.Context, item int) error {
		if item > 0 {
			return broken
		}
		<-ctx.Done()
		return ctx.Err()
	}, []int{0}, []int{1})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the first error", err)
	}
}

func TestPositions(t *testing.T) {
	for i, at := range parallel.Positions(make([]string, 5)) {
		if at != i {
			t.Errorf("position %d is %d", i, at)
		}
	}
}
