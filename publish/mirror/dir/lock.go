package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

var (
	// errLocked reports that another process holds the lock.
	errLocked = errors.New("locked")
	// errNoLocks reports that the file system has no locks.
	errNoLocks = errors.New("the file system has no locks (flock); on Lustre, mount it with -o flock")
)

// tryLock locks an open file. Closing the file, or the death of the process, releases the lock.
func tryLock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.ENOLCK):
			return fmt.Errorf("%w: %w", errNoLocks, err)
		default:
			return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}

// lock waits until no other goroutine, of this process or another, replaces or removes objects. The caller must
// call unlock.
func (d *Dir) lock(ctx context.Context, root *os.Root) (unlock func(), err error) {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f, err := waitLock(ctx, root)
	if err != nil {
		<-d.turn
		return nil, err
	}
	return func() {
		f.Close()
		<-d.turn
	}, nil
}

// waitLock polls, because ctx could not interrupt a blocking call. The lock is held only for reading one object, at
// most an index, and a rename.
func waitLock(ctx context.Context, root *os.Root) (*os.File, error) {
	const longest = 25 * time.Millisecond
	for wait := time.Millisecond; ; wait = min(2*wait, longest) {
		f, err := takeLock(root)
		if !errors.Is(err, errLocked) {
			return f, err
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func takeLock(root *os.Root) (*os.File, error) {
	f, err := root.OpenFile(lockPath, os.O_RDWR|os.O_CREATE, fileMode)
	if errors.Is(err, fs.ErrNotExist) { // .publish was removed
		if err = root.MkdirAll(newPath, dirMode); err == nil {
			err = errLocked
		}
	}
	if err != nil {
		return nil, err
	}
	there := false
	if err = tryLock(f); err == nil {
		there, err = isAt(root, lockPath, f)
	}
	if err == nil && !there {
		err = errLocked // the lock file was replaced: other publishers use another one
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
