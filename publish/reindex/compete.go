package reindex

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// ErrUnresolved: other publishers kept changing the index for as long as we tried.
var ErrUnresolved = errors.New("other publishers keep changing it")

// A publisher that loses a race for a pointer waits for a random time and merges again. Each race
// has a winner, so n publishers need at most n rounds. The bound is far above that; it
// is there for a store that always refuses.
const (
	maxRounds = 200
	minPause  = 20 * time.Millisecond
	maxPause  = 2 * time.Second
)

// compete calls attempt until it does not fail with mirror.ErrConflict.
func compete(ctx context.Context, attempt func() error) error {
	most := minPause
	for range maxRounds {
		err := attempt()
		if !errors.Is(err, mirror.ErrConflict) {
			return err
		}
		if err := pause(ctx, rand.N(most)); err != nil {
			return err
		}
		most = min(2*most, maxPause)
	}
	return fmt.Errorf("%w: %d attempts", ErrUnresolved, maxRounds)
}
