package checksum

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// turns bounds how many contents are hashed at once. The largest waiting content is next, because it takes longest
// to send.
type turns struct {
	mu      sync.Mutex // guards the fields below; it is not held while a caller waits
	free    int
	waiting []*waiter // by size, the largest last
}

type waiter struct {
	size int64
	turn chan struct{} // closed when the turn has come
}

// take waits for a turn.
func (t *turns) take(ctx context.Context, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	w := &waiter{size, make(chan struct{})}
	at, _ := slices.BinarySearchFunc(t.waiting, w, func(a, b *waiter) int { return cmp.Compare(a.size, b.size) })
	t.waiting = slices.Insert(t.waiting, at, w)
	t.mu.Unlock()
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	at = slices.Index(t.waiting, w)
	if at >= 0 {
		t.waiting = slices.Delete(t.waiting, at, at+1)
	}
	t.mu.Unlock()
	if at < 0 { // the turn has come meanwhile
		t.giveBack()
	}
	return ctx.Err()
}

func (t *turns) giveBack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.waiting) - 1
	if last < 0 {
		t.free++
		return
	}
	close(t.waiting[last].turn)
	t.waiting = slices.Delete(t.waiting, last, last+1)
}
