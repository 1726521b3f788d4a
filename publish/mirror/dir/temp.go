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

// A temp is an object that is being written. Its writer holds a lock on it until it becomes an object or is
// removed.
type temp struct {
	root *os.Root
	file *os.File
	path string
}

// newTemp begins the object at full. If other processes keep removing its file, the error is errAgain.
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
		return t, nil // without locks, sweep does not remove it
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
		err = errAgain // a sweep removed it between creation and lock
	}
	return nil, err
}

// gone reports whether the file was removed. If that cannot be found out, it returns false.
func (t *temp) gone() bool {
	there, err := isAt(t.root, t.path, t.file)
	return !there && err == nil
}

// isAt reports whether path still leads to f.
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

// drop closes the temp and removes its file, if that still has this name. The next sweep removes what drop cannot.
// The file is closed first because NFS keeps a removed file that is open.
func (t *temp) drop() {
	t.file.Close()
	t.root.Remove(t.path)
}

// receive writes u's content durably and checks its digest. It sets u.Digest to the digest of what was written.
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

// source marks errors of the uploaded content.
type source struct{ io.ReaderAt }

func (s source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	return n, sourceError{cmp.Or(err, io.ErrUnexpectedEOF)}
}

// pieces are buffers for copying. After the context has ended, at most one piece is still copied.
var pieces = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// copyAll copies size bytes of r to w and calls wrote after each piece.
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

// stamp sets the file's time to now, and to later than after. The steps grow because some file systems keep whole
// seconds, or every other second.
func (t *temp) stamp(after time.Time) error {
	for _, step := range []time.Duration{1, time.Microsecond, time.Millisecond, time.Second, 2 * time.Second} {
		when := time.Now()
		if earliest := after.Add(step); when.Before(earliest) {
			when = earliest
		}
		err := t.root.Chtimes(t.path, when, when)
		// Where all users are squashed into one, the file may belong to another user. It is new, so its time is
		// probably late enough.
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

// spoilt returns errAgain if err means that the file was removed, and err otherwise.
func (t *temp) spoilt(err error) error {
	if errors.Is(err, fs.ErrNotExist) && t.gone() {
		return errAgain
	}
	return err
}

// version returns the version of the object that the temp becomes.
func (t *temp) version() (mirror.Version, error) {
	info, err := t.file.Stat()
	if err != nil {
		return mirror.Absent, err
	}
	return version(info), nil
}

// replace makes the temp the next version, after now, of the object at full. The caller holds the lock.
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

// reveal makes the temp the object at full. If a file exists there, the error is fs.ErrExist.
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

// cannotLink reports whether err means that the file system has no hard links. BeeGFS has none across directories
// (EXDEV).
func cannotLink(err error) bool {
	for _, no := range []error{syscall.EPERM, errors.ErrUnsupported, syscall.EMLINK, syscall.EXDEV} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// revealLocked is reveal for callers that hold the lock.
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

// renameTo reveals a temp on file systems without hard links. There, only the lock keeps two publishers from
// replacing each other's object.
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

// enter calls act to make the entry of full in its directory, and makes the entry durable.
func (d *Dir) enter(t *temp, full string, act func() error) error {
	if err := d.ensure(t.root, path.Dir(full)); err != nil {
		return err
	}
	err := t.permit(full)
	if err == nil {
		err = act()
	}
	if errors.Is(err, fs.ErrNotExist) && !t.gone() {
		// The directory was removed after ensure had made it.
		d.durable.Clear()
		return errAgain
	}
	if err != nil {
		return t.spoilt(err)
	}
	return d.sync(t.root, path.Dir(full))
}

// ensureEntry makes the entry of full durable, and those of its directories.
func (d *Dir) ensureEntry(root *os.Root, full string) error {
	if err := d.ensure(root, path.Dir(full)); err != nil {
		return err
	}
	return d.sync(root, path.Dir(full))
}

// The path of a temp names its object: below newPath, the object's name as one element, or as several if it is too
// long for one, and the ID of the upload.
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

// newID returns the ID of an upload: its start time and a random number.
func newID() string {
	var unique [8]byte
	rand.Read(unique[:])
	return strconv.FormatInt(time.Now().UnixNano(), 16) + "-" + hex.EncodeToString(unique[:])
}

// parseID returns the start time of an upload.
func parseID(id string) (time.Time, error) {
	began, unique, _ := strings.Cut(id, "-")
	nanoseconds, err := strconv.ParseInt(began, 16, 64)
	if _, bad := hex.DecodeString(unique); err != nil || bad != nil || unique == "" {
		return time.Time{}, fmt.Errorf("%q: no upload's ID", id)
	}
	return time.Unix(0, nanoseconds), nil
}

// A trace describes a temp that may belong to another process.
type trace struct {
	full, id, path string
	started        time.Time
}

// temps returns the traces of all temps, of live and of dead writers.
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

// tempsIn is temps for a directory that is open. With an error, it also returns the traces found so far.
func tempsIn(ctx context.Context, root *os.Root) (all []trace, err error) {
	err = fs.WalkDir(root.FS(), newPath, func(p string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // finished meanwhile, or nothing was ever written here
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

// sweep removes the temps of dead writers as far as it can. Nothing depends on its success.
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
	f, err := root.OpenFile(path, os.O_RDWR, 0) // NFS locks need a writable file
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := tryLock(f); errors.Is(err, errLocked) || errors.Is(err, errNoLocks) {
		return false, nil // its writer is alive, or may be
	} else if err != nil {
		return false, err
	}
	return true, root.Remove(path)
}
