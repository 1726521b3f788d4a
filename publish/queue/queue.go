// Package queue remembers what is to be published, across crashes of the process and
// of the machine.
//
// What a call acknowledged is on the disk when the call returns. A job ends in exactly one of
// three states, one step at a time. A transition fails if the job has left the expected
// state. A job is identified by its mirror, document and content, so
// accepting the same thing twice is accepting it once.
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

// A State is how far a job has come.
type State string

// A job is accepted, checked, published. Who works on it has claimed it: it is being
// checked or being published. The last three are the ends.
const (
	Accepted   State = "accepted"   // to be checked, now or at its next time
	Checking   State = "checking"   // claimed: its content is being read
	Ready      State = "ready"      // complete, and waits for a run
	Publishing State = "publishing" // claimed by a run
	Published  State = "published"
	Failed     State = "failed" // it is in the dead letters, with the reason
	Cancelled  State = "cancelled"
)

// States are all states, in the order in which jobs pass through them.
var States = []State{Accepted, Checking, Ready, Publishing, Published, Failed, Cancelled}

// Ended reports whether a job stays as it is.
func (s State) Ended() bool { return s == Published || s == Failed || s == Cancelled }

// next are the steps that a job may take. Only people lead out of an end: by Retry, or by
// accepting again what was cancelled.
var next = map[State][]State{
	Accepted:   {Checking, Cancelled},
	Checking:   {Accepted, Ready, Failed, Cancelled},
	Ready:      {Publishing, Cancelled},
	Publishing: {Accepted, Ready, Published, Failed, Cancelled},
}

// A Job is one document of a package in one mirror.
type Job struct {
	ID int64 `json:"id"`
	// Mirror, File and Digest are what it is about: which mirror, which document below its
	// source, and what content that has.
	Mirror string `json:"mirror"`
	File   string `json:"file"`
	Digest string `json:"digest"`

	Package string `json:"package"` // for people: zlib@1.3.1/hyibvwk
	Bytes   int64  `json:"bytes"`   // of what the document points at

	State    State     `json:"state"`
	Reason   string    `json:"reason,omitempty"` // why it is where it is
	Attempts int       `json:"attempts"`         // that did not succeed
	NextAt   time.Time `json:"next_at"`          // not before this it is claimed
	Accepted time.Time `json:"accepted"`
	Changed  time.Time `json:"changed"`

	// Together is with how many others it may be claimed at most; 0: with any number. What
	// failed together is tried in halves until what is to blame is alone.
	Together int `json:"-"`
	// New is set by Accept if it has created the job.
	New bool `json:"-"`
	// Obligation is the one that its publishing has brought about; 0: none.
	Obligation int64 `json:"obligation,omitempty"`
}

// An Obligation is what remains to be done for clients after an index was replaced: caches must
// forget the old one. It is recorded before the index is replaced, and stays until it is met.
type Obligation struct {
	ID      int64     `json:"id"`
	Mirror  string    `json:"mirror"`
	Content []byte    `json:"-"` // what is to be done, in the form that its caller understands
	State   Duty      `json:"state"`
	Reason  string    `json:"reason,omitempty"` // why it is not met yet
	Tries   int       `json:"tries"`
	NextAt  time.Time `json:"next_at"`
	Since   time.Time `json:"since"`
	Changed time.Time `json:"changed"`
}

// A Duty is the state of an obligation.
type Duty string

// The index is about to be replaced; it may have been; caches have forgotten the old one.
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
	// ErrState: the job is not in the state from which it was to be taken.
	ErrState = errors.New("the job is in another state")
	ErrNoJob = errors.New("no such job")
)

// A Queue is a queue in a directory. No other process has it open.
type Queue struct {
	lock  *lock
	write *sql.DB
	read  *sql.DB

	ops     chan *op
	closing chan struct{} // closed when no operation is taken any more
	stopped sync.WaitGroup
	close   func() error

	commits int // by the writer alone; for tests, when it has stopped
}

// Close waits for what was begun. What comes later fails with ErrClosed.
func (q *Queue) Close() error { return q.close() }

func (q *Queue) shut() error {
	close(q.closing)
	q.stopped.Wait()
	return errors.Join(q.read.Close(), q.write.Close(), q.lock.release())
}

// Accept takes jobs over and returns them as they are known, in the same order. What is new
// is accepted, what was cancelled is accepted again, what waits to be tried again is tried
// now. Everything else stays as it is.
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

// Retry restarts failed jobs, those with the ids, or all of a mirror if there are no ids; an
// empty mirror is all mirrors. It returns how many.
func (q *Queue) Retry(ctx context.Context, mirror string, ids ...int64) (n int, err error) {
	err = q.do(ctx, func(t *tx) error {
		n = 0
		failed, err := t.jobs(`state = 'failed' AND (? = '' OR mirror = ?) ORDER BY id`, mirror, mirror)
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

// Limits say how much is claimed at once. Zero bounds do not bind.
type Limits struct {
	Jobs     int
	Bytes    int64 // in all; but one job is always claimed
	Smallest int64 // bytes of each job, at least
	Largest  int64 // bytes of each job, at most
}

// Claim takes jobs of a mirror that are due: accepted ones for Checking, ready ones for
// Publishing. First come, first served, but what failed together with others comes last
// and in small company.
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
		order := `next_at, id` // that of an index, so that no more are looked at than are claimed
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

// Hurry makes what waits to be tried again due now. An empty mirror is all mirrors.
func (q *Queue) Hurry(ctx context.Context, mirror string) error {
	return q.do(ctx, func(t *tx) error { return t.hurry(mirror, t.now) })
}

// hurry makes due what has a next time after a time.
func (t *tx) hurry(mirror string, after time.Time) error {
	if err := t.exec(`UPDATE job SET next_at = ? WHERE state IN ('accepted', 'ready') AND next_at > ? AND (? = '' OR mirror = ?)`, milli(t.now), milli(after), mirror, mirror); err != nil {
		return err
	}
	return t.exec(`UPDATE obligation SET next_at = ? WHERE state = 'due' AND next_at > ? AND (? = '' OR mirror = ?)`, milli(t.now), milli(after), mirror, mirror)
}

// longestWait is above every wait that callers request. A next time beyond it was written
// before the clock was set back.
const longestWait = 24 * time.Hour

// ClockSetBack makes due what would wait for the time that the clock once showed.
func (q *Queue) ClockSetBack(ctx context.Context) error {
	return q.do(ctx, func(t *tx) error { return t.hurry("", t.now.Add(longestWait)) })
}

// Ping returns once the writer has had a turn.
func (q *Queue) Ping(ctx context.Context) error {
	return q.do(ctx, func(*tx) error { return nil })
}

func bound(n int) int {
	if n <= 0 {
		return -1
	}
	return n
}

// A Change is a step of one job. What is zero becomes so.
type Change struct {
	ID       int64
	To       State
	Reason   string
	Attempts int
	NextAt   time.Time
	Together int
}

// Change takes jobs from a state into others, all or none. ErrState means that a job was not
// in that state, or cannot go where it was to go.
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

// recover returns what the last process had claimed, and makes due what it may owe. What
// was published together goes in halves, in case that it is what the process died of.
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
	return t.hurry("", t.now.Add(longestWait))
}
