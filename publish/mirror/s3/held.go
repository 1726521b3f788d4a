package s3

import (
	"io"
	"sync/atomic"
)

// maxHeld is how many parts are kept in memory from when they are hashed to when they are
// sent, so that they are read once. On a fast connection that is enough for nearly all; on a slow
// one most are read a second time, which costs little there.
const maxHeld = 2

// shelves are the room for parts that are held.
type shelves struct {
	room  chan []byte // free, some of them not yet made
	large int64       // of each, in bytes
}

func newShelves(partSize int64) shelves {
	s := shelves{make(chan []byte, maxHeld), partSize}
	for range maxHeld {
		s.room <- nil
	}
	return s
}

// take returns room for a part of a size; nil: there is none now, and none is waited for.
func (s *shelves) take(off, size int64) *heldPart {
	if size > s.large {
		return nil
	}
	select {
	case buf := <-s.room:
		if buf == nil {
			buf = make([]byte, s.large)
		}
		h := &heldPart{shelves: s, whole: buf, content: buf[:size], off: off}
		h.users.Store(1)
		return h
	default:
		return nil
	}
}

// A heldPart is content that is held in memory. It is io.ReaderAt for the offsets of the
// whole. Whoever uses it says so, and frees it: connections may still be at it after an
// attempt has failed.
type heldPart struct {
	shelves        *shelves
	whole, content []byte
	off            int64
	users          atomic.Int32
}

// room is where content is read into: what it will be held in, or buf.
func (h *heldPart) room(buf []byte) []byte {
	if h == nil {
		return buf
	}
	return h.content
}

func (h *heldPart) use() { h.users.Add(1) }

func (h *heldPart) free() {
	if h.users.Add(-1) == 0 {
		h.shelves.room <- h.whole
	}
}

func (h *heldPart) at(off int64, n int) []byte { return h.content[off-h.off:][:n] }

func (h *heldPart) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, h.content[off-h.off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
