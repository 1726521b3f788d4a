// Package dir keeps mirrors in a directory of a local disk, or of a shared file system that a web server exports.
//
// An object is a plain file under its own name, and is complete from the moment it becomes visible. The directory
// .publish at the top holds everything else: the lock for replacing and removing objects, and files that are being
// written. Listings leave .publish out, and no object name leads into it. A writer locks its files while it lives,
// so the next publisher recognises and removes the files of a dead one. Removing .publish while no publisher is at
// work does no harm.
//
// Publishers on several hosts exclude each other if the locks of the file system (flock) do.
package dir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

const (
	// The umask applies as it does for cp, also to the write permission of a site's group. Others never get write
	// permission.
	fileMode fs.FileMode = 0o664
	dirMode  fs.FileMode = 0o775

	hidden   = ".publish"
	lockPath = hidden + "/lock"
	newPath  = hidden + "/new"
)

// Options configure a Dir beyond its path.
type Options struct {
	// Log receives a line for each file of a dead publisher that was removed. Nil disables it.
	Log *slog.Logger
}

// A Dir is a directory that holds mirrors.
type Dir struct {
	path string
	log  *slog.Logger

	// turn has one token. A goroutine holds it while it holds the lock of the directory or waits for it, so at most
	// one goroutine of the process polls.
	turn chan struct{}

	mu    sync.Mutex // guards the fields below, also while the directory is being made
	root  *os.Root   // nil until the directory was found
	stale []*os.Root // earlier values of root: see renew
	ready bool       // root is writable: .publish exists, without files of dead publishers

	durable sync.Map // paths of directories whose own entry is on disk

	link func(root *os.Root, from, to string) error // (*os.Root).Link, except in tests
}

// Open returns the directory at path. If it does not exist, the first write makes it, and until then it has no
// objects.
func Open(path string, opts Options) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	d := &Dir{path: abs, log: opts.Log, turn: make(chan struct{}, 1), link: (*os.Root).Link}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if _, err := d.existing(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, refine("read", path, abs, err))
	}
	return d, nil
}

// Close closes the directory. No call may be in progress.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, root := range append(d.stale, d.root) {
		if root != nil {
			errs = append(errs, root.Close())
		}
	}
	d.stale, d.root = nil, nil
	return errors.Join(errs...)
}

// Mirror returns the mirror at rel, a slash-separated relative path; "." is the directory itself.
func (d *Dir) Mirror(rel string) *Mirror {
	if rel == "." || rel == "" {
		return &Mirror{dir: d}
	}
	return &Mirror{dir: d, below: rel + "/"}
}

// existing returns the directory, or an error if it does not exist.
func (d *Dir) existing() (*os.Root, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opened()
}

// found calls try with the directory, which must exist. If an NFS server no longer knows the open directory, it
// tries again.
func (d *Dir) found(try func(root *os.Root) error) error {
	for n := 1; ; n++ {
		root, err := d.existing()
		if err == nil {
			err = try(root)
		}
		if n == attempts || !errors.Is(err, syscall.ESTALE) {
			return err
		}
		d.renew(root)
	}
}

// renew opens the directory again unless another goroutine has done so. It is called after ESTALE: an NFS server
// was restarted or the directory was replaced. A nil stale means the directory that is open now.
func (d *Dir) renew(stale *os.Root) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if stale != nil && d.root != stale || d.root == nil {
		return
	}
	d.stale = append(d.stale, d.root) // others may be using it
	d.root, d.ready = nil, false
	d.durable.Clear()
}

// opened is existing for callers that hold d.mu.
func (d *Dir) opened() (*os.Root, error) {
	if d.root != nil {
		return d.root, nil
	}
	root, err := os.OpenRoot(d.path)
	if err == nil {
		d.root = root
	}
	return root, err
}

