package blob

import (
	"os"

	"golang.org/x/sys/unix"
)

// Flags for opening a file.
const (
	toRead   = unix.O_RDONLY | unix.O_NONBLOCK
	toLookAt = unix.O_PATH
)

// beneath opens a file with one system call. It returns nil if that fails for any reason: the kernel is older
// than 5.6, a sandbox forbids the call, or the file does not exist. The caller then tries os.Root, which
// returns the error.
func (d *Dir) beneath(name string, how int) *os.File {
	fd, err := unix.Openat2(int(d.handle.Fd()), name, &unix.OpenHow{
		Flags:   uint64(how | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), name)
}
