// Package queue stores publishing jobs. They survive crashes of the process and of the machine.
//
// A call returns after its change is on disk. A job ends in exactly one of three states, one step at a time. A
// transition fails if the job has left the expected state. A job is identified by its mirror, document and content,
// so accepting the same content twice creates one job.
package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A State is the state of a job.
type State string

// A job is accepted, checked and published. A worker claims it for Checking and for Publishing. The last three
// states are final.
const (
	Accepted   State = "accepted"   // waits to be checked, not before NextAt
	Checking   State = "checking"   // claimed for reading its content
	Ready      State = "ready"      // complete, waits for a run
	Publishing State = "publishing" // claimed by a run
	Published  State = "published"
	Failed     State = "failed" // in the dead letters, with the reason
	Cancelled  State = "cancelled"
)

// States lists all states in the order in which jobs pass through them.
var States = []State{Accepted, Checking, Ready, Publishing, Published, Failed, Cancelled}

// Ended reports whether the state is final.
func (s State) Ended() bool { return s == Published || s == Failed || s == Cancelled }

// next lists the permitted transitions. Only operators lead out of a final state: by Retry, or by accepting a
// cancelled job again.
var next = map[State][]State{
	Accepted:   {Checking, Cancelled},
	Checking:   {Accepted, Ready, Failed, Cancelled},
	Ready:      {Publishing, Cancelled},
	Publishing: {Accepted, Ready, Published, Failed, Cancelled},
}

// A Job is a document of a package in a mirror.
type Job struct {
	ID int64 `json:"id"`
	// Mirror, File and Digest identify the job: the mirror, the document below its source, and the document's
	// content.
	Mirror string `json:"mirror"`
	File   string `json:"file"`
	Digest string `json:"digest"`

	Package string `json:"package"` // for display: zlib@1.3.1/hyibvwk
	Bytes   int64  `json:"bytes"`   // size of the content that the document points at

	State    State     `json:"state"`
	Reason   string    `json:"reason,omitempty"` // of its state
	Attempts int       `json:"attempts"`         // failed ones
	NextAt   time.Time `json:"next_at"`          // the earliest time at which it is claimed
	Accepted time.Time `json:"accepted"`
	Changed  time.Time `json:"changed"`

	// Together is the maximum number of other jobs that it may be claimed with; 0 means any number. Jobs that
	// failed together are retried in halves until the cause is alone.
	Together int `json:"-"`
	// New is set by Accept if it created the job.
	New bool `json:"-"`
	// Obligation is the obligation that its publishing caused; 0 for none.
	Obligation int64 `json:"obligation,omitempty"`
}

// An Obligation is work that remains for clients after an index was replaced: caches must drop the old one. It is
// recorded before the index is replaced, and stays until it is met.
type Obligation struct {
	ID      int64     `json:"id"`
	Mirror  string    `json:"mirror"`
	Content []byte    `json:"-"` // the work, in the caller's encoding
	State   Duty      `json:"state"`
	Reason  string    `json:"reason,omitempty"` // why it is not met yet
	Tries   int       `json:"tries"`
	NextAt  time.Time `json:"next_at"`
	Since   time.Time `json:"since"`
	Changed time.Time `json:"changed"`
}

// A Duty is the state of an obligation.
type Duty string

// Intended: the index is about to be replaced. Due: it may have been replaced. Met: caches have dropped the old
// one.
const (
	Intended Duty = "intended"
	Due      Duty = "due"
	Met      Duty = "met"
)

// Errors that callers branch on.
var (
	ErrInUse    = errors.New("in use by another process")
	ErrDamaged  = errors.New("the database is damaged")
	ErrNewer    = errors.New("the database was written by a newer version")
	ErrReadOnly = errors.New("the directory cannot be written to")
	ErrFull     = errors.New("no space left for the queue")
	ErrDisk     = errors.New("the disk of the queue fails")
	ErrClosed   = errors.New("the queue is closed")
	// ErrState reports that a job is not in the expected state.
	ErrState = errors.New("the job is in another state")
	ErrNoJob = errors.New("no such job")
)

// A Queue is a queue in a directory. Only one process can have it open.
type Queue struct {
	lock  *lock
	write *sql.DB
	read  *sql.DB

	ops     chan *op
	closing chan struct{} // closed when no more operations are accepted
	stopped sync.WaitGroup
	close   func() error

	commits int // used by the writer only; for tests, after it has stopped
}

