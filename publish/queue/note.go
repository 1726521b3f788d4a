package queue

import (
	"context"
	"database/sql"
	"errors"
)

// notes is a table that queues of before did not have. A program that does not know it leaves it alone.
const notes = `CREATE TABLE IF NOT EXISTS note (mirror TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT`

// Note records what is to be known of a mirror after a restart, in place of what was noted before.
func (q *Queue) Note(ctx context.Context, mirror string, content []byte) error {
	return q.do(ctx, func(t *tx) error {
		return t.exec(`INSERT INTO note (mirror, content) VALUES (?, ?) ON CONFLICT (mirror) DO UPDATE SET content = excluded.content`, mirror, content)
	})
}

// Noted returns what was noted last of a mirror; nil: nothing.
func (q *Queue) Noted(ctx context.Context, mirror string) (content []byte, err error) {
	err = q.read.QueryRowContext(ctx, `SELECT content FROM note WHERE mirror = ?`, mirror).Scan(&content)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return content, translate(err)
}
