package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// maxUnsized is the maximum size, in bytes, of an object whose size the server does not report.
	maxUnsized = 64 << 20
	// smallUnsized is how many bytes of such an object may be read without waiting for others.
	smallUnsized = 1 << 20
	// maxUnsizedAtOnce is the maximum size of all larger ones together.
	maxUnsizedAtOnce = 2 * maxUnsized

	// leastRate is the minimum rate of a body in bytes a second.
	leastRate = 1 << 10
)

// readUnsized reads a whole body to find its size. Large bodies wait for each other.
func (m *Mirror) readUnsized(ctx context.Context, body io.ReadCloser) (int64, io.ReadCloser, error) {
	defer body.Close()
	c := &content{}
	if err := c.read(body, smallUnsized); err != nil || !c.more {
		return c.size, c, err
	}
	if err := m.unsized.Acquire(ctx, maxUnsized); err != nil {
		return 0, nil, err
	}
	c.from = m.unsized
	err := c.read(body, maxUnsized)
	if err == nil && c.more {
		err = fmt.Errorf("the server does not send its size, which is more than %d bytes", maxUnsized)
	}
	if err != nil {
		c.Close()
		return 0, nil, err
	}
	return c.size, c, nil
}

// A content is the part of a body that was read. It consists of pieces, so that it takes no more memory than it has
// bytes.
type content struct {
	pieces [][]byte
	size   int64
	more   bool // the body has more bytes

	from *semaphore.Weighted // released by Close; nil for a small content
}

// read reads until the content has limit bytes, and finds out whether there are more.
func (c *content) read(body io.Reader, limit int64) error {
	for c.size < limit {
		piece, err := io.ReadAll(io.LimitReader(body, min(64<<10, limit-c.size)))
		if len(piece) > 0 {
			c.pieces = append(c.pieces, bytes.Clone(piece))
			c.size += int64(len(piece))
		}
		if err != nil {
			return err
		}
		if len(piece) == 0 {
			c.more = false
			return nil
		}
	}
	var one [1]byte
	n, err := io.ReadFull(body, one[:])
	if errors.Is(err, io.EOF) {
		c.more = false
		return nil
	}
	c.more = true
	c.pieces, c.size = append(c.pieces, one[:n]), c.size+int64(n)
	return err
}

// Read implements io.Reader. The content can be read once.
func (c *content) Read(p []byte) (int, error) {
	for len(c.pieces) > 0 && len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	c.pieces[0] = c.pieces[0][n:]
	return n, nil
}

// Close implements io.Closer.
func (c *content) Close() error {
	c.pieces = nil
	if c.from != nil {
		c.from.Release(maxUnsized)
		c.from = nil
	}
	return nil
}

// watchedBody fails if the server goes silent, or sends next to nothing, while a reader waits for it.
type watchedBody struct {
	io.ReadCloser
	timeout time.Duration
	watch   *time.Timer
	ctx     context.Context // of this request; it ends with the body
	end     func()

	got    int64         // bytes
	waited time.Duration // for them
	slow   error         // they came too slowly
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if b.slow != nil {
		return 0, b.slow
	}
	b.watch.Reset(b.timeout)
	began := time.Now()
	n, err := b.ReadCloser.Read(p)
	b.watch.Stop()
	if err != nil && err != io.EOF && context.Cause(b.ctx) == errSilent {
		err = fmt.Errorf("%w for %v: %w", errSilent, b.timeout, io.ErrUnexpectedEOF)
	}
	b.got += int64(n)
	if b.waited += time.Since(began); b.waited >= 2*b.timeout {
		if float64(b.got) < leastRate*b.waited.Seconds() {
			b.slow = fmt.Errorf("the server sends less than %d bytes a second, for %v: %w", leastRate, 2*b.timeout, io.ErrUnexpectedEOF)
		}
		b.got, b.waited = 0, 0
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}
