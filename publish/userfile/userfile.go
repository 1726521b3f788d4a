// Package userfile reads the files that a user names: keys, certificates, configurations.
//
// A name may be that of any file. A pipe could block the process, unaffected by signals and timeouts, and a
// device may have no end. So only regular files are read, up to MaxSize.
package userfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// MaxSize is the maximum size of a file in bytes.
const MaxSize = 16 << 20

// ErrNotRegular is the error for a pipe, a device, a socket or a directory.
var ErrNotRegular = errors.New("not a regular file")

// ErrTooLarge is the error for a file of more than MaxSize bytes.
var ErrTooLarge = fmt.Errorf("it has more than %d bytes", MaxSize)

// errText is the error for content in place of a file name. It may be a private key, so it is not shown.
var errText = errors.New("this is the text of a key or a certificate, and the name of its file is wanted")

// Read returns the content of a file. Symbolic links are followed. Errors are of type *fs.PathError, except for
// a name that is the text of a key.
func Read(name string) ([]byte, error) { return read(name, os.Stat, 0) }

// ReadNoLink is Read for a file whose name has been resolved: it must not be a symbolic link.
func ReadNoLink(name string) ([]byte, error) { return read(name, os.Lstat, syscall.O_NOFOLLOW) }

// Check returns the error that Read would return because of the kind or size of the file. It does not open the
// file.
func Check(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	return check(name, info)
}

func read(name string, stat func(string) (fs.FileInfo, error), flag int) ([]byte, error) {
	if strings.Contains(name, "-----BEGIN ") {
		return nil, errText
	}
	// Opening a device may have effects, so check the kind of file first.
	info, err := stat(name)
	if err != nil {
		var e *fs.PathError
		if errors.As(err, &e) {
			e.Op = "open" // for the user, opening failed
		}
		return nil, err
	}
	if err := check(name, info); err != nil {
		return nil, err
	}
	// The file may have become a pipe meanwhile.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|flag, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if err := check(name, info); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(content) > MaxSize { // it has grown, or has no known size
		err = refuse(name, ErrTooLarge)
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}

func check(name string, info fs.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return refuse(name, fmt.Errorf("it is %s, %w", Kind(info.Mode()), ErrNotRegular))
	case info.Size() > MaxSize:
		return refuse(name, ErrTooLarge)
	}
	return nil
}

func refuse(name string, why error) error {
	return &fs.PathError{Op: "read", Path: name, Err: why}
}

// Kind names the kind of a file that is not regular.
func Kind(mode fs.FileMode) string {
	switch mode.Type() {
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a pipe"
	case fs.ModeSocket:
		return "a socket"
	}
	return "a device"
}
