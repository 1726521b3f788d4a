// Package transfer moves objects from one mirror to another.
//
// An object is checked before it is stored: it is fetched whole, compared with the digest that its manifest
// promises, and only then sent on. In between it is kept in memory if it is small, and otherwise in a file that has
// no name, so that nothing is left behind however the process ends. A mirror.Streamer does all that itself, and gets
// objects as they arrive.
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

// A Content is an object of another mirror. It is a blob.Source, so that it can be planned like a file, but reading it
// is a request each time: a store made by Into reads it once.
type Content struct {
	ctx  context.Context // of the run that it belongs to, since a blob.Source is opened without one
	from mirror.Reader
	name string
	size int64
	kept []byte // its bytes, which need no request; nil: they are not known
}

// New returns the object of a name and a size in bytes. It makes no request. ctx ends all reading. kept are its bytes if they are known
// already, else nil.
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

// A ReadError reports that a mirror that is copied cannot be read, which tells it from failures of the one that it is copied to.
type ReadError struct {
	From mirror.Reader
	Err  error
}

func (e *ReadError) Error() string { return e.Err.Error() }
func (e *ReadError) Unwrap() error { return e.Err }

// A GoneError reports that the source lacks an object that its documents name. It matches blob.ErrChanged, since it is
// about the source and not about the destination.
type GoneError struct{ Name string }

func (e *GoneError) Error() string { return e.Name + " is missing in the source" }

// Is makes errors.Is(err, blob.ErrChanged) hold.
func (e *GoneError) Is(target error) bool { return target == blob.ErrChanged }

// A stream reads an object from start to end. Reading elsewhere begins again.
type stream struct {
	content *Content
	object  *mirror.Object
	off     int64
}

// ReadAt reads the next bytes. Unlike that of other readers it is not for concurrent use: a Content is read in order.
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

// arriving is a Content that is being stored. Its store reads it in order, and by one goroutine.
type arriving struct {
	Content
	arrived func() // is called when there is no more to come
	err     error  // of the source
}

// Open implements blob.Source. It requests the object, of which there may be nothing to read.
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
