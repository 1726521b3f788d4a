package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A tree is a directory below SOURCE, read as a mirror. Files outside of root are never opened, not even
// through symbolic links.
type tree struct {
	root *blob.Dir
	dir  string // below root, slash-separated; empty for root itself
}

func (t *tree) path(name string) string { return path.Join(t.dir, name) }

// Content returns the current file of a name.
func (t *tree) Content(name string) (blob.Source, error) {
	info, err := t.root.Stat(t.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", t.path(name), mirror.ErrNotExist)
	case err != nil && strings.Contains(err.Error(), "escapes"):
		return nil, fmt.Errorf("it is a symbolic link that leads out of SOURCE")
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("it is a %s, not a regular file", kind(info.Mode()))
	}
	return blob.File(t.root, t.path(name), info), nil
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}

// Open implements mirror.Reader.
func (t *tree) Open(_ context.Context, name string) (*mirror.Object, error) {
	src, err := t.Content(name)
	if err != nil {
		return nil, err
	}
	r, err := src.Open()
	if err != nil {
		return nil, err
	}
	body := struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(r, 0, src.Size()), r}
	return &mirror.Object{Info: mirror.Info{Name: name, Size: src.Size()}, Body: body}, nil
}

// Stat implements mirror.Reader.
func (t *tree) Stat(_ context.Context, name string) (mirror.Info, error) {
	src, err := t.Content(name)
	if err != nil {
		return mirror.Info{}, err
	}
	return mirror.Info{Name: name, Size: src.Size()}, nil
}

// entries lists a directory. A missing directory is empty.
func (t *tree) entries(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(t.root.FS(), t.rel(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

func (t *tree) isDir(name string) bool {
	info, err := t.root.Stat(t.path(name))
	return err == nil && info.IsDir()
}

// rel is path in the form that package fs requires.
func (t *tree) rel(name string) string {
	if p := t.path(name); p != "" {
		return p
	}
	return "."
}
