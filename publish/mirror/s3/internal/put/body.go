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

// Piece is how much of a limited rate is taken at a time.
const Piece = 32 << 10

var errTakenBack = errors.New("content is no longer wanted")

// A body is content on its way in one attempt. It reads straight from the source
// into the connection's buffer, so that an upload holds no part in memory.
type body struct {
	ctx      context.Context
	content  io.ReaderAt
	off, end int64
	limit    *rate.Limiter // nil: none
	slots    *slots.Slots  // are told what moves
	sent     func(int64)   // may be nil

	// mu is held while a piece is read, so that nothing is read once takeBack has
	// returned: the connection may still be at it then.
	mu   sync.Mutex
	told int64 // how much sent was told
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

// failed is why the content could not be read, if that is what went wrong.
func (b *body) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == errTakenBack {
		return nil
	}
	return b.err
}

// takeBack ends an attempt that failed: nothing of it counts as sent, and nothing is
// read any more.
func (b *body) takeBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell(-b.told)
	if b.err == nil {
		b.err = errTakenBack
	}
}

// finish ends an attempt that succeeded.
func (b *body) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = errTakenBack
	}
}
