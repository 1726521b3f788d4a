//go:build !demo

package queue

import (
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// hasDriver says that this program has a database for queues.
const hasDriver = true

// kindOf is what an error of SQLite is in our words; nil: it is no such error, or of no such kind.
func kindOf(err error) error {
	var known *sqlite.Error
	if !errors.As(err, &known) {
		return nil
	}
	switch known.Code() & 0xff { // the rest says more of the same
	case sqlite3.SQLITE_FULL:
		return ErrFull
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return ErrDamaged
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return ErrReadOnly
	case sqlite3.SQLITE_IOERR:
		return ErrDisk
	}
	return nil
}
