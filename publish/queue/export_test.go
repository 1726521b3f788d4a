package queue

import "context"

// Commits is how often a closed queue has written to the disk.
func (q *Queue) Commits() int { return q.commits }

// Exec changes the database behind the queue's back.
func (q *Queue) Exec(statement string) error {
	return q.do(context.Background(), func(t *tx) error { return t.exec(statement) })
}

// Number asks the connection that writes.
func (q *Queue) Number(query string) (n int64, err error) {
	err = q.do(context.Background(), func(t *tx) error {
		n, err = t.number(query)
		return err
	})
	return n, err
}
