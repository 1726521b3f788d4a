package dir

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Mirror is one of the mirrors of a Dir. It implements all interfaces of package mirror.
type Mirror struct {
	dir   *Dir
	below string // the prefix of each name: empty, or ends with a slash
}

// Streams implements mirror.Streamer: content is hashed while it is written, before it has a name.
func (*Mirror) Streams() {}

// failed adds the operation and the object to an error.
func (m *Mirror) failed(act, action, name string, err error) error {
	return fmt.Errorf("%s %s: %w", act, name, refine(action, name, m.dir.path, err))
}

// Open opens an object. Its content does not change while it is open.
func (m *Mirror) Open(ctx context.Context, name string) (*mirror.Object, error) {
	f, info, err := m.open(ctx, name)
	if err != nil {
		return nil, m.failed("open", "read", name, err)
	}
	return &mirror.Object{Info: infoOf(name, info), Body: &body{f, info.Size()}}, nil
}

// Stat describes the object that Open would open.
func (m *Mirror) Stat(ctx context.Context, name string) (mirror.Info, error) {
	f, info, err := m.open(ctx, name)
	if err != nil {
		return mirror.Info{}, m.failed("stat", "read", name, err)
	}
	f.Close()
	return infoOf(name, info), nil
}

func (m *Mirror) open(ctx context.Context, name string) (*os.File, fs.FileInfo, error) {
	full := m.below + name
	if err := check(full); err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	var f *os.File
	var info fs.FileInfo
	err := m.dir.found(func(root *os.Root) (err error) {
		f, info, err = openObject(root, full)
		return err
	})
	return f, info, err
}

func infoOf(name string, info fs.FileInfo) mirror.Info {
	return mirror.Info{Name: name, Size: info.Size(), Version: version(info), Modified: info.ModTime()}
}

