package notice_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

const settle = 30 * time.Second

// skewed is a mirror as a host sees it whose clock is ahead of the mirror's.
type skewed struct {
	*mirrortest.Mem
	by time.Duration
}

func (s skewed) Stat(ctx context.Context, name string) (mirror.Info, error) {
	info, err := s.Mem.Stat(ctx, name)
	info.Modified = info.Modified.Add(-s.by)
	return info, err
}

func (s skewed) Open(ctx context.Context, name string) (*mirror.Object, error) {
	o, err := s.Mem.Open(ctx, name)
	if err == nil {
		o.Modified = o.Modified.Add(-s.by)
	}
	return o, err
}

func (s skewed) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		s.Mem.List(ctx, r)(func(i mirror.Info, err error) bool {
			i.Modified = i.Modified.Add(-s.by)
			return yield(i, err)
		})
	}
}

// given is a mirror in which a pruner has given notice so long ago.
func given(t *testing.T, age time.Duration) *mirrortest.Mem {
	t.Helper()
	m := mirrortest.NewMem(t)
	if _, err := notice.Give(t.Context(), m, "run", settle, false); err != nil {
		t.Fatal(err)
	}
	time.Sleep(age)
	return m
}

// wants says what becomes of a publisher and of a writer that must not be beside a prune.
func wants(t *testing.T, s notice.Store, waits, refused bool) {
	t.Helper()
	began := time.Now()
	noticed, err := notice.Object(t.Context(), s, []string{"a"}, time.Time{})
	if err != nil || !noticed {
		t.Errorf("noticed: %t, %v", noticed, err)
	}
	if took := time.Since(began); took >= settle != waits {
		t.Errorf("a publisher waits for %s", took)
	}
	if err := notice.Refuse(t.Context(), s); errors.Is(err, notice.ErrAtWork) != refused || err != nil && !refused {
		t.Errorf("a rebuild: %v", err)
	}
}

// After a pruner was killed, publishers wait and others are refused for some minutes only; nobody has to prune again. Objections are
// stored all the same.
func TestADeadPruneStopsNobodyForLong(t *testing.T) {
	for age, atWork := range map[time.Duration]bool{
		0: true, notice.Alive + settle: true, notice.Dead: true, notice.Dead + settle + time.Second: false, 1000 * time.Hour: false,
	} {
		t.Run(age.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := given(t, age)
				wants(t, m, atWork, atWork)
				if !atWork {
					time.Sleep(time.Hour)
					wants(t, m, false, false) // every time
				}
				spared, err := giver(t, m).Spared(t.Context())
				if err != nil || len(spared) == 0 || spared[0] != "a" {
					t.Errorf("objections: %v, %v", spared, err)
				}
			})
		})
	}
}

// giver is a pruner after the one that has died.
func giver(t *testing.T, m *mirrortest.Mem) *notice.Giver {
	t.Helper()
	g, err := notice.Give(t.Context(), m, "next", settle, true)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The clock of the mirror tells the age of a notice. So a host whose own clock is wrong can tell a dead pruner from one at work.
func TestTheClockOfTheMirrorTellsTheAge(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) { wants(t, skewed{given(t, time.Minute), by}, true, true) })
	}
	synctest.Test(t, func(t *testing.T) {
		s := skewed{given(t, time.Hour), -3 * time.Hour}
		began := time.Now()
		if _, err := notice.Object(t.Context(), s, []string{"a"}, time.Time{}); err != nil || time.Since(began) >= settle {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// A publisher that may not object fails beside a prune. One that has died keeps it from publishing for half an hour.
func TestAPublisherThatMayNotObject(t *testing.T) {
	denied := func(m *mirrortest.Mem) notice.Store {
		return mirrortest.Break(m, mirrortest.Fail(notice.Objections, mirror.ErrDenied))
	}
	for age, fails := range map[time.Duration]bool{time.Minute: true, notice.Dead + time.Minute: true, notice.Young + time.Minute: false} {
		synctest.Test(t, func(t *testing.T) {
			s := denied(given(t, age))
			if _, err := notice.Object(t.Context(), s, []string{"a"}, time.Time{}); (err != nil) != fails {
				t.Errorf("after %s: %v", age, err)
			}
			if err := notice.Refuse(t.Context(), s); errors.Is(err, notice.ErrAtWork) != fails {
				t.Errorf("after %s: %v", age, err)
			}
		})
	}
}
