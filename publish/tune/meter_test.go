package tune

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// halting is a link over which nothing is sent for a while before the first byte, and after the last one until the
// object is complete.
type halting struct {
	*link
	before, after time.Duration
}

func (h halting) Create(ctx context.Context, u mirror.Upload) error {
	if u.Sent == nil { // the probe
		return h.link.Create(ctx, u)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(h.before):
	}
	err := h.link.Create(ctx, u)
	if err == nil {
		time.Sleep(h.after)
	}
	return err
}

// The rate of a setting is that of its bytes on their way, however long nothing was sent before and afterwards.
func TestIdleTimeIsNoThroughput(t *testing.T) {
	for name, row := range map[string]struct {
		before, after time.Duration
		bytes         int64 // in all
	}{
		"before the first byte, until the time is over": {6 * time.Second, 0, 1e12},
		"before the first byte, until all is sent":      {5 * time.Second, 0, 7200 * mb},
		"after the last byte":                           {0, 5 * time.Second, 7200 * mb},
		"after the last byte of much":                   {0, 2 * time.Second, 24_000 * mb},
		"before and afterwards":                         {3 * time.Second, 3 * time.Second, 7200 * mb},
		"hardly any bytes":                              {3 * time.Second, 3 * time.Second, 600 * mb},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, opened := opening(t)
				open := func(s Setting) (Place, error) {
					p, err := opened(s)
					return halting{p.(*link), row.before, row.after}, err
				}
				best, err := Run(t.Context(), open, Bounds{Bytes: row.bytes, Time: time.Minute}, func(trial Trial) {
					want := min(float64(trial.Concurrency)*50*mb, 1400*mb)
					if trial.Rate < 0.97*want || trial.Rate > 1.03*want {
						t.Errorf("%d connections: %.0f MB/s, want %.0f", trial.Concurrency, trial.Rate/mb, want/mb)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if best.Concurrency != 32 {
					t.Errorf("best is %+v", best)
				}
				l.nothing(t)
			})
		})
	}
}

// An attempt that is taken back and sent again was sent once.
func TestBytesThatAreSentAgainCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meter{began: time.Now(), warmUp: time.Hour, warmBytes: 1e9}
		for _, n := range []int64{10, 10, 10, -10, 10, 10} {
			time.Sleep(time.Second)
			m.sent(n)
		}
		time.Sleep(time.Second)
		m.sent(-10)
		m.stop()
		if got := m.trial(Setting{}); got.Bytes != 20 || got.Took != 5*time.Second || got.Rate != 4 {
			t.Errorf("%+v", got)
		}
	})
}

// Where there is no time between two reports, the rate is that of the whole trial.
func TestOneReportIsStillARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meter{began: time.Now(), warmUp: time.Second, warmBytes: 1}
		time.Sleep(2 * time.Second)
		m.sent(40)
		m.sent(60)
		m.stop()
		if got := m.trial(Setting{}); got.Bytes != 100 || got.Rate != 50 {
			t.Errorf("%+v", got)
		}
		silent := meter{began: time.Now()}
		silent.stop()
		if got := silent.trial(Setting{}); got.Bytes != 0 || got.Rate != 0 {
			t.Errorf("%+v", got)
		}
	})
}
