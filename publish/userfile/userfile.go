// Package userfile reads the files that a user names: keys, certificates, configurations.
//
// A name may lead to anything. A pipe would keep the process waiting, where no signal and no timeout reaches it, and a
// device may have no end. So only regular files are read, and no more of them than MaxSize.
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

// MaxSize is the most bytes that a file may have.
const MaxSize = 16 << 20

// ErrNotRegular is why a pipe, a device, a socket or a directory is not read.
var ErrNotRegular = errors.New("not a regular file")

// ErrTooLarge is why a file with more than MaxSize bytes is not read.
var ErrTooLarge = fmt.Errorf("it has more than %d bytes", MaxSize)

// errText is a file's content in the place of its name. It may be a private key, so it is not shown.
var errText = errors.New("this is the text of a key or a certificate, and the name of its file is wanted")

// Read returns the content of a file. Symbolic links are followed. Errors are of type *fs.PathError, but for
// that of a name which is the text of a key.
func Read(name string) ([]byte, error) { return read(name, os.Stat, 0) }

// ReadNoLink is Read for a file whose name has been resolved: it must not be a symbolic link now.
func ReadNoLink(name string) ([]byte, error) { return read(name, os.Lstat, syscall.O_NOFOLLOW) }

// Check returns the error that Read would return for what the file is. The file is not opened.
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
	// To open a device may have effects, so what it is comes first.
	info, err := stat(name)
	if err != nil {
		var e *fs.PathError
		if errors.As(err, &e) {
			e.Op = "open" // for the user that is what could not be done
		}
		return nil, err
	}
	if err := check(name, info); err != nil {
		return nil, err
	}
	// What was a file may be a pipe by now.
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
	if err == nil && len(content) > MaxSize { // it has grown, or did not tell its size
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

// Kind says what a file is that is not a regular one.
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
