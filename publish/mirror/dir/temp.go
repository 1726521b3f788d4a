package dir

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A temp is an object while it is being written. Its writer holds a lock on it until
// it is an object, or gone.
type temp struct {
	root *os.Root
	file *os.File
	path string
}

// newTemp begins the object at full. If its file is removed again and again, the error is errAgain.
func newTemp(root *os.Root, full string) (*temp, error) {
	for range attempts {
		t, err := tryTemp(root, full)
		if !errors.Is(err, errAgain) {
			return t, err
		}
	}
	return nil, errAgain
}

func tryTemp(root *os.Root, full string) (*temp, error) {
	t := &temp{root: root, path: tempPath(full, newID())}
	var err error
	t.file, err = root.OpenFile(t.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err = root.MkdirAll(path.Dir(t.path), dirMode); err == nil {
			err = errAgain
		}
	}
	if err != nil {
		return nil, err
	}
	err = tryLock(t.file)
	if errors.Is(err, errNoLocks) {
		return t, nil // sweep will not touch it either
	}
	there := false
	if err == nil {
		there, err = isAt(t.root, t.path, t.file)
	}
	if there {
		return t, nil
	}
	t.drop()
	if err == nil || errors.Is(err, errLocked) {
		err = errAgain // a sweep has come between creation and lock
	}
	return nil, err
}

// gone reports whether the file was removed. What cannot be looked at is not gone.
func (t *temp) gone() bool {
	there, err := isAt(t.root, t.path, t.file)
	return !there && err == nil
}

// isAt reports whether f is still what path leads to.
func isAt(root *os.Root, path string, f *os.File) (bool, error) {
	there, err := root.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(there, info), nil
}

// drop ends the temp, whatever has become of its content. What it cannot remove, the next
// sweep does. NFS would keep a file that is removed while it is open.
func (t *temp) drop() {
	t.file.Close()
	t.root.Remove(t.path)
}

// receive writes u's content, durably, and checks that it is what was promised. From
// then on u promises what has been written.
func (t *temp) receive(ctx context.Context, u *mirror.Upload) error {
	content, err := u.Content.Open()
	if err != nil {
		return sourceError{err}
	}
	defer content.Close()
	h := sha256.New()
	if err := copyAll(ctx, io.MultiWriter(t.file, h), source{content}, u.Content.Size(), u.Sent); err != nil {
		return err
	}
	got := blob.Digest(h.Sum(nil))
	if u.Digest.Known() && got != u.Digest {
		size := u.Content.Size()
		return &blob.MismatchError{Name: u.Name, WantSize: size, GotSize: size, Want: u.Digest, Got: got}
	}
	u.Digest = got
	if err := t.stamp(time.Time{}); err != nil {
		return err
	}
	return t.file.Sync()
}

// source marks the errors of what is uploaded.
type source struct{ io.ReaderAt }

func (s source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	return n, sourceError{cmp.Or(err, io.ErrUnexpectedEOF)}
}

// pieces are what content is read and written by: at most so much goes on after the
// context has ended.
var pieces = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// copyAll writes size bytes of r to w and tells how many at each step.
func copyAll(ctx context.Context, w io.Writer, r io.ReaderAt, size int64, wrote func(int64)) error {
	buf := pieces.Get().(*[256 << 10]byte)
	defer pieces.Put(buf)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := buf[:min(int64(len(buf)), size-off)]
		n, err := r.ReadAt(piece, off)
		if n < len(piece) {
			return cmp.Or(err, io.ErrUnexpectedEOF)
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		off += int64(n)
		if wrote != nil {
			wrote(int64(n))
		}
	}
	return ctx.Err()
}

// stamp makes the file's time now, but later than after. A file system that keeps
// whole seconds, or every other one, needs more of a step than one nanosecond.
func (t *temp) stamp(after time.Time) error {
	for _, step := range []time.Duration{1, time.Microsecond, time.Millisecond, time.Second, 2 * time.Second} {
		when := time.Now()
		if earliest := after.Add(step); when.Before(earliest) {
			when = earliest
		}
		err := t.root.Chtimes(t.path, when, when)
		// Where all users are squashed into one, the file may not be ours. It is new, so its time is likely
		// to do as it is.
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return t.spoilt(err)
		}
		info, err := t.file.Stat()
		if err != nil {
			return err
		}
		if info.ModTime().After(after) {
			return nil
		}
	}
	return fmt.Errorf("the file system keeps no times: cannot tell states of an object apart")
}

// spoilt is err, or errAgain where the reason is that the file was removed.
func (t *temp) spoilt(err error) error {
	if errors.Is(err, fs.ErrNotExist) && t.gone() {
		return errAgain
	}
	return err
}

// version is that of the object which the temp becomes.
func (t *temp) version() (mirror.Version, error) {
	info, err := t.file.Stat()
	if err != nil {
		return mirror.Absent, err
	}
	return version(info), nil
}

// replace makes the temp the next state, after now, of the object at full. The caller
// holds the lock.
func (t *temp) replace(d *Dir, full string, now fs.FileInfo) (mirror.Version, error) {
	if err := t.stamp(now.ModTime()); err != nil {
		return mirror.Absent, err
	}
	is, err := t.version()
	if err != nil {
		return mirror.Absent, err
	}
	err = t.permit(full)
	if err == nil {
		err = t.root.Rename(t.path, full)
	}
	if err != nil {
		return mirror.Absent, t.spoilt(err)
	}
	return is, d.sync(t.root, path.Dir(full))
}

// reveal makes the temp the object at full, if there is none. The error is fs.ErrExist
// if there is something.
func (d *Dir) reveal(ctx context.Context, t *temp, full string) error {
	err := d.linkTo(t, full)
	if !cannotLink(err) {
		return err
	}
	unlock, err := d.lock(ctx, t.root)
	if err != nil {
		return err
	}
	defer unlock()
	return d.renameTo(t, full)
}

