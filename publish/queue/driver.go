//go:build !demo

package queue

import (
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// hasDriver is true if this program has a database for queues.
const hasDriver = true

// kindOf returns the error of this package that corresponds to an error of SQLite, or nil.
func kindOf(err error) error {
	var known *sqlite.Error
	if !errors.As(err, &known) {
		return nil
	}
	switch known.Code() & 0xff { // the other bits are details
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
