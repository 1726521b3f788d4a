package daemon

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
)

// contained is a Work whose panics become errors, so that one package or mirror cannot end the daemon. Each panic
// is logged with its stack.
type contained struct {
	Work
	d      *Daemon
	mirror string
}

// caught calls do and logs its panic.
func (c contained) caught(do func() error) error {
	err := defect.Caught(do)
	if stack := defect.StackOf(err); stack != "" {
		c.d.o.Log.Error("a defect in this program", "mirror", c.mirror, "reason", err.Error(), "stack", stack)
	}
	return err
}

// isDefect reports whether an error is a panic.
func isDefect(err error) bool { return defect.StackOf(err) != "" }

// Arrivals implements Work. If it panics, the scan is incomplete.
func (c contained) Arrivals(ctx context.Context, dir string) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		stopped := false
		err := c.caught(func() error {
			for f, err := range c.Work.Arrivals(ctx, dir) {
				if stopped = !yield(f, err); stopped {
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(File{}, err)
		}
	}
}

// MayHold implements Work.
func (c contained) MayHold(dir string) (may bool) {
	err := c.caught(func() error { may = c.Work.MayHold(dir); return nil })
	return may || err != nil
}

// Read implements Work.
func (c contained) Read(ctx context.Context, file string) (p Package, err error) {
	err = c.caught(func() (err error) { p, err = c.Work.Read(ctx, file); return err })
	return p, err
}

// Check implements Work. A package that causes a panic is refused.
func (c contained) Check(ctx context.Context, p Package, read func(int64)) error {
	err := c.caught(func() error { return c.Work.Check(ctx, p, read) })
	if isDefect(err) {
		err = errors.Join(arrival.ErrRefused, err)
	}
	return err
}

// Publish implements Work. After a panic, one of the packages may be the cause.
func (c contained) Publish(ctx context.Context, r *Run) (out Result, err error) {
	err = c.caught(func() (err error) { out, err = c.Work.Publish(ctx, r); return err })
	if isDefect(err) {
		err = &RunError{Suspect: true, Err: err}
	}
	return out, err
}

// Invalidate implements Work.
func (c contained) Invalidate(ctx context.Context, obligations [][]byte) error {
	return c.caught(func() error { return c.Work.Invalidate(ctx, obligations) })
}

// Close implements Work.
func (c contained) Close() error { return c.caught(c.Work.Close) }

// Pauses before a worker starts again after a panic of its loops.
const (
	firstRestart   = time.Second
	longestRestart = 5 * time.Minute
)

// keepRunning runs a worker until ctx ends or it fails, and restarts it after a panic.
func (k *worker) keepRunning(ctx context.Context) error {
	for failures := 1; ; failures++ {
		err := defect.Caught(func() error { return k.run(ctx) })
		if ctx.Err() != nil || !isDefect(err) {
			return err
		}
		pause := backoff(firstRestart, longestRestart, failures)
		k.d.o.Log.Error("a mirror restarts after a defect in this program", "mirror", k.m.Name, "in", pause.String(), "reason", err.Error(), "stack", defect.StackOf(err))
		wait(ctx, pause)
	}
}
