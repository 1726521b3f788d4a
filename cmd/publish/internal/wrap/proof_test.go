package wrap

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
)

// Whether a store can be written to is learnt without writing to it, whether or not a mirror is there.
func TestWritesAreProvedWithoutWriting(t *testing.T) {
	for _, m := range []*mirrortest.Mem{mirrortest.NewMem(t), publishtest.Planted(t, "v3-unsigned"), publishtest.Planted(t, "v2-unsigned")} {
		before := m.Snapshot()
		if err := ProveWrites(t.Context(), m); err != nil {
			t.Error(err)
		}
		denied := &mirror.DeniedError{Action: "s3:PutObject", Name: "it", Detail: "injected"}
		if err := ProveWrites(t.Context(), mirrortest.Break(m, mirrortest.On(mirrortest.Swap, mirrortest.Fail("", denied)))); !errors.Is(err, mirror.ErrDenied) {
			t.Errorf("without permission: %v", err)
		}
		if !maps.EqualFunc(before, m.Snapshot(), bytes.Equal) {
			t.Errorf("something was written: %v", m.Mutations())
		}
	}
	for _, want := range []error{nil, &mirror.ConditionError{Header: "If-Match"}} {
		s := &suspect{Mem: mirrortest.NewMem(t), err: want}
		if err := ProveWrites(t.Context(), s); !errors.Is(err, want) || s.proofs != 1 {
			t.Errorf("of a store that has to prove that it obeys conditions: %v, want %v; %d proofs", err, want, s.proofs)
		}
	}
}

// A suspect is a mirror on storage that has to prove that it obeys conditions.
type suspect struct {
	*mirrortest.Mem
	err    error // that it gives
	proofs int
}

func (*suspect) Proof(mirror.Version) string { return "conditions" }

func (s *suspect) Prove(context.Context, mirror.Version, *mirror.Upload) error {
	s.proofs++
	return s.err
}
