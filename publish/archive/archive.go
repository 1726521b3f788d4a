// Package archive stores a mirror in one tar file, for transport to places without a network.
//
// The file holds the objects of the mirror under their names, so unpacking it gives the mirror. It is complete
// or does not exist: it has another name while it is written.
package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// An entry is where the content of an object is in the file.
type entry struct{ off, size int64 }

func (e entry) info(name string) mirror.Info {
	return mirror.Info{Name: name, Size: e.size, Version: mirror.Version(fmt.Sprintf("at %d", e.off))}
}

// A Reader is a read-only mirror in a tar file.
type Reader struct {
	file    *os.File
	entries map[string]entry
	names   []string // in byte order
	foreign bool     // it has entries that a Writer does not write
}

// ErrFormat is wrapped by errors about files that hold no mirror.
var ErrFormat = errors.New("not an archive of a mirror")

// Open reads the table of a tar file. If two entries have the same name, the later one counts, as in unpacking.
func Open(name string) (*Reader, error) {
	info, err := os.Stat(name) // opening a device or a pipe could block
	if err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory, and not a file that publish export wrote: are the arguments swapped?", name)
	}
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	r := &Reader{file: f, entries: make(map[string]entry)}
	if err := r.scan(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for n := range r.entries {
		r.names = append(r.names, n)
	}
	slices.Sort(r.names)
	return r, nil
}

// compression returns the name of the program that has compressed a file, or an empty string.
func compression(file io.ReaderAt) string {
	var head [6]byte
	file.ReadAt(head[:], 0) // a shorter file begins with none of these
	for _, c := range []struct{ begins, by string }{
		{"\x1f\x8b", "gzip"}, {"BZh", "bzip2"}, {"\xfd7zXZ\x00", "xz"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"LZIP", "lzip"}, {"\x5d\x00\x00", "lzma"},
	} {
		if strings.HasPrefix(string(head[:]), c.begins) {
			return c.by
		}
	}
	return ""
}

// scan records the positions of entries. It does not read their content.
func (r *Reader) scan() error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	if by := compression(r.file); by != "" {
		return fmt.Errorf("%w: it is compressed by %s: decompress it first", ErrFormat, by)
	}
	t := tar.NewReader(r.file)
	for {
		h, err := t.Next()
		if err == io.EOF && len(r.entries) > 0 {
			return nil
		}
		if err == io.EOF {
			return fmt.Errorf("%w: it is empty", ErrFormat)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		off, err := r.file.Seek(0, io.SeekCurrent) // a tar.Reader does not read ahead
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(h.Name, "./")
		r.foreign = r.foreign || !ours(h)
		switch {
		case h.Typeflag == tar.TypeDir:
		case h.Typeflag != tar.TypeReg || sparse(h):
			return fmt.Errorf("%w: %q is no plain file", ErrFormat, h.Name)
		case !fs.ValidPath(name) || name == ".":
			return fmt.Errorf("%w: %q is no name of an object", ErrFormat, h.Name)
		case h.Size > info.Size()-off:
			return fmt.Errorf("%w: it is cut off in %s", ErrFormat, name)
		default:
			r.entries[name] = entry{off, h.Size}
		}
	}
}

// sparse reports whether the size of an entry differs from the number of its bytes in the file.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

// Open implements mirror.Reader.
func (r *Reader) Open(ctx context.Context, name string) (*mirror.Object, error) {
	e, ok := r.entries[name]
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, mirror.ErrNotExist)
	}
	return &mirror.Object{Info: e.info(name), Body: bodyOf(r.file, e)}, nil
}

func bodyOf(f *os.File, e entry) io.ReadCloser {
	return &body{io.NewSectionReader(f, e.off, e.size), e.size}
}

// A body returns an error if the file ends before the object.
type body struct {
	*io.SectionReader
	left int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.SectionReader.Read(p)
	if b.left -= int64(n); err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *body) Close() error { return nil }

// Stat implements mirror.Reader.
func (r *Reader) Stat(ctx context.Context, name string) (mirror.Info, error) {
	e, ok := r.entries[name]
	if err := ctx.Err(); err != nil {
		return mirror.Info{}, err
	}
	if !ok {
		return mirror.Info{}, fmt.Errorf("stat %s: %w", name, mirror.ErrNotExist)
	}
	return e.info(name), nil
}

// List implements mirror.Lister.
func (r *Reader) List(ctx context.Context, in mirror.Range) iter.Seq2[mirror.Info, error] {
	return list(ctx, in, r.names, r.entries)
}

func list(ctx context.Context, in mirror.Range, names []string, entries map[string]entry) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				yield(mirror.Info{}, err)
				return
			}
			if !strings.HasPrefix(name, in.Prefix) || in.After != "" && name <= in.After || in.Until != "" && name >= in.Until {
				continue
			}
			if !yield(entries[name].info(name), nil) {
				return
			}
		}
	}
}
