package blob

import (
	"io/fs"
	"os"
	"syscall"
)

// A Dir is a directory from which files are opened by paths. Like an os.Root, it never opens a file outside
// of the directory, not even through symbolic links. If the kernel can enforce that, opening a path takes one
// system call instead of two for each directory in it. That saves a quarter of the time to publish small
// files.
type Dir struct {
	*os.Root
	handle *os.File // of the directory itself
}

// OpenDir opens a directory.
func OpenDir(name string) (*Dir, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	handle, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	return &Dir{root, handle}, nil
}

// Open opens a file for reading. The error is that of an os.Root.
func (d *Dir) Open(name string) (*os.File, error) {
	if f := d.beneath(name, toRead); f != nil {
		return f, nil
	}
	return d.Root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// Stat returns information about a file without opening it. The error is that of an os.Root.
func (d *Dir) Stat(name string) (fs.FileInfo, error) {
	if f := d.beneath(name, toLookAt); f != nil {
		defer f.Close()
		return f.Stat()
	}
	return d.Root.Stat(name)
}

// Close releases the directory. Opened files stay open.
func (d *Dir) Close() error {
	d.handle.Close()
	return d.Root.Close()
}