// cannotLink reports whether the file system has no hard links, or says so. BeeGFS has none from one directory
// into another (EXDEV).
func cannotLink(err error) bool {
	for _, no := range []error{syscall.EPERM, errors.ErrUnsupported, syscall.EMLINK, syscall.EXDEV} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// revealLocked is reveal for who holds the lock.
func (d *Dir) revealLocked(t *temp, full string) error {
	err := d.linkTo(t, full)
	if !cannotLink(err) {
		return err
	}
	return d.renameTo(t, full)
}

func (d *Dir) linkTo(t *temp, full string) error {
	return d.enter(t, full, func() error { return d.link(t.root, t.path, full) })
}

// renameTo is for file systems without hard links. Only the lock keeps two publishers
// from replacing each other's object there.
func (d *Dir) renameTo(t *temp, full string) error {
	return d.enter(t, full, func() error {
		if _, err := t.root.Lstat(full); err == nil {
			return fs.ErrExist
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return t.root.Rename(t.path, full)
	})
}

// enter has act make the entry of full in its directory, and makes that durable.
func (d *Dir) enter(t *temp, full string, act func() error) error {
	if err := d.ensure(t.root, path.Dir(full)); err != nil {
		return err
	}
	err := t.permit(full)
	if err == nil {
		err = act()
	}
	if errors.Is(err, fs.ErrNotExist) && !t.gone() {
		// The directory that we knew of was removed.
		d.durable.Clear()
		return errAgain
	}
	if err != nil {
		return t.spoilt(err)
	}
	return d.sync(t.root, path.Dir(full))
}

// ensureEntry makes the entry of what is at full durable, and those of its directories.
func (d *Dir) ensureEntry(root *os.Root, full string) error {
	if err := d.ensure(root, path.Dir(full)); err != nil {
		return err
	}
	return d.sync(root, path.Dir(full))
}

// The path of a temp tells what is to become of it: below newPath, the object's name as
// one element, or as several where it is too long for one, and the upload's ID.
var (
	escape   = strings.NewReplacer("%", "%25", "/", "%2F")
	unescape = strings.NewReplacer("%2F", "/", "%25", "%")
)

// maxElement leaves room for an ID in the 255 bytes that an element may have.
const maxElement = 200

func tempPath(full, id string) string {
	rest := escape.Replace(full)
	p := newPath
	for len(rest) > maxElement {
		cut := maxElement
		for !utf8.RuneStart(rest[cut]) { // some file systems take UTF-8 only
			cut--
		}
		p += "/" + rest[:cut]
		rest = rest[cut:]
	}
	return p + "/" + rest + "." + id
}

// parseTempPath is the inverse of tempPath.
func parseTempPath(p string) (full, id string, err error) {
	escaped, ok := strings.CutPrefix(p, newPath+"/")
	dot := strings.LastIndexByte(escaped, '.')
	if !ok || dot < 0 {
		return "", "", fmt.Errorf("%s: no upload's path", p)
	}
	return unescape.Replace(strings.ReplaceAll(escaped[:dot], "/", "")), escaped[dot+1:], nil
}

// newID returns an upload's ID: when it was begun, and what makes it the only one.
func newID() string {
	var unique [8]byte
	rand.Read(unique[:])
	return strconv.FormatInt(time.Now().UnixNano(), 16) + "-" + hex.EncodeToString(unique[:])
}

// parseID returns when the upload was begun.
func parseID(id string) (time.Time, error) {
	began, unique, _ := strings.Cut(id, "-")
	nanoseconds, err := strconv.ParseInt(began, 16, 64)
	if _, bad := hex.DecodeString(unique); err != nil || bad != nil || unique == "" {
		return time.Time{}, fmt.Errorf("%q: no upload's ID", id)
	}
	return time.Unix(0, nanoseconds), nil
}

// A trace is what tells of a temp from outside.
type trace struct {
	full, id, path string
	started        time.Time
}

// temps returns the traces of all temps, of the dead and the living.
func (d *Dir) temps(ctx context.Context) (all []trace, err error) {
	err = d.found(func(root *os.Root) error {
		all, err = tempsIn(ctx, root)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}

// tempsIn is temps of a directory that is there. With an error it returns those that it has found.
func tempsIn(ctx context.Context, root *os.Root) (all []trace, err error) {
	err = fs.WalkDir(root.FS(), newPath, func(p string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // finished meanwhile, or nobody has ever written here
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		full, id, err := parseTempPath(p)
		if err != nil {
			return nil // not ours
		}
		started, err := parseID(id)
		if err != nil {
			return nil // not ours
		}
		all = append(all, trace{full, id, p, started})
		return nil
	})
	return all, err
}

// sweep removes the temps of the dead. It does what it can: nothing depends on it.
func (d *Dir) sweep(root *os.Root) {
	all, err := tempsIn(context.Background(), root)
	d.notSwept(err)
	for _, t := range all {
		swept, err := sweepOne(root, t.path)
		d.notSwept(err)
		if swept && err == nil {
			d.log.Info("removed what a dead publisher has left", "object", t.full, "begun", t.started)
		}
	}
}

func (d *Dir) notSwept(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("remove what dead publishers have left", "directory", d.path, "error", err)
	}
}

func sweepOne(root *os.Root, path string) (bool, error) {
	f, err := root.OpenFile(path, os.O_RDWR, 0) // locks of NFS want it to be writable
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := tryLock(f); errors.Is(err, errLocked) || errors.Is(err, errNoLocks) {
		return false, nil // alive, or nobody can tell
	} else if err != nil {
		return false, err
	}
	return true, root.Remove(path)
}
