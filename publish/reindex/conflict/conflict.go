// Package conflict settles races for a document that several publishers replace: each race has a winner, and
// the others try again.
package conflict

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// ErrUnresolved means that other publishers changed the document on every attempt.
var ErrUnresolved = errors.New("other publishers keep changing it")

// MaxRounds is the maximum number of attempts. Each race has a winner, so n publishers need at most n rounds.
// The bound is far above that. It is for a store that always refuses.
const MaxRounds = 200

const (
	minPause = 20 * time.Millisecond
	maxPause = 2 * time.Second
	maxLate  = 3 // attempts that take too long: the next one would as well
)

// Retry calls attempt until it does not fail with mirror.ErrConflict. Between two attempts it waits for a
// random time.
func Retry(ctx context.Context, attempt func() error) error {
	most, late := minPause, 0
	for range MaxRounds {
		err := attempt()
		if errors.Is(err, notice.ErrLate) {
			late++
		}
		if !errors.Is(err, mirror.ErrConflict) || late == maxLate {
			return err
		}
		if err := Pause(ctx, rand.N(most)); err != nil {
			return err
		}
		most = min(2*most, maxPause)
	}
	return fmt.Errorf("%w: %d attempts", ErrUnresolved, MaxRounds)
}

// Pause waits for d, or until ctx ends, whose error it returns.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
