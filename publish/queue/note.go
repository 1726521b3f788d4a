package queue

import (
	"context"
	"database/sql"
	"errors"
)

// notes is a table that older queues lack. Programs that do not know it leave it alone.
const notes = `CREATE TABLE IF NOT EXISTS note (mirror TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT`

// Note records what a process must know of a mirror after a restart. It replaces the previous note.
func (q *Queue) Note(ctx context.Context, mirror string, content []byte) error {
	return q.do(ctx, func(t *tx) error {
		return t.exec(`INSERT INTO note (mirror, content) VALUES (?, ?) ON CONFLICT (mirror) DO UPDATE SET content = excluded.content`, mirror, content)
	})
}

// Noted returns the latest note of a mirror, or nil.
func (q *Queue) Noted(ctx context.Context, mirror string) (content []byte, err error) {
	err = q.read.QueryRowContext(ctx, `SELECT content FROM note WHERE mirror = ?`, mirror).Scan(&content)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return content, translate(err)
}
