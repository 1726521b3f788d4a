// Package transfer moves objects from one mirror to another.
//
// An object is checked before it is stored: it is fetched completely, compared with the digest in its
// manifest, and only then sent on. In between, a small object is kept in memory. A larger object is kept in a
// file without a name, so that nothing is left behind if the process dies. A mirror.Streamer does all this
// itself and receives objects as they arrive.
package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Content is an object of another mirror. It is a blob.Source, so it can be planned like a file. But each
// read is a request, and only a store made by Into reads it just once.
type Content struct {
	ctx  context.Context // of the run, since a blob.Source is opened without a context
	from mirror.Reader
	name string
	size int64
	kept []byte // its content, if known; nil: it must be requested
}

// New returns the object with a name and a size in bytes. It makes no request. ctx ends all reading. kept is
// the content if it is already known, else nil.
func New(ctx context.Context, from mirror.Reader, name string, size int64, kept []byte) *Content {
	return &Content{ctx, from, name, size, kept}
}

// Size implements blob.Source.
func (c *Content) Size() int64 { return c.size }

// Open implements blob.Source. The object is requested by the first ReadAt.
func (c *Content) Open() (blob.Reader, error) { return &stream{content: c}, nil }

// open requests the object.
func (c *Content) open(ctx context.Context) (*mirror.Object, error) {
	if c.kept != nil {
		return &mirror.Object{Info: mirror.Info{Name: c.name, Size: int64(len(c.kept))}, Body: io.NopCloser(bytes.NewReader(c.kept))}, nil
	}
	o, err := c.from.Open(ctx, c.name)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil, &GoneError{c.name}
	}
	if err != nil {
		return nil, &ReadError{c.from, fmt.Errorf("read from the source: %w", err)}
	}
	return o, nil
}

// A ReadError means that the source mirror cannot be read. It distinguishes failures of the source from
// failures of the destination.
type ReadError struct {
	From mirror.Reader
	Err  error
}

func (e *ReadError) Error() string { return e.Err.Error() }
func (e *ReadError) Unwrap() error { return e.Err }

// A GoneError means that the source lacks an object that its documents name. It matches blob.ErrChanged,
// since it concerns the source and not the destination.
type GoneError struct{ Name string }

func (e *GoneError) Error() string { return e.Name + " is missing in the source" }

// Is makes errors.Is(err, blob.ErrChanged) hold.
func (e *GoneError) Is(target error) bool { return target == blob.ErrChanged }

// A stream reads an object from start to end. Reading at an earlier offset requests the object again.
type stream struct {
	content *Content
	object  *mirror.Object
	off     int64
}

// ReadAt reads the next bytes. Unlike in other readers it is not for concurrent use: a Content is read in
// order.
func (s *stream) ReadAt(p []byte, off int64) (int, error) {
	if s.object == nil || off < s.off {
		if err := s.begin(); err != nil {
			return 0, err
		}
	}
	if off > s.off {
		n, err := io.CopyN(io.Discard, s.object.Body, off-s.off)
		if s.off += n; err != nil {
			return 0, err
		}
	}
	n, err := io.ReadFull(s.object.Body, p[:max(0, min(int64(len(p)), s.content.size-off))])
	s.off += int64(n)
	if err != nil {
		return n, fmt.Errorf("read %s from the source: %w", s.content.name, &cutError{err})
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *stream) begin() error {
	if err := s.Close(); err != nil {
		return err
	}
	o, err := s.content.open(s.content.ctx)
	if err != nil {
		return err
	}
	if o.Size != s.content.size {
		o.Body.Close()
		return &blob.MismatchError{Name: s.content.name, WantSize: s.content.size, GotSize: o.Size}
	}
	s.object, s.off = o, 0
	return nil
}

// Close ends the request.
func (s *stream) Close() error {
	if s.object == nil {
		return nil
	}
	o := s.object
	s.object = nil
	return o.Body.Close()
}

// arriving is a Content that is being stored. Its store reads it in order, in one goroutine.
type arriving struct {
	Content
	arrived func() // called when all content has arrived
	err     error  // of the source
}

// Open implements blob.Source. It requests the object at once, since an empty object is never read.
func (a *arriving) Open() (blob.Reader, error) {
	s := &stream{content: &a.Content}
	if a.err = s.begin(); a.err != nil {
		return nil, a.err
	}
	return arrivingReader{s, a}, nil
}

type arrivingReader struct {
	*stream
	of *arriving
}

// ReadAt implements blob.Reader.
func (r arrivingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.stream.ReadAt(p, off)
	switch {
	case err != nil && err != io.EOF:
		r.of.err = err
	case r.off == r.of.size:
		r.Close()
		r.of.arrived()
	}
	return n, err
}
