package conflict_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// A lost race is run again, any other error is returned as it is, and nobody tries for ever.
func TestALostRaceIsRunAgain(t *testing.T) {
	other := errors.New("other")
	for _, row := range []struct {
		name     string
		err      error // of each attempt before the last one
		fails    int
		last     error
		want     error
		attempts int
	}{
		{"won at once", mirror.ErrConflict, 0, nil, nil, 1},
		{"won after three", fmt.Errorf("swap: %w", mirror.ErrConflict), 3, nil, nil, 4},
		{"lost, and then something else", mirror.ErrConflict, 2, other, other, 3},
		{"something else", other, 1, nil, other, 1},
		{"always lost", mirror.ErrConflict, 1 << 20, nil, conflict.ErrUnresolved, conflict.MaxRounds},
		{"always late", notice.ErrLate, 1 << 20, nil, notice.ErrLate, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			err := conflict.Retry(t.Context(), func() error {
				if n++; n <= row.fails {
					return row.err
				}
				return row.last
			})
			if !errors.Is(err, row.want) || n != row.attempts {
				t.Errorf("%s: %d attempts, %v", row.name, n, err)
			}
		})
	}
}
