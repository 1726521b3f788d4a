package queue

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

const jobColumns = `id, mirror, file, digest, package, bytes, state, reason, attempts, together, obligation, next_at, accepted, changed`

// querier is the common part of a transaction and the readers.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func jobs(ctx context.Context, db querier, where string, args ...any) ([]Job, error) {
	rows, err := db.QueryContext(ctx, `SELECT `+jobColumns+` FROM job WHERE `+where, args...)
	if err != nil {
		return nil, translate(err)
	}
	defer rows.Close()
	var all []Job
	for rows.Next() {
		var j Job
		var nextAt, accepted, changed int64
		err := rows.Scan(&j.ID, &j.Mirror, &j.File, &j.Digest, &j.Package, &j.Bytes, &j.State, &j.Reason, &j.Attempts, &j.Together, &j.Obligation, &nextAt, &accepted, &changed)
		if err != nil {
			return nil, translate(err)
		}
		j.NextAt, j.Accepted, j.Changed = timeOf(nextAt), timeOf(accepted), timeOf(changed)
		all = append(all, j)
	}
	return all, translate(rows.Err())
}

func milli(t time.Time) int64   { return t.UnixMilli() }
func timeOf(ms int64) time.Time { return time.UnixMilli(ms) }

// A Filter selects jobs. Empty fields select all.
type Filter struct {
	Mirror string
	States []State
	Before time.Time // changed before this time
	Since  time.Time // changed at this time or later
	Newest bool      // order by latest change instead of acceptance
	Limit  int
}

// Jobs returns the selected jobs, the oldest first.
func (q *Queue) Jobs(ctx context.Context, f Filter) ([]Job, error) {
	where, args := f.where()
	if f.Newest {
		where += ` ORDER BY changed DESC, id DESC`
	} else {
		where += ` ORDER BY id`
	}
	return jobs(ctx, q.read, where+` LIMIT ?`, append(args, bound(f.Limit))...)
}

func (f Filter) where() (string, []any) {
	where, args := `(? = '' OR mirror = ?)`, []any{f.Mirror, f.Mirror}
	if len(f.States) > 0 {
		where += ` AND state IN (?` + strings.Repeat(`, ?`, len(f.States)-1) + `)`
		for _, s := range f.States {
			args = append(args, s)
		}
	}
	if !f.Before.IsZero() {
		where, args = where+` AND changed < ?`, append(args, milli(f.Before))
	}
	if !f.Since.IsZero() {
		where, args = where+` AND changed >= ?`, append(args, milli(f.Since))
	}
	return where, args
}

// Job returns one job, or ErrNoJob.
func (q *Queue) Job(ctx context.Context, id int64) (Job, error) {
	return one(jobs(ctx, q.read, `id = ?`, id))
}

func one(all []Job, err error) (Job, error) {
	if err != nil {
		return Job{}, err
	}
	if len(all) == 0 {
		return Job{}, ErrNoJob
	}
	return all[0], nil
}

// A Tally counts the jobs of a mirror in a state.
type Tally struct {
	Jobs   int
	Bytes  int64
	Oldest time.Time // when the oldest was accepted
	NextAt time.Time // when the next one is due
}

// Count returns the tallies of all mirrors and states.
func (q *Queue) Count(ctx context.Context) (map[string]map[State]Tally, error) {
	rows, err := q.read.QueryContext(ctx, `SELECT mirror, state, count(*), sum(bytes), min(accepted), min(next_at) FROM job GROUP BY mirror, state`)
	if err != nil {
		return nil, translate(err)
	}
	defer rows.Close()
	all := make(map[string]map[State]Tally)
	for rows.Next() {
		var mirror string
		var state State
		var n Tally
		var oldest, nextAt int64
		if err := rows.Scan(&mirror, &state, &n.Jobs, &n.Bytes, &oldest, &nextAt); err != nil {
			return nil, translate(err)
		}
		n.Oldest, n.NextAt = timeOf(oldest), timeOf(nextAt)
		if all[mirror] == nil {
			all[mirror] = make(map[State]Tally)
		}
		all[mirror][state] = n
	}
	return all, translate(rows.Err())
}

