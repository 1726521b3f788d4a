package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

const (
	database = "queue.db"

	// version is the version of the schema. A newer one is refused and not changed.
	version = 1
	// application identifies a database of this program: "slfp".
	application = 0x736c6670

	readers = 4 // connections for reading, so that a slow query does not delay others
)

var errNoDriver = errors.New("this program was built for the demo, which has no daemon and no publish exec: make build builds one that has")

const schema = `
CREATE TABLE job (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	mirror     TEXT NOT NULL,
	file       TEXT NOT NULL,
	digest     TEXT NOT NULL,
	package    TEXT NOT NULL,
	bytes      INTEGER NOT NULL,
	state      TEXT NOT NULL CHECK (state IN ('accepted', 'checking', 'ready', 'publishing', 'published', 'failed', 'cancelled')),
	reason     TEXT NOT NULL,
	attempts   INTEGER NOT NULL,
	together   INTEGER NOT NULL,
	obligation INTEGER NOT NULL,
	next_at    INTEGER NOT NULL, -- times are in milliseconds since 1970
	accepted   INTEGER NOT NULL,
	changed    INTEGER NOT NULL,
	UNIQUE (mirror, file, digest)
) STRICT;
CREATE INDEX job_state ON job (mirror, state, next_at);
CREATE INDEX job_changed ON job (changed);
CREATE TABLE obligation (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	mirror  TEXT NOT NULL,
	content BLOB,
	state   TEXT NOT NULL CHECK (state IN ('intended', 'due', 'met')),
	reason  TEXT NOT NULL,
	tries   INTEGER NOT NULL,
	next_at INTEGER NOT NULL,
	since   INTEGER NOT NULL,
	changed INTEGER NOT NULL
) STRICT;
CREATE INDEX obligation_state ON obligation (state, mirror);
`

// Open opens the queue in a directory, and makes the directory if necessary. It returns jobs claimed by a process
// that died to the queue. No other process can open the queue until Close.
func Open(ctx context.Context, dir string) (*Queue, error) {
	if !hasDriver {
		return nil, errNoDriver
	}
	q, err := open(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("queue in %s: %w", dir, err)
	}
	return q, nil
}

func open(ctx context.Context, dir string) (*Queue, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, translate(err)
	}
	l, err := acquire(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, translate(err)
	}
	q := &Queue{lock: l, ops: make(chan *op), closing: make(chan struct{})}
	if err := q.connect(filepath.Join(dir, database)); err != nil {
		return nil, errors.Join(err, l.release())
	}
	q.stopped.Add(1)
	go q.writer()
	q.close = sync.OnceValue(q.shut)
	if err := q.prepare(ctx); err != nil {
		q.Close()
		return nil, err
	}
	return q, nil
}

// connect passes the settings of each connection in its name, so that every connection has them.
func (q *Queue) connect(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600) // SQLite would make it readable by others
	if err != nil {
		return translate(err)
	}
	f.Close()
	name := "file:" + (&url.URL{Path: file}).EscapedPath() + "?_pragma=busy_timeout(10000)"
	if q.write, err = sql.Open("sqlite", name+"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"); err != nil {
		return err
	}
	q.write.SetMaxOpenConns(1)
	if q.read, err = sql.Open("sqlite", name+"&_pragma=query_only(1)"); err != nil {
		return err
	}
	q.read.SetMaxOpenConns(readers)
	return nil
}

// prepare checks that the database is intact and belongs to this program, and recovers jobs.
func (q *Queue) prepare(ctx context.Context) error {
	return q.do(ctx, func(t *tx) error {
		tables, err := t.number(`SELECT count(*) FROM sqlite_schema`)
		if err != nil {
			return err
		}
		if tables == 0 {
			return errors.Join(t.create(), t.exec(notes))
		}
		if err := t.inspect(); err != nil {
			return err
		}
		if err := t.exec(notes); err != nil {
			return err
		}
		return t.recover()
	})
}

func (t *tx) create() error {
	for _, s := range append(strings.SplitAfter(schema, ";\n"), fmt.Sprintf(`PRAGMA application_id = %d`, application), fmt.Sprintf(`PRAGMA user_version = %d`, version)) {
		if strings.TrimSpace(s) == "" {
			continue
		}
		if _, err := t.conn.ExecContext(context.Background(), s); err != nil {
			return translate(err)
		}
	}
	return nil
}

func (t *tx) inspect() error {
	id, err := t.number(`PRAGMA application_id`)
	if err != nil {
		return err
	}
	if id != application {
		return fmt.Errorf("%w: %s is not a queue", ErrDamaged, database)
	}
	written, err := t.number(`PRAGMA user_version`)
	if err != nil {
		return err
	}
	if written > version {
		return fmt.Errorf("%w: it has version %d, this program knows %d", ErrNewer, written, version)
	}
	var said string
	if err := t.conn.QueryRowContext(context.Background(), `PRAGMA quick_check(1)`).Scan(&said); err != nil {
		return translate(err)
	}
	if said != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, said)
	}
	return nil
}

func (t *tx) number(query string) (int64, error) {
	var n int64
	err := t.conn.QueryRowContext(context.Background(), query).Scan(&n)
	return n, translate(err)
}

// translate turns an error of SQLite or the system into one of this package.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	if kind := kindOf(err); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	return err
}
