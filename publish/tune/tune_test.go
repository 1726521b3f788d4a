package tune

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
)

const mb = 1_000_000

// A link is a place behind a line: a connection gives 50 MB/s, and all of them 1,400 MB/s.
type link struct {
	*mirrortest.Mem
	setting Setting
	used    *used
	late    time.Duration // what is taken back is completed all the same, so much later
	whole   bool          // unfinished uploads are listed by whole names only
}

func (l *link) Leftovers(ctx context.Context, prefix string) iter.Seq2[mirror.Leftover, error] {
	return func(yield func(mirror.Leftover, error) bool) {
		for left, err := range l.Mem.Leftovers(ctx, prefix) {
			if (!l.whole || left.Name == prefix) && !yield(left, err) {
				return
			}
		}
	}
}

// used is what all settings have used together.
type used struct {
	mu    sync.Mutex
	bytes int64
	began []string
}

func (u *used) begin(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.began = append(u.began, name)
}

func (u *used) send(n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bytes += n
}

func (l *link) Create(ctx context.Context, u mirror.Upload) error {
	l.used.begin(u.Name)
	rate := min(float64(l.setting.Concurrency)*50*mb, 1400*mb) / objects
	for left := u.Content.Size(); left > 0; {
		n := min(left, 8*mb)
		l.used.send(n)
		select {
		case <-ctx.Done():
			u.Sent(n - u.Content.Size()) // what is on its way is taken back
			l.Abandon(ctx, u.Name)
			if l.late > 0 {
				u.Sent, u.Content = nil, content{1}
				time.AfterFunc(l.late, func() { l.Mem.Create(context.WithoutCancel(ctx), u) })
			}
			return ctx.Err()
		case <-time.After(time.Duration(float64(n) / rate * float64(time.Second))):
		}
		left -= n
		if u.Sent != nil {
			u.Sent(n)
		}
	}
	u.Sent, u.Content = nil, content{1}
	return l.Mem.Create(ctx, u)
}

func opening(t *testing.T) (*link, func(Setting) (Place, error)) {
	l := &link{Mem: mirrortest.NewMem(t), used: new(used)}
	return l, func(s Setting) (Place, error) { return &link{l.Mem, s, l.used, l.late, l.whole}, nil }
}

// nothing reports that the place is as it was.
func (l *link) nothing(t *testing.T) {
	t.Helper()
	if n := len(l.Snapshot()); n > 0 {
		t.Errorf("%d objects are left", n)
	}
	for left := range l.Mem.Leftovers(t.Context(), "") {
		t.Errorf("an unfinished upload of %s is left", left.Name)
	}
}

func TestTheSmallestSettingThatIsGoodEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, open := opening(t)
		began, told := time.Now(), 0
		bounds := Bounds{Bytes: 1e12, Time: time.Minute}
		best, err := Run(t.Context(), open, bounds, func(trial Trial) {
			told++
			want := min(float64(trial.Concurrency)*50*mb, 1400*mb)
			if trial.Rate < 0.97*want || trial.Rate > 1.03*want {
				t.Errorf("%d connections: %.0f MB/s, want %.0f", trial.Concurrency, trial.Rate/mb, want/mb)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := (Setting{32, 8 << 20}); best.Setting != want || told != trials {
			t.Errorf("best of %d is %+v, want %+v", told, best.Setting, want)
		}
		if took := time.Since(began); took > bounds.Time+late+time.Second {
			t.Errorf("it took %v", took)
		}
		l.nothing(t)
	})
}

func TestNoMoreBytesThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, open := opening(t)
		if _, err := Run(t.Context(), open, Bounds{Bytes: 500 * mb, Time: time.Hour}, func(Trial) {}); err != nil {
			t.Fatal(err)
		}
		if l.used.bytes > 501*mb || l.used.bytes < 490*mb {
			t.Errorf("%d bytes were sent", l.used.bytes)
		}
		l.nothing(t)
	})
}

func TestWhoIsStoppedCleansUp(t *testing.T) {
	for _, whole := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { whoIsStoppedCleansUp(t, whole) })
	}
}

func whoIsStoppedCleansUp(t *testing.T, whole bool) {
	l, open := opening(t)
	l.whole = whole
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
	defer cancel()
	_, err := Run(ctx, open, Bounds{Bytes: 1e12, Time: time.Minute}, func(Trial) {})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	l.nothing(t)
}

func TestWhatIsCompletedAfterwardsIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, open := opening(t)
		l.late = time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		if _, err := Run(ctx, open, Bounds{Bytes: 1e12, Time: time.Minute}, func(Trial) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.Sleep(l.late)
		l.nothing(t)
	})
}

// undeletable is a place whose objects stay.
type undeletable struct{ *link }

func (undeletable) Delete(context.Context, string, mirror.Version) error {
	return &mirror.DeniedError{Action: "s3:DeleteObject"}
}

func TestWhatCannotBeRemovedIsNotSent(t *testing.T) {
	l, _ := opening(t)
	_, err := Run(t.Context(), func(s Setting) (Place, error) { return undeletable{l}, nil }, Bounds{Bytes: 1e9, Time: time.Minute}, func(Trial) {})
	if !errors.Is(err, mirror.ErrDenied) {
		t.Errorf("got %v", err)
	}
	if len(l.used.began) != 1 || l.used.bytes != 1 {
		t.Errorf("sent all the same: %v", l.used.began)
	}
}

func TestContent(t *testing.T) {
	c := content{2_500_000}
	whole := make([]byte, c.size)
	if n, err := c.ReadAt(whole, 0); n != len(whole) || err != nil {
		t.Fatal(n, err)
	}
	for _, at := range []int64{0, 1<<20 - 3, 1 << 20, c.size - 5} {
		part := make([]byte, 10)
		n, err := c.ReadAt(part, at)
		if string(part[:n]) != string(whole[at:at+int64(n)]) || (err == io.EOF) != (at+10 > c.size) {
			t.Errorf("at %d: %d, %v", at, n, err)
		}
	}
}
