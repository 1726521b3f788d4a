package notice

import (
	"context"
	"fmt"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// ErrLate: too much time has passed since a writer saw no notice, and a pruner may have begun to delete what it relies on. It is a
// mirror.ErrConflict: the writer reads the mirror again.
var ErrLate = fmt.Errorf("more than %v after it was seen that no prune is at work: %w", Fresh, mirror.ErrConflict)

// Timely returns a store whose objects can be replaced for as long as a writer may rely on having seen no notice at a time. Later that
// is ErrLate. The zero time is for a writer that does not rely on it.
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

// Since returns how long ago a time was, also if the host was suspended since: then only the clock on the wall has gone on.
func Since(t time.Time) time.Duration {
	return max(time.Since(t), time.Now().Round(0).Sub(t.Round(0)))
}
