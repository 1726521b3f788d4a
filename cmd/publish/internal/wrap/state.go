package wrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
)

// execPrefix is the prefix of the directories of publish exec.
const execPrefix = "publish-exec-"

// A stateDir holds the socket and the queue of one publish exec. It is locked while the process lives, so the
// directory of a killed process can be recognised.
type stateDir struct {
	path string
	lock *os.File
}

// newStateDir makes a directory below TMPDIR, or below /tmp if the path of a socket in it would be too long. It
// removes the directories of dead processes.
func newStateDir() (*stateDir, error) {
	tmp := os.TempDir()
	if api.CheckSocket(filepath.Join(tmp, execPrefix+"0123456789", "socket")) != nil {
		tmp = "/tmp"
	}
	clearAbandoned(tmp)
	for {
		d, err := lockedDir(tmp)
		if err != nil {
			return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("%w: %w", cli.ErrNoTempDir, err))
		}
		if d != nil {
			return d, nil
		}
	}
}

// lockedDir makes a directory and locks it. It returns nil if another process removed it as abandoned before it
// was locked.
func lockedDir(tmp string) (*stateDir, error) {
	path, err := os.MkdirTemp(tmp, execPrefix)
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	// Without locks, as on some NFS, no directory counts as abandoned.
	locked := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if _, err := os.Lstat(lock.Name()); err != nil || errors.Is(locked, unix.EWOULDBLOCK) {
		lock.Close()
		return nil, nil
	}
	return &stateDir{path, lock}, nil
}

// remove removes the directory. Nothing is lost: the next run finds unpublished packages in SOURCE.
func (d *stateDir) remove() {
	os.RemoveAll(d.path)
	d.lock.Close()
}

// clearAbandoned removes the directories of killed processes.
func clearAbandoned(tmp string) {
	entries, _ := os.ReadDir(tmp) // an unreadable directory is reported when a new one is made in it
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), execPrefix) && e.IsDir() {
			removeAbandoned(filepath.Join(tmp, e.Name()))
		}
	}
}

// young is the age below which a directory without a lock may be about to be locked.
const young = time.Minute

func removeAbandoned(path string) {
	info, err := os.Lstat(path)
	if err != nil || !ours(info) {
		return
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) && time.Since(info.ModTime()) > young {
		os.RemoveAll(path)
	}
	if err != nil {
		return
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		os.RemoveAll(path)
	}
}

func ours(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}
