package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
)

// An op is a change whose caller waits for it.
type op struct {
	do   func(*tx) error
	done chan error
}

// group is the maximum number of operations in one commit. They arrived while the disk was busy with the
// previous commit. A commit of any size costs about a millisecond on a good disk.
const group = 256

// do carries out a change and returns when it is on disk or was not made. If ctx ends before the change has begun,
// it is not made. A change that has begun takes only as long as the disk, and writes what the caller reads
// afterwards.
func (q *Queue) do(ctx context.Context, change func(*tx) error) error {
	o := &op{do: change, done: make(chan error, 1)}
	select {
	case q.ops <- o:
	case <-q.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-o.done
}

// writer is the only goroutine that writes.
func (q *Queue) writer() {
	defer q.stopped.Done()
	w := &tx{statements: make(map[string]*sql.Stmt)}
	var err error
	if w.conn, err = q.write.Conn(context.Background()); err == nil {
		defer w.close()
	}
	for {
		select {
		case o := <-q.ops:
			batch := q.gather(o)
			if err == nil {
				q.commits++
				w.commit(batch)
				continue
			}
			answer(batch, translate(err))
		case <-q.closing:
			return
		}
	}
}

func (q *Queue) gather(first *op) []*op {
	batch := []*op{first}
	for len(batch) < group {
		select {
		case o := <-q.ops:
			batch = append(batch, o)
		default:
			return batch
		}
	}
	return batch
}

func answer(batch []*op, err error) {
	for _, o := range batch {
		o.done <- err
	}
}

// A tx is the transaction of a group of operations.
type tx struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt // prepared, by their text
	now        time.Time
}

// close lets SQLite clean up, which it does only when no statement is left.
func (t *tx) close() {
	for _, s := range t.statements {
		s.Close()
	}
	t.conn.Close()
}

// commit carries out a group of operations and answers when they are on disk. A failing operation undoes only
// itself.
func (t *tx) commit(batch []*op) {
	t.now = time.Now()
	if err := t.exec(`BEGIN IMMEDIATE`); err != nil {
		answer(batch, err)
		return
	}
	results := make([]error, len(batch))
	for i, o := range batch {
		var err error
		if results[i], err = t.alone(o.do); err != nil {
			t.exec(`ROLLBACK`)
			answer(batch, err)
			return
		}
	}
	if err := t.exec(`COMMIT`); err != nil {
		t.exec(`ROLLBACK`)
		answer(batch, err)
		return
	}
	for i, o := range batch {
		o.done <- results[i]
	}
}

// alone carries out one operation so that its failure undoes nothing else. err concerns the whole group.
func (t *tx) alone(do func(*tx) error) (result, err error) {
	if err := t.exec(`SAVEPOINT op`); err != nil {
		return nil, err
	}
	if result = defect.Caught(func() error { return do(t) }); result != nil {
		if errors.Is(result, ErrFull) || errors.Is(result, ErrDamaged) || errors.Is(result, ErrReadOnly) || errors.Is(result, ErrDisk) {
			return nil, result // SQLite may have undone the whole transaction
		}
		if err := t.exec(`ROLLBACK TO op`); err != nil {
			return nil, err
		}
	}
	return result, t.exec(`RELEASE op`)
}

func (t *tx) prepared(query string) (*sql.Stmt, error) {
	if s := t.statements[query]; s != nil {
		return s, nil
	}
	s, err := t.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, translate(err)
	}
	t.statements[query] = s
	return s, nil
}

func (t *tx) exec(query string, args ...any) error {
	_, err := t.result(query, args...)
	return err
}

func (t *tx) result(query string, args ...any) (sql.Result, error) {
	s, err := t.prepared(query)
	if err != nil {
		return nil, err
	}
	r, err := s.ExecContext(context.Background(), args...)
	return r, translate(err)
}

// count returns how many rows a statement has changed.
func (t *tx) count(query string, args ...any) (int, error) {
	r, err := t.result(query, args...)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}

func (t *tx) insert(query string, args ...any) (int64, error) {
	r, err := t.result(query, args...)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

// QueryContext implements querier.
func (t *tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := t.prepared(query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

func (t *tx) jobs(where string, args ...any) ([]Job, error) {
	return jobs(context.Background(), t, where, args...)
}

func (t *tx) job(where string, args ...any) (Job, error) {
	j, err := one(t.jobs(where, args...))
	if err != nil && !errors.Is(err, ErrNoJob) {
		err = fmt.Errorf("look for a job: %w", err)
	}
	return j, err
}
