package checksum

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// The largest content that waits is the next, and a caller that gives up uses up no turn.
func TestTheLargestIsTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := turns{free: 1}
		if err := turns.take(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		gone, giveUp := context.WithCancel(t.Context())
		came := make(chan int64, 4)
		wait := func(ctx context.Context, size int64) {
			if err := turns.take(ctx, size); errors.Is(err, context.Canceled) {
				size = -size
			} else {
				defer turns.giveBack()
			}
			came <- size
		}
		for size, ctx := range map[int64]context.Context{2: t.Context(), 9: gone, 5: t.Context(), 7: t.Context()} {
			go wait(ctx, size)
		}
		synctest.Wait()
		giveUp()
		synctest.Wait()
		turns.giveBack()
		var order []int64
		for range cap(came) {
			order = append(order, <-came)
		}
		synctest.Wait()
		if want := []int64{-9, 7, 5, 2}; !slices.Equal(order, want) || turns.free != 1 {
			t.Errorf("their turns came in the order %v, and %d are free, want %v and 1", order, turns.free, want)
		}
	})
}
