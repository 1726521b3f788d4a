package daemon_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A brittleWork panics in one of its methods, for one package, or always if there is none.
type brittleWork struct {
	*fakeWork
	in, about string
}

func (y brittleWork) breaks(in, about string) {
	if in == y.in && (y.about == "" || y.about == about) {
		panic("index out of range")
	}
}

func (y brittleWork) Arrivals(ctx context.Context, dir string) iter.Seq2[daemon.File, error] {
	return func(yield func(daemon.File, error) bool) {
		y.breaks("Arrivals", "")
		for f, err := range y.fakeWork.Arrivals(ctx, dir) {
			if !yield(f, err) {
				return
			}
		}
	}
}

func (y brittleWork) Read(ctx context.Context, file string) (daemon.Package, error) {
	y.breaks("Read", file)
	return y.fakeWork.Read(ctx, file)
}

func (y brittleWork) Check(ctx context.Context, p daemon.Package, read func(int64)) error {
	y.breaks("Check", p.File)
	return y.fakeWork.Check(ctx, p, read)
}

func (y brittleWork) Publish(ctx context.Context, r *daemon.Run) (daemon.Result, error) {
	for _, p := range r.Packages {
		y.breaks("Publish", p.File)
	}
	return y.fakeWork.Publish(ctx, r)
}

func (y brittleWork) Invalidate(ctx context.Context, owed [][]byte) error {
	y.breaks("Tell", "")
	return y.fakeWork.Invalidate(ctx, owed)
}

func (y brittleWork) Close() error {
	y.breaks("Close", "")
	return y.fakeWork.Close()
}

// Whatever panics for one package or one mirror, other packages and other mirrors are published, the log has the stack,
// and the daemon ends only when it is told to.
func TestAPanicEndsNoDaemon(t *testing.T) {
	for _, row := range []struct {
		in, about string
		published int // of three packages
		failed    int
	}{
		{"Arrivals", "", 0, 0},
		{"Read", "spec/b", 2, 0},
		{"Check", "spec/b", 2, 1},
		{"Publish", "spec/b", 2, 1},
		{"Tell", "", 3, 0},
		{"Close", "", 3, 0},
	} {
		t.Run(row.in, func(t *testing.T) {
			timed(t, func(t *testing.T) {
				y, other := newFakeWork(t), newFakeWork(t)
				y.caches = true
				m, n := y.mirror("brittle"), other.mirror("sound")
				m.Work = brittleWork{y, row.in, row.about}
				for _, name := range []string{"spec/a", "spec/b", "spec/c"} {
					y.put(name, parcel{bytes: 1})
					other.put(name, parcel{bytes: 1})
				}
				d := begin(t, t.TempDir(), m, n)
				time.Sleep(2 * time.Hour)
				if p, f := d.count(t, m, queue.Published), d.count(t, m, queue.Failed); p != row.published || f != row.failed {
					t.Errorf("published %d, failed %d, want %d and %d", p, f, row.published, row.failed)
				}
				if other.total() != 3 {
					t.Errorf("the other mirror has %d packages", other.total())
				}
				if s := d.status(t); !s.Healthy {
					t.Error(s.Problem)
				}
				d.stop()
				if log := d.log.String(); !strings.Contains(log, "index out of range") || !strings.Contains(log, "brittleWork") {
					t.Errorf("the log has no stack: %s", log)
				}
			})
		})
	}
}

// An operation of the queue that panics is an error of that operation.
func TestAPanicInTheQueueIsAnError(t *testing.T) {
	q, err := queue.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if _, err := q.Drop(t.Context(), func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Accept(t.Context(), queue.Job{Mirror: "m", File: "f", Digest: "d"}); err != nil {
		t.Fatal(err)
	}
	_, err = q.Drop(t.Context(), func(string) bool { panic(errors.ErrUnsupported) })
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if _, err := q.Accept(t.Context(), queue.Job{Mirror: "m", File: "g", Digest: "d"}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if jobs, err := q.Jobs(t.Context(), queue.Filter{}); err != nil || len(jobs) != 2 {
		t.Errorf("%v, %v", jobs, err)
	}
}