// begin refuses invalid names, and makes the directory writable.
func (m *Mirror) begin(ctx context.Context, name string) (*os.Root, error) {
	if err := check(m.below + name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.dir.writable()
}

// errAgain reports that another process has removed the temporary file or the directory of an upload. The upload
// must start from the beginning.
var errAgain = errors.New("removed while it was being written")

// again repeats an operation that another process has disturbed by removing files that are in use. After five
// failures in a row it gives up.
func (m *Mirror) again(ctx context.Context, name string, try func(root *os.Root) error) error {
	for n := 1; ; n++ {
		root, err := m.begin(ctx, name)
		if err == nil {
			err = try(root)
		}
		var ofSource sourceError
		switch {
		case n == attempts, errors.As(err, &ofSource):
			return err
		case errors.Is(err, syscall.ESTALE):
			m.dir.renew(root)
		case !errors.Is(err, errAgain):
			return err
		}
	}
}

// attempts is how often an operation is tried that other processes disturb, or whose NFS server was restarted.
const attempts = 5

// Create stores a new object. A hard link makes it visible, and never replaces a file.
func (m *Mirror) Create(ctx context.Context, u mirror.Upload) error {
	err := m.again(ctx, u.Name, func(root *os.Root) error { return m.create(ctx, root, u) })
	if err != nil {
		return m.failed("create", "write", u.Name, err)
	}
	return nil
}

func (m *Mirror) create(ctx context.Context, root *os.Root, u mirror.Upload) error {
	full := m.below + u.Name
	if there, err := m.created(ctx, root, u); there || err != nil {
		return err
	}
	t, err := newTemp(root, full)
	if err != nil {
		return err
	}
	defer t.drop()
	if err := t.receive(ctx, &u); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err = m.dir.reveal(ctx, t, full)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Another publisher was faster, or the object is gone again.
	if there, err := m.created(ctx, root, u); there || err != nil {
		return err
	}
	return obstacle(root, full)
}

// created reports whether u's object exists, and makes it durable. If an object with other content exists, the
// error is ErrExist.
func (m *Mirror) created(ctx context.Context, root *os.Root, u mirror.Upload) (bool, error) {
	now, same, err := m.compare(ctx, root, u)
	if err != nil || now == nil {
		return false, err
	}
	if !same {
		return true, mirror.ErrExist
	}
	return true, nil
}

// obstacle returns an error that names what keeps an object from being created, if that is not an object.
func obstacle(root *os.Root, full string) error {
	info, err := root.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return errAgain
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: it is no regular file (%v)", mirror.ErrExist, info.Mode().Type())
}

// compare returns the object under u's name, or nil if there is none, and whether it has u's content. If it has,
// compare makes it durable.
func (m *Mirror) compare(ctx context.Context, root *os.Root, u mirror.Upload) (now fs.FileInfo, same bool, err error) {
	full := m.below + u.Name
	f, now, err := openObject(root, full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if now.Size() != u.Content.Size() {
		return now, false, nil
	}
	if same, err = sameContent(ctx, f, u); err != nil || !same {
		return now, false, err
	}
	// Its writer may have died before making it durable.
	if err := f.Sync(); err != nil {
		return nil, false, err
	}
	return now, true, m.dir.ensureEntry(root, full)
}

func sameContent(ctx context.Context, f *os.File, u mirror.Upload) (bool, error) {
	want := u.Digest
	if !want.Known() {
		var err error
		if want, err = blob.Sum(ctx, u.Content); err != nil {
			return false, sourceError{err}
		}
	}
	h := sha256.New()
	if err := copyAll(ctx, h, f, u.Content.Size(), nil); err != nil {
		return false, err
	}
	return blob.Digest(h.Sum(nil)) == want, nil
}

// Swap replaces an object that has not changed. The content is complete and on disk before Swap takes the lock,
// which it holds for one read and a rename.
func (m *Mirror) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	is := mirror.Absent
	err := m.again(ctx, u.Name, func(root *os.Root) (err error) {
		is, err = m.swap(ctx, root, u, was)
		return err
	})
	if err != nil {
		return mirror.Absent, m.failed("swap", "write", u.Name, err)
	}
	return is, nil
}

func (m *Mirror) swap(ctx context.Context, root *os.Root, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	t, err := newTemp(root, m.below+u.Name)
	if err != nil {
		return mirror.Absent, err
	}
	defer t.drop()
	if err := t.receive(ctx, &u); err != nil {
		return mirror.Absent, err
	}
	unlock, err := m.dir.lock(ctx, root)
	if err != nil {
		return mirror.Absent, err
	}
	defer unlock()
	return m.swapLocked(ctx, t, u, was)
}

func (m *Mirror) swapLocked(ctx context.Context, t *temp, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	now, same, err := m.compare(ctx, t.root, u)
	switch {
	case err != nil:
		return mirror.Absent, err
	case same:
		return version(now), nil
	case now == nil && was != mirror.Absent, now != nil && version(now) != was:
		return mirror.Absent, mirror.ErrConflict
	}
	if err := ctx.Err(); err != nil {
		return mirror.Absent, err
	}
	if now != nil {
		return t.replace(m.dir, m.below+u.Name, now)
	}
	// Create does not take the lock, so the first version must be created in the same way.
	is, err := t.version()
	if err == nil {
		err = m.dir.revealLocked(t, m.below+u.Name)
	}
	if errors.Is(err, fs.ErrExist) {
		now, same, err = m.compare(ctx, t.root, u)
		switch {
		case err != nil:
		case now == nil:
			err = obstacle(t.root, m.below+u.Name)
		case same:
			is = version(now)
		default:
			err = mirror.ErrConflict
		}
	}
	return is, err
}

// Delete removes an object that has not changed. Its directories stay.
func (m *Mirror) Delete(ctx context.Context, name string, was mirror.Version) error {
	if err := m.remove(ctx, name, was); err != nil {
		return m.failed("delete", "write", name, err)
	}
	return nil
}

func (m *Mirror) remove(ctx context.Context, name string, was mirror.Version) error {
	f, _, err := m.open(ctx, name)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	f.Close()
	tried := false
	return m.again(ctx, name, func(root *os.Root) error { return m.removeFrom(ctx, root, m.below+name, was, &tried) })
}

// removeFrom removes an object that has not changed. If an earlier try has removed it, removeFrom makes that
// durable.
func (m *Mirror) removeFrom(ctx context.Context, root *os.Root, full string, was mirror.Version, tried *bool) error {
	unlock, err := m.dir.lock(ctx, root)
	if err != nil {
		return err
	}
	defer unlock()
	f, now, err := openObject(root, full)
	switch {
	case gone(err) && *tried:
		return m.dir.sync(root, path.Dir(full))
	case gone(err):
		return nil
	case err != nil:
		return err
	}
	f.Close()
	if version(now) != was {
		return mirror.ErrConflict
	}
	*tried = true
	if err := root.Remove(full); err != nil {
		return err
	}
	return m.dir.sync(root, path.Dir(full))
}

// Leftovers yields the unfinished uploads of live and of dead writers.
func (m *Mirror) Leftovers(ctx context.Context, prefix string) iter.Seq2[mirror.Leftover, error] {
	return func(yield func(mirror.Leftover, error) bool) {
		all, err := m.dir.temps(ctx)
		if err != nil {
			yield(mirror.Leftover{}, m.failed("leftovers of", "read", prefix, err))
			return
		}
		for _, t := range all {
			name, ours := strings.CutPrefix(t.full, m.below)
			if !ours || !strings.HasPrefix(name, prefix) {
				continue
			}
			if !yield(mirror.Leftover{Name: name, ID: t.id, Started: t.started}, nil) {
				return
			}
		}
	}
}

// Discard removes an unfinished upload, whether its writer is alive or not.
func (m *Mirror) Discard(ctx context.Context, l mirror.Leftover) error {
	err := m.discard(ctx, l)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m.failed("discard", "write", l.Name, err)
	}
	return nil
}

func (m *Mirror) discard(ctx context.Context, l mirror.Leftover) error {
	if err := check(m.below + l.Name); err != nil {
		return err
	}
	if _, err := parseID(l.ID); err != nil {
		return fs.ErrNotExist // no upload has such an ID
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.dir.found(func(root *os.Root) error { return root.Remove(tempPath(m.below+l.Name, l.ID)) })
}
