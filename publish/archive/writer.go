package archive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Writer is a mirror that is written to a tar file. Objects are written one after the other, in the order in
// which they are stored, so an index follows the objects that it names.
type Writer struct {
	name string
	file *os.File

	mu      sync.Mutex // guards the fields below, and is held while an object is written
	tar     *tar.Writer
	entries map[string]entry
	sums    map[string]blob.Digest
	end     int64 // end of the complete entries
	broken  error // after it, all writes fail
}

// partial is the suffix of the name of an unfinished file.
const partial = ".partial"

// Create creates a file that replaces name when it is finished.
func Create(name string) (*Writer, error) {
	f, err := os.OpenFile(name+partial, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o666)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another process writes %s: %w", name+partial, err)
	}
	if err := f.Truncate(0); err != nil { // content left by a killed process
		f.Close()
		return nil, err
	}
	return &Writer{name: name, file: f, tar: tar.NewWriter(f), entries: make(map[string]entry), sums: make(map[string]blob.Digest)}, nil
}

// Finish completes the file, makes it durable, and gives it its name.
func (w *Writer) Finish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return w.broken
	}
	if err := errors.Join(w.tar.Close(), w.file.Sync()); err != nil {
		return err
	}
	return os.Rename(w.name+partial, w.name)
}

// Discard removes an unfinished file.
func (w *Writer) Discard() error { return errors.Join(os.Remove(w.name+partial), w.file.Close()) }

// Close closes a finished file.
func (w *Writer) Close() error { return w.file.Close() }

// Open implements mirror.Reader.
func (w *Writer) Open(ctx context.Context, name string) (*mirror.Object, error) {
	e, err := w.entry(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return &mirror.Object{Info: e.info(name), Body: bodyOf(w.file, e)}, nil
}

// Stat implements mirror.Reader.
func (w *Writer) Stat(ctx context.Context, name string) (mirror.Info, error) {
	e, err := w.entry(ctx, name)
	if err != nil {
		return mirror.Info{}, fmt.Errorf("stat %s: %w", name, err)
	}
	return e.info(name), nil
}

func (w *Writer) entry(ctx context.Context, name string) (entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.entries[name]
	if !ok {
		return e, mirror.ErrNotExist
	}
	return e, ctx.Err()
}

// List implements mirror.Lister.
func (w *Writer) List(ctx context.Context, in mirror.Range) iter.Seq2[mirror.Info, error] {
	w.mu.Lock()
	defer w.mu.Unlock()
	entries := maps.Clone(w.entries)
	return list(ctx, in, slices.Sorted(maps.Keys(entries)), entries)
}

// Create implements mirror.Writer.
func (w *Writer) Create(ctx context.Context, u mirror.Upload) error {
	_, err := w.Swap(ctx, u, mirror.Absent)
	if errors.Is(err, mirror.ErrConflict) {
		return fmt.Errorf("create %s: %w", u.Name, mirror.ErrExist)
	}
	return err
}

// Swap implements mirror.Swapper. The replaced object stays in the file, but does not count.
func (w *Writer) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := errors.Join(ctx.Err(), w.broken); err != nil {
		return "", err
	}
	now := mirror.Absent
	if e, ok := w.entries[u.Name]; ok {
		now = e.info(u.Name).Version
		if sum, err := blob.Sum(ctx, u.Content); err != nil || sum == w.sums[u.Name] {
			return now, err
		}
	}
	if now != was {
		return "", fmt.Errorf("write %s: %w", u.Name, mirror.ErrConflict)
	}
	e, sum, err := w.append(ctx, u)
	if err != nil {
		return "", fmt.Errorf("write %s to %s: %w", u.Name, w.name+partial, err)
	}
	w.entries[u.Name], w.sums[u.Name] = e, sum
	return e.info(u.Name).Version, nil
}

// append writes an entry. After a failure it removes the incomplete entry.
func (w *Writer) append(ctx context.Context, u mirror.Upload) (entry, blob.Digest, error) {
	e, sum, err := w.write(ctx, u)
	if err == nil {
		w.end = e.off + (e.size+blockSize-1)/blockSize*blockSize
		return e, sum, nil
	}
	_, seekErr := w.file.Seek(w.end, io.SeekStart)
	if back := errors.Join(w.file.Truncate(w.end), seekErr); back != nil {
		w.broken = back
	}
	w.tar = tar.NewWriter(w.file)
	return e, sum, err
}

// mode is the mode of every entry.
const mode = 0o644

// blockSize is the block size of a tar file.
const blockSize = 512

func (w *Writer) write(ctx context.Context, u mirror.Upload) (e entry, sum blob.Digest, err error) {
	from, err := u.Content.Open()
	if err != nil {
		return e, sum, err
	}
	defer from.Close()
	e.size = u.Content.Size()
	if err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: u.Name, Size: e.size, Mode: mode}); err != nil {
		return e, sum, err
	}
	if e.off, err = w.file.Seek(0, io.SeekCurrent); err != nil {
		return e, sum, err
	}
	h := sha256.New()
	content := &watched{ctx, io.NewSectionReader(from, 0, e.size), u.Sent}
	if _, err := io.Copy(io.MultiWriter(w.tar, h), content); err != nil {
		return e, sum, err
	}
	sum = blob.Digest(h.Sum(nil))
	if u.Digest.Known() && sum != u.Digest {
		return e, sum, &blob.MismatchError{Name: u.Name, WantSize: e.size, GotSize: e.size, Want: u.Digest, Got: sum}
	}
	return e, sum, w.tar.Flush()
}

// watched is content that ends with its context and reports how much of it was read.
type watched struct {
	ctx  context.Context
	from io.Reader
	sent func(int64)
}

func (r *watched) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.from.Read(p)
	if r.sent != nil && n > 0 {
		r.sent(int64(n))
	}
	return n, err
}