// Waiting describes the jobs of a mirror in one state, within the limits: how many are due, when the first and the
// last of them entered the state, and when the next one is due.
func (q *Queue) Waiting(ctx context.Context, mirror string, in State, l Limits) (w Waiting, err error) {
	row := q.read.QueryRowContext(ctx, `SELECT
		coalesce(sum(d), 0), coalesce(sum(d * bytes), 0), coalesce(min(CASE d WHEN 1 THEN changed END), 0), coalesce(max(CASE d WHEN 1 THEN changed END), 0), coalesce(min(CASE d WHEN 0 THEN next_at END), 0)
		FROM (SELECT *, next_at <= ? AS d FROM job WHERE mirror = ? AND state = ? AND bytes >= ? AND (? = 0 OR bytes <= ?))`,
		milli(time.Now()), mirror, in, l.Smallest, l.Largest, l.Largest)
	var first, last, nextAt int64
	if err := row.Scan(&w.Due, &w.Bytes, &first, &last, &nextAt); err != nil {
		return w, fmt.Errorf("look at the queue: %w", translate(err))
	}
	for at, ms := range map[*time.Time]int64{&w.First: first, &w.Last: last, &w.NextAt: nextAt} {
		if ms > 0 {
			*at = timeOf(ms)
		}
	}
	return w, nil
}

// Waiting describes waiting jobs in a state.
type Waiting struct {
	Due         int
	Bytes       int64     // of the due jobs
	First, Last time.Time // when the first and the last due job entered the state
	NextAt      time.Time // when the next job that is not due becomes due; zero if there is none
}

// idle reports whether there is nothing to claim. It does not need the writer.
func (q *Queue) idle(ctx context.Context, mirror string, in State, l Limits) (bool, error) {
	var n int
	err := q.read.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM job WHERE mirror = ? AND state = ? AND next_at <= ? AND bytes >= ? AND (? = 0 OR bytes <= ?) LIMIT 1)`,
		mirror, in, milli(time.Now()), l.Smallest, l.Largest, l.Largest).Scan(&n)
	return n == 0, translate(err)
}

// Obligations returns the unmet obligations, the oldest first.
func (q *Queue) Obligations(ctx context.Context) ([]Obligation, error) {
	return q.obligations(ctx, `state != 'met' ORDER BY id`)
}

// Obligation returns one obligation, met or not, or ErrNoJob.
func (q *Queue) Obligation(ctx context.Context, id int64) (Obligation, error) {
	all, err := q.obligations(ctx, `id = ?`, id)
	if err != nil {
		return Obligation{}, err
	}
	if len(all) == 0 {
		return Obligation{}, fmt.Errorf("obligation %d: %w", id, ErrNoJob)
	}
	return all[0], nil
}

// LastMet returns when an obligation of a mirror was last met, or the zero time.
func (q *Queue) LastMet(ctx context.Context, mirror string) (time.Time, error) {
	var ms sql.NullInt64
	err := q.read.QueryRowContext(ctx, `SELECT max(changed) FROM obligation WHERE mirror = ? AND state = 'met'`, mirror).Scan(&ms)
	if err != nil || !ms.Valid {
		return time.Time{}, translate(err)
	}
	return timeOf(ms.Int64), nil
}

func (q *Queue) obligations(ctx context.Context, where string, args ...any) ([]Obligation, error) {
	rows, err := q.read.QueryContext(ctx, `SELECT id, mirror, content, state, reason, tries, next_at, since, changed FROM obligation WHERE `+where, args...)
	if err != nil {
		return nil, translate(err)
	}
	defer rows.Close()
	var all []Obligation
	for rows.Next() {
		var o Obligation
		var nextAt, since, changed int64
		if err := rows.Scan(&o.ID, &o.Mirror, &o.Content, &o.State, &o.Reason, &o.Tries, &nextAt, &since, &changed); err != nil {
			return nil, translate(err)
		}
		o.NextAt, o.Since, o.Changed = timeOf(nextAt), timeOf(since), timeOf(changed)
		all = append(all, o)
	}
	return all, translate(rows.Err())
}