// writable returns the directory, and makes it if necessary. The first call removes the files of dead publishers.
func (d *Dir) writable() (*os.Root, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready {
		return d.root, nil
	}
	if d.root == nil {
		if err := makeDir(d.path); err != nil {
			return nil, err
		}
	}
	root, err := d.opened()
	if err != nil {
		return nil, err
	}
	if err := root.MkdirAll(newPath, dirMode); err != nil {
		return nil, err
	}
	d.sweep(root)
	d.ready = true
	return root, nil
}

// makeDir is a durable os.MkdirAll.
func makeDir(dir string) error {
	err := os.Mkdir(dir, dirMode)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, dirMode) // only once more: in places such as /proc it never succeeds
	}
	switch {
	case err == nil:
		return syncPath(filepath.Dir(dir))
	case errors.Is(err, fs.ErrExist):
		return followed(dir)
	}
	return err
}

// followed returns an error if dir is not a directory, such as a dangling link.
func followed(dir string) error {
	info, err := os.Stat(dir)
	if target, linked := os.Readlink(dir); linked == nil && err != nil {
		return fmt.Errorf("%s is a symbolic link to %s: %w", dir, target, err)
	}
	if err == nil && !info.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	return err
}

func syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return syncDir(f)
}

// syncDir makes the entries of a directory durable and closes it. File systems that do not support fsync of a
// directory are accepted: they offer nothing better.
func syncDir(f *os.File) error {
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// sync makes the entries of dir durable.
func (d *Dir) sync(root *os.Root, dir string) error {
	f, err := root.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return syncDir(f)
}

// ensure makes dir and its parents durably. An existing directory may not be durable yet, because its maker may
// have died.
func (d *Dir) ensure(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if _, ok := d.durable.Load(dir); ok {
		return nil
	}
	if err := d.ensure(root, path.Dir(dir)); err != nil {
		return err
	}
	if err := root.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.sync(root, path.Dir(dir)); err != nil {
		return err
	}
	d.durable.Store(dir, true)
	return nil
}

// errName reports a name that no object can have.
var errName = errors.New("not a clean relative name")

// check refuses names that lead out of the directory or into .publish, and names that no file can have.
func check(full string) error {
	if !fs.ValidPath(full) || full == "." || full == hidden || strings.HasPrefix(full, hidden+"/") || strings.Contains(full, "\x00") {
		return errName
	}
	return nil
}

// openObject opens the regular file at full. Any other kind of file is not an object. O_NONBLOCK keeps it from
// waiting for the other end of a pipe.
func openObject(root *os.Root, full string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(full, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("it is no regular file (%v): %w", info.Mode().Type(), fs.ErrNotExist)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// version identifies a state by inode, size and time. Each write makes a new file with a later time than before
// (see temp.stamp), so versions differ even if the clock is coarse or the file system reuses inode numbers.
func version(info fs.FileInfo) mirror.Version {
	inode := info.Sys().(*syscall.Stat_t).Ino
	return mirror.Version(fmt.Sprintf("%x-%x-%x", inode, info.Size(), info.ModTime().UnixNano()))
}

// A sourceError is an error of the uploaded content, not of the directory.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

// refine turns an error of the file system into the errors that callers of a mirror branch on.
func refine(action, name, dir string, err error) error {
	var source sourceError
	switch {
	case errors.As(err, &source):
		return source.error
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w in %s: %w", mirror.ErrFull, dir, err)
	case errors.Is(err, syscall.EROFS):
		return &mirror.DeniedError{Action: action, Name: name, Detail: fmt.Sprintf("%v, below %s", err, dir), Err: syscall.EROFS}
	case errors.Is(err, fs.ErrPermission):
		return &mirror.DeniedError{Action: action, Name: name, Detail: fmt.Sprintf("%v, below %s", err, dir)}
	case action == "read" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)):
		return fmt.Errorf("%w in %s: %w", mirror.ErrNotExist, dir, err)
	case errors.Is(err, syscall.EXDEV):
		return fmt.Errorf("%w: %s and what is below it must be one file system", err, dir)
	}
	return err
}

// body reads a file. It fails if the file ends before the size that it had when it was opened.
type body struct {
	*os.File
	left int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.File.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
