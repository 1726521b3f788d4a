package queue

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// A lock excludes other processes. The system releases it when its holder dies.
type lock struct{ file *os.File }

func acquire(name string) (*lock, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := os.ReadFile(name)
		f.Close()
		return nil, fmt.Errorf("%w (%s)", ErrInUse, strings.TrimSpace(string(holder)))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	// For operators only; the lock itself decides.
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "process %d\n", os.Getpid())
	}
	return &lock{f}, nil
}

func (l *lock) release() error { return l.file.Close() }
