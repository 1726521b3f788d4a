// Package blob represents content with its size, its digest and its checksums.
//
// A Source can be opened and read again from any offset. So content can be hashed in one pass and sent in
// another without being held in memory. Reading a Source that has changed since it was made fails with
// ErrChanged.
package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrChanged is wrapped by errors from a file that was replaced, truncated or rewritten after its Source was
// made.
var ErrChanged = errors.New("file changed while it was being read")

// A Digest is the SHA-256 of content. The zero Digest stands for "not known".
type Digest [sha256.Size]byte

// ParseDigest parses 64 lower-case hexadecimal digits, the only form that Spack writes.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) {
		return Digest{}, fmt.Errorf("digest %q: want %d hexadecimal digits", s, hex.EncodedLen(len(d)))
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Digest{}, fmt.Errorf("digest %q: want lower-case hexadecimal digits", s)
		}
	}
	_, err := hex.Decode(d[:], []byte(s))
	return d, err
}

// DigestOf returns the digest of content.
func DigestOf(content []byte) Digest { return sha256.Sum256(content) }

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Known reports whether d is known, that is, not zero.
func (d Digest) Known() bool { return d != Digest{} }

// A MismatchError means that content differs from what its name or its manifest says. Sizes are in bytes. A
// size of -1 means that it was not checked.
type MismatchError struct {
	Name              string
	WantSize, GotSize int64
	Want, Got         Digest
}

func (e *MismatchError) Error() string {
	if e.WantSize != e.GotSize {
		return fmt.Sprintf("%s: has %d bytes, its manifest says %d", e.Name, e.GotSize, e.WantSize)
	}
	return fmt.Sprintf("%s: content has sha256 %s, want %s", e.Name, e.Got, e.Want)
}

// A Source is content of a known size.
type Source interface {
	// Size is in bytes.
	Size() int64
	// Open may be called any number of times, also concurrently.
	Open() (Reader, error)
}

// A Reader reads an opened Source. ReadAt is safe for concurrent use.
type Reader interface {
	io.ReaderAt
	io.Closer
}

// Bytes returns a Source in memory.
func Bytes(content []byte) Source { return memory(content) }

type memory []byte

func (m memory) Size() int64           { return int64(len(m)) }
func (m memory) Open() (Reader, error) { return nopCloser{bytes.NewReader(m)}, nil }

type nopCloser struct{ io.ReaderAt }

func (nopCloser) Close() error { return nil }

// A Root opens files by their paths below it: an os.Root, or a Dir, which never blocks.
type Root interface {
	Open(name string) (*os.File, error)
}

// File returns the current regular file name below root. info is the result of root.Stat. A symbolic link
// that leads out of root is not followed.
func File(root Root, name string, info fs.FileInfo) Source {
	return &file{root: root, name: name, info: info}
}

type file struct {
	root Root
	name string
	info fs.FileInfo
}

func (f *file) Size() int64 { return f.info.Size() }

func (f *file) Open() (Reader, error) {
	h, err := f.root.Open(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if err != nil {
		return nil, err
	}
	r := &openFile{File: h, was: f}
	if err := r.unchanged(); err != nil {
		h.Close()
		return nil, err
	}
	return r, nil
}

type openFile struct {
	*os.File
	was *file
}

func (r *openFile) unchanged() error {
	now, err := r.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(now, r.was.info) || now.Size() != r.was.info.Size() || !now.ModTime().Equal(r.was.info.ModTime()) {
		return fmt.Errorf("%s: %w", r.was.name, ErrChanged)
	}
	return nil
}

// ReadAt returns ErrChanged if the file has shrunk.
func (r *openFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.File.ReadAt(p, off)
	if err == io.EOF && off+int64(n) < r.was.Size() {
		err = fmt.Errorf("%s: %w", r.was.name, ErrChanged)
	}
	return n, err
}

// ReadAll returns the whole content of src.
func ReadAll(src Source) ([]byte, error) {
	r, err := src.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content := make([]byte, src.Size())
	if n, err := r.ReadAt(content, 0); err != nil && (err != io.EOF || n < len(content)) {
		return nil, err
	}
	return content, nil
}

// readSize is how many bytes are read at a time for hashing: large enough that the cost of system calls is
// negligible, small enough to stay in the L2 cache.
const readSize = 256 << 10

// Check reads src once and compares its digest with want. If they differ, the error is a *MismatchError with
// the name.
func Check(ctx context.Context, name string, src Source, want Digest) error {
	got, err := Sum(ctx, src)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if got != want {
		return &MismatchError{Name: name, WantSize: src.Size(), GotSize: src.Size(), Want: want, Got: got}
	}
	return nil
}

// Sum reads src once and returns its digest.
func Sum(ctx context.Context, src Source) (Digest, error) {
	r, err := src.Open()
	if err != nil {
		return Digest{}, err
	}
	defer r.Close()
	h := sha256.New()
	buf := make([]byte, min(readSize, max(src.Size(), 1)))
	for off := int64(0); off < src.Size(); off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return Digest{}, err
		}
		piece := buf[:min(int64(len(buf)), src.Size()-off)]
		if n, err := r.ReadAt(piece, off); err != nil && (err != io.EOF || n < len(piece)) {
			return Digest{}, err
		}
		h.Write(piece)
	}
	return Digest(h.Sum(nil)), nil
}

// Readable opens and closes src, to detect early that it cannot be opened.
func Readable(src Source) error {
	r, err := src.Open()
	if err != nil {
		return err
	}
	return r.Close()
}

// Spoilt reports whether an error concerns the content that was read, not the destination.
func Spoilt(err error) bool {
	var mismatch *MismatchError
	return errors.As(err, &mismatch) || errors.Is(err, ErrChanged)
}
