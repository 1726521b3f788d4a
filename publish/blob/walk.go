package blob

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// MaxDepth is the maximum nesting of directories in a walked tree. A tree of mirrors has about ten levels.
const MaxDepth = 100

// ErrTooDeep means that directories are nested deeper than MaxDepth.
var ErrTooDeep = fmt.Errorf("directories are nested more than %d deep", MaxDepth)

// Walk calls visit for the file or directory at name and for everything below it, in the order of names, as
// fs.WalkDir does. It ends when ctx ends. A directory that is nested too deep is visited with ErrTooDeep and
// not entered. Symbolic links are not followed.
func (d *Dir) Walk(ctx context.Context, name string, visit fs.WalkDirFunc) error {
	return fs.WalkDir(d.FS(), name, func(full string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && e.IsDir() && strings.Count(full, "/") >= MaxDepth {
			err = &fs.PathError{Op: "walk", Path: full, Err: ErrTooDeep}
			if err := visit(full, e, err); err != nil {
				return err
			}
			return fs.SkipDir
		}
		return visit(full, e, err)
	})
}

// FS returns the directory as a file system in which opening a file never blocks.
func (d *Dir) FS() fs.FS { return dirFS{d} }

type dirFS struct{ dir *Dir }

// Open implements fs.FS.
func (f dirFS) Open(name string) (fs.File, error) {
	if err := valid("open", name); err != nil {
		return nil, err
	}
	return f.dir.Open(name)
}

// Stat implements fs.StatFS.
func (f dirFS) Stat(name string) (fs.FileInfo, error) {
	if err := valid("stat", name); err != nil {
		return nil, err
	}
	return f.dir.Stat(name)
}

// ReadDir implements fs.ReadDirFS. It is an error if the directory has been replaced by a file.
func (f dirFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := valid("readdir", name); err != nil {
		return nil, err
	}
	// A file of an os.Root reads information about its entries below the root.
	h, err := f.dir.Root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	entries, err := h.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

func valid(op, name string) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}