// Close waits for operations in progress. Later ones fail with ErrClosed.
func (q *Queue) Close() error { return q.close() }

func (q *Queue) shut() error {
	close(q.closing)
	q.stopped.Wait()
	return errors.Join(q.read.Close(), q.write.Close(), q.lock.release())
}

// Accept adds jobs and returns them as recorded, in the same order. New and cancelled jobs become accepted. Jobs
// that wait for a retry are retried now. All other jobs stay as they are.
func (q *Queue) Accept(ctx context.Context, jobs ...Job) ([]Job, error) {
	known := make([]Job, len(jobs))
	err := q.do(ctx, func(t *tx) error {
		for i, j := range jobs {
			var err error
			if known[i], err = t.accept(j); err != nil {
				return fmt.Errorf("accept %s: %w", j.File, err)
			}
		}
		return nil
	})
	return known, err
}

func (t *tx) accept(j Job) (Job, error) {
	known, err := t.job(`mirror = ? AND file = ? AND digest = ?`, j.Mirror, j.File, j.Digest)
	now := t.now
	switch {
	case errors.Is(err, ErrNoJob):
		j.State, j.NextAt, j.Accepted, j.Changed = Accepted, now, now, now
		j.Reason, j.Attempts, j.Together, j.Obligation, j.New = "", 0, 0, 0, true
		j.ID, err = t.insert(`INSERT INTO job (mirror, file, digest, package, bytes, state, reason, attempts, together, obligation, next_at, accepted, changed)
			VALUES (?, ?, ?, ?, ?, 'accepted', '', 0, 0, 0, ?, ?, ?)`,
			j.Mirror, j.File, j.Digest, j.Package, j.Bytes, milli(now), milli(now), milli(now))
		return j, err
	case err != nil:
		return Job{}, err
	case known.State == Cancelled:
		return known, t.reopen(&known)
	case known.State == Accepted && known.NextAt.After(now):
		known.NextAt = now
		return known, t.exec(`UPDATE job SET next_at = ? WHERE id = ?`, milli(now), known.ID)
	}
	return known, nil
}

// reopen restarts a job.
func (t *tx) reopen(j *Job) error {
	j.State, j.Reason, j.Attempts, j.Together, j.Obligation = Accepted, "", 0, 0, 0
	j.NextAt, j.Accepted, j.Changed, j.New = t.now, t.now, t.now, true
	return t.exec(`UPDATE job SET state = 'accepted', reason = '', attempts = 0, together = 0, obligation = 0, next_at = ?, accepted = ?, changed = ? WHERE id = ?`,
		milli(t.now), milli(t.now), milli(t.now), j.ID)
}

