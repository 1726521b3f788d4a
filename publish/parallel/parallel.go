// Package parallel runs one function for many items. It starts no more goroutines than the limit on open
// files allows, waits for all of them and returns the first error.
package parallel

import (
	"context"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/nofile"
)

// Readers is the number of small objects that are read at once. Their cost is the latency of requests, not
// their bytes.
const Readers = 64

// openEach is how many files one item may have open: a file that is read, and a file that is written, with
// its directory.
const openEach = 4

// Each calls do for every item, at most limit at once, and fewer if few files may be open. After the first
// error it starts no more calls. It returns that error when the running calls have returned.
func Each[T any](ctx context.Context, limit int, items []T, do func(context.Context, T) error) error {
	return each(ctx, nofile.AtOnce(limit, openEach), items, do)
}

// EachReading is Each for calls that open one file each. If few files may be open, it runs more of them at
// once than Each.
func EachReading[T any](ctx context.Context, limit int, items []T, do func(context.Context, T) error) error {
	return each(ctx, nofile.AtOnce(limit, 1), items, do)
}

// Beside calls do for every item of several lists, like Each. Each list is processed in its order. All lists
// run concurrently and share the limit.
func Beside[T any](ctx context.Context, limit int, do func(context.Context, T) error, lists ...[]T) error {
	lists = slices.DeleteFunc(lists, func(l []T) bool { return len(l) == 0 })
	limit = nofile.AtOnce(limit, openEach) / max(len(lists), 1)
	g, gctx := defect.WithContext(ctx)
	for _, items := range lists {
		g.Go(func() error { return each(gctx, max(limit, 1), items, do) })
	}
	return g.Wait()
}

func each[T any](ctx context.Context, limit int, items []T, do func(context.Context, T) error) error {
	g, gctx := defect.WithContext(ctx)
	g.SetLimit(limit)
	for _, item := range items {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return do(gctx, item) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err() // if ctx ended, not all items were done
}

// Positions returns the positions of items, for calls of Each whose results keep the order.
func Positions[T any](items []T) []int {
	all := make([]int, len(items))
	for i := range all {
		all[i] = i
	}
	return all
}
