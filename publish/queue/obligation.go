package queue

import (
	"context"
	"fmt"
	"time"
)

// Intend records an obligation before the index of a mirror is replaced. If the process dies, the obligation is
// due, because the index may have been replaced.
func (q *Queue) Intend(ctx context.Context, mirror string, content []byte, ids ...int64) (id int64, err error) {
	err = q.do(ctx, func(t *tx) error {
		id, err = t.insert(`INSERT INTO obligation (mirror, content, state, reason, tries, next_at, since, changed) VALUES (?, ?, 'intended', '', 0, ?, ?, ?)`,
			mirror, content, milli(t.now), milli(t.now), milli(t.now))
		if err != nil {
			return err
		}
		for _, job := range ids {
			if err := t.exec(`UPDATE job SET obligation = ? WHERE id = ?`, id, job); err != nil {
				return err
			}
		}
		return nil
	})
	return id, err
}

// Finish ends a run in one step: its jobs leave Publishing, and its obligation becomes due. A nil content removes
// the obligation; an empty one keeps the content given to Intend.
func (q *Queue) Finish(ctx context.Context, obligation int64, content []byte, changes ...Change) error {
	return q.do(ctx, func(t *tx) error {
		if err := t.change(Publishing, changes); err != nil {
			return err
		}
		if obligation == 0 {
			return nil
		}
		state := Due
		if content == nil {
			state = Met
		}
		n, err := t.count(`UPDATE obligation SET state = ?, content = CASE WHEN length(?) > 0 THEN ? ELSE content END, next_at = ?, changed = ? WHERE id = ? AND state = 'intended'`,
			state, content, content, milli(t.now), milli(t.now), obligation)
		if err == nil && n != 1 {
			err = fmt.Errorf("obligation %d is not intended: %w", obligation, ErrState)
		}
		return err
	})
}

// DueObligations returns the obligations of a mirror that are due now.
func (q *Queue) DueObligations(ctx context.Context, mirror string) ([]Obligation, error) {
	return q.obligations(ctx, `mirror = ? AND state = 'due' AND next_at <= ? ORDER BY id`, mirror, milli(time.Now()))
}

// Meet marks obligations as met.
func (q *Queue) Meet(ctx context.Context, ids ...int64) error {
	return q.do(ctx, func(t *tx) error {
		for _, id := range ids {
			if err := t.exec(`UPDATE obligation SET state = 'met', reason = '', content = x'', changed = ? WHERE id = ? AND state = 'due'`, milli(t.now), id); err != nil {
				return err
			}
		}
		return nil
	})
}

// Defer postpones obligations.
func (q *Queue) Defer(ctx context.Context, nextAt time.Time, reason string, ids ...int64) error {
	return q.do(ctx, func(t *tx) error {
		for _, id := range ids {
			if err := t.exec(`UPDATE obligation SET tries = tries + 1, reason = ?, next_at = ?, changed = ? WHERE id = ? AND state = 'due'`, reason, milli(nextAt), milli(t.now), id); err != nil {
				return err
			}
		}
		return nil
	})
}
