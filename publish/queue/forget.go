package queue

import (
	"context"
	"slices"
	"time"
)

// Forget removes jobs that ended before a time, except those that keep selects.
func (q *Queue) Forget(ctx context.Context, before time.Time, keep func(Job) bool) (n int, err error) {
	old, err := q.Jobs(ctx, Filter{States: []State{Published, Failed, Cancelled}, Before: before})
	if err != nil {
		return 0, err
	}
	old = slices.DeleteFunc(old, keep)
	err = q.do(ctx, func(t *tx) error {
		n = 0
		for _, j := range old {
			gone, err := t.count(`DELETE FROM job WHERE id = ? AND state = ? AND changed = ?`, j.ID, j.State, milli(j.Changed))
			if err != nil {
				return err
			}
			n += gone
		}
		return t.exec(`DELETE FROM obligation WHERE state = 'met' AND changed < ?`, milli(before))
	})
	return n, err
}

// A Dropped describes a mirror that Drop has removed.
type Dropped struct {
	Mirror      string `json:"mirror"`
	Jobs        int    `json:"jobs"`
	Obligations int    `json:"obligations"` // that were unmet
}

// Drop removes everything recorded of the mirrors that drop selects.
func (q *Queue) Drop(ctx context.Context, drop func(mirror string) bool) (dropped []Dropped, err error) {
	err = q.do(ctx, func(t *tx) error {
		dropped = nil
		mirrors, err := t.mirrors()
		if err != nil {
			return err
		}
		for _, mirror := range mirrors {
			if !drop(mirror) {
				continue
			}
			d := Dropped{Mirror: mirror}
			if d.Jobs, err = t.count(`DELETE FROM job WHERE mirror = ?`, mirror); err != nil {
				return err
			}
			if d.Obligations, err = t.count(`DELETE FROM obligation WHERE mirror = ? AND state != 'met'`, mirror); err != nil {
				return err
			}
			if err := t.exec(`DELETE FROM obligation WHERE mirror = ?`, mirror); err != nil {
				return err
			}
			if err := t.exec(`DELETE FROM note WHERE mirror = ?`, mirror); err != nil {
				return err
			}
			dropped = append(dropped, d)
		}
		return nil
	})
	return dropped, err
}

// mirrors returns the mirrors that have jobs or obligations.
func (t *tx) mirrors() ([]string, error) {
	rows, err := t.QueryContext(context.Background(), `SELECT mirror FROM job UNION SELECT mirror FROM obligation ORDER BY mirror`)
	if err != nil {
		return nil, translate(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var mirror string
		if err := rows.Scan(&mirror); err != nil {
			return nil, translate(err)
		}
		all = append(all, mirror)
	}
	return all, translate(rows.Err())
}
