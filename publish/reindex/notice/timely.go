package notice

import (
	"context"
	"fmt"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// ErrLate means that too much time has passed since a writer saw no notice: a pruner may have begun to delete
// objects that it relies on. It is a mirror.ErrConflict, so the writer reads the mirror again.
var ErrLate = fmt.Errorf("more than %v after it was seen that no prune is at work: %w", Fresh, mirror.ErrConflict)

// Timely returns a store that replaces objects only as long as a writer may rely on having seen no notice at
// the time seen. Later, Swap returns ErrLate. A zero time sets no limit.
func Timely(s mirror.Store, seen time.Time) mirror.Store {
	if seen.IsZero() {
		return s
	}
	return timely{s, seen}
}

type timely struct {
	mirror.Store
	seen time.Time
}

func (t timely) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	if Since(t.seen) > Fresh {
		return "", ErrLate
	}
	return t.Store.Swap(ctx, u, was)
}

func (t timely) Unwrap() any { return t.Store }

// Since returns the time elapsed since t, including time in which the host was suspended, which only the wall
// clock counts.
func Since(t time.Time) time.Duration {
	return max(time.Since(t), time.Now().Round(0).Sub(t.Round(0)))
}
