package put

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/time/rate"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/slots"
)

// Piece is how many bytes of a limited rate are taken at a time.
const Piece = 32 << 10

var errTakenBack = errors.New("content is no longer wanted")

// A body is the content of one attempt. It reads from the source directly into the connection's buffer, so an
// upload holds no part in memory.
type body struct {
	ctx      context.Context
	content  io.ReaderAt
	off, end int64
	limit    *rate.Limiter // nil for no limit
	slots    *slots.Slots  // notified of progress
	sent     func(int64)   // may be nil

	// mu is held while a piece is read, so that nothing is read after takeBack has returned, even if the connection
	// is still reading.
	mu   sync.Mutex
	told int64 // bytes reported to sent
	err  error // why reading failed, or errTakenBack
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	if b.off == b.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.end-b.off)]
	if b.limit != nil {
		p = p[:min(len(p), Piece)]
		if err := b.limit.WaitN(b.ctx, len(p)); err != nil {
			return 0, err
		}
	}
	n, err := b.content.ReadAt(p, b.off)
	b.off += int64(n)
	b.tell(int64(n))
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = fmt.Errorf("%w: %w", blob.ErrChanged, io.ErrUnexpectedEOF)
	}
	b.err = err
	return n, err
}

func (b *body) tell(n int64) {
	b.slots.Moved(n)
	if b.sent != nil && n != 0 {
		b.told += n
		b.sent(n)
	}
}

func (*body) Close() error { return nil }

// failed returns the error of reading the content, or nil.
func (b *body) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == errTakenBack {
		return nil
	}
	return b.err
}

// takeBack ends a failed attempt: none of its bytes count as sent, and no more are read.
func (b *body) takeBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell(-b.told)
	if b.err == nil {
		b.err = errTakenBack
	}
}

// finish ends a successful attempt.
func (b *body) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = errTakenBack
	}
}