// Retry restarts failed jobs: those with the ids, or all if there are no ids. It returns the number of jobs.
func (q *Queue) Retry(ctx context.Context, ids ...int64) (n int, err error) {
	err = q.do(ctx, func(t *tx) error {
		n = 0
		failed, err := t.jobs(`state = 'failed' ORDER BY id`)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := one(t.jobs(`id = ?`, id)); err != nil {
				return fmt.Errorf("job %d: %w: nothing is tried again; `publish status` shows the numbers", id, err)
			}
		}
		for _, j := range failed {
			if len(ids) > 0 && !slices.Contains(ids, j.ID) {
				continue
			}
			if err := t.reopen(&j); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// Limits bound how much is claimed at once. A zero field sets no bound.
type Limits struct {
	Jobs     int
	Bytes    int64 // in all; one job is always claimed
	Smallest int64 // minimum bytes of a job
	Largest  int64 // maximum bytes of a job
}

// Claim takes due jobs of a mirror: accepted ones for Checking, ready ones for Publishing. The oldest come first;
// jobs that failed together come last and in small groups.
func (q *Queue) Claim(ctx context.Context, mirror string, to State, l Limits) (claimed []Job, err error) {
	from := Accepted
	if to == Publishing {
		from = Ready
	}
	if !slices.Contains(next[from], to) || to == Cancelled {
		return nil, fmt.Errorf("claim jobs for %s: %w", to, ErrState)
	}
	if idle, err := q.idle(ctx, mirror, from, l); err != nil || idle {
		return nil, err
	}
	err = q.do(ctx, func(t *tx) error {
		claimed = nil
		order := `next_at, id` // as in an index, so that only claimed rows are read
		if to == Publishing {
			order = `CASE together WHEN 0 THEN 1 << 30 ELSE together END DESC, id`
		}
		due, err := t.jobs(`mirror = ? AND state = ? AND next_at <= ? AND bytes >= ? AND (? = 0 OR bytes <= ?) ORDER BY `+order+` LIMIT ?`,
			mirror, from, milli(t.now), l.Smallest, l.Largest, l.Largest, bound(l.Jobs))
		if err != nil {
			return err
		}
		bytes := int64(0)
		for i, j := range due {
			bytes += j.Bytes
			first := due[0].Together
			if i > 0 && (l.Bytes > 0 && bytes > l.Bytes || j.Together != first || first > 0 && i >= first) {
				break
			}
			j.State, j.Changed = to, t.now
			if err := t.exec(`UPDATE job SET state = ?, changed = ? WHERE id = ?`, to, milli(t.now), j.ID); err != nil {
				return err
			}
			claimed = append(claimed, j)
		}
		return nil
	})
	return claimed, err
}

// Hurry makes jobs that wait for a retry due now.
func (q *Queue) Hurry(ctx context.Context) error {
	return q.do(ctx, func(t *tx) error { return t.hurry(t.now) })
}

// hurry makes jobs due whose next time is after a time.
func (t *tx) hurry(after time.Time) error {
	if err := t.exec(`UPDATE job SET next_at = ? WHERE state IN ('accepted', 'ready') AND next_at > ?`, milli(t.now), milli(after)); err != nil {
		return err
	}
	return t.exec(`UPDATE obligation SET next_at = ? WHERE state = 'due' AND next_at > ?`, milli(t.now), milli(after))
}

// longestWait is longer than any wait that callers request. A later next time was written before the clock was set
// back.
const longestWait = 24 * time.Hour

// ClockSetBack makes jobs due whose next time was written before the clock was set back.
func (q *Queue) ClockSetBack(ctx context.Context) error {
	return q.do(ctx, func(t *tx) error { return t.hurry(t.now.Add(longestWait)) })
}

// Ping returns when the writer has had a turn.
func (q *Queue) Ping(ctx context.Context) error {
	return q.do(ctx, func(*tx) error { return nil })
}

func bound(n int) int {
	if n <= 0 {
		return -1
	}
	return n
}

// A Change is a step of one job. Zero fields reset the job's fields.
type Change struct {
	ID       int64
	To       State
	Reason   string
	Attempts int
	NextAt   time.Time
	Together int
}

// Change moves jobs from one state to others, all or none. ErrState reports a job that is not in that state or may
// not make this transition.
func (q *Queue) Change(ctx context.Context, from State, changes ...Change) error {
	return q.do(ctx, func(t *tx) error { return t.change(from, changes) })
}

func (t *tx) change(from State, changes []Change) error {
	for _, c := range changes {
		if !slices.Contains(next[from], c.To) {
			return fmt.Errorf("job %d from %s to %s: %w", c.ID, from, c.To, ErrState)
		}
		if c.NextAt.IsZero() {
			c.NextAt = t.now
		}
		n, err := t.count(`UPDATE job SET state = ?, reason = ?, attempts = ?, next_at = ?, together = ?, changed = ? WHERE id = ? AND state = ?`,
			c.To, c.Reason, c.Attempts, milli(c.NextAt), c.Together, milli(t.now), c.ID, from)
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("job %d is not %s: %w", c.ID, from, ErrState)
		}
	}
	return nil
}

// recover returns the jobs claimed by the previous process, and makes its obligations due. Jobs that were published
// together are split into halves, in case they caused the crash.
func (t *tx) recover() error {
	running, err := t.jobs(`state = 'publishing' ORDER BY id`)
	if err != nil {
		return err
	}
	together := make(map[string]int)
	for _, j := range running {
		together[j.Mirror]++
	}
	for _, j := range running {
		half := max(1, together[j.Mirror]/2)
		if err := t.exec(`UPDATE job SET state = 'ready', together = ?, changed = ? WHERE id = ?`, half, milli(t.now), j.ID); err != nil {
			return err
		}
	}
	if err := t.exec(`UPDATE job SET state = 'accepted', changed = ? WHERE state = 'checking'`, milli(t.now)); err != nil {
		return err
	}
	if err := t.exec(`UPDATE obligation SET state = 'due', next_at = ?, changed = ? WHERE state = 'intended'`, milli(t.now), milli(t.now)); err != nil {
		return err
	}
	return t.hurry(t.now.Add(longestWait))
}
