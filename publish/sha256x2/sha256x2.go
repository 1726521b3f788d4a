// Package sha256x2 computes the SHA-256 of two contents in the time of one.
//
// A processor with instructions for SHA-256 can start an instruction long before the previous one has its result.
// But each round of a hash waits for the previous round, which leaves up to half of the throughput idle.
// Alternating the rounds of two contents fills the gaps. This is known as multi-buffer hashing. Linux does it for
// fs-verity. crypto/sha256 does not.
//
// The gain depends on the processor. On an AMD EPYC, reading and hashing the cache of docs/benchmarks takes 1.41 s
// of processor time instead of 1.87 s: a quarter less. On an Intel Xeon, hashing alone takes 4 % less, and a whole
// publish 2.06 s instead of 2.31 s. A client that checks its uploads spends half of its processor time on hashing,
// so the assembly is kept for the first kind of processor. BenchmarkOne and BenchmarkTwo measure a processor.
package sha256x2

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"time"
)

// PerProcessor returns the number of contents that a processor hashes best at once. It is 2 if the rounds of two
// contents can alternate in the processor's instructions for SHA-256, and 1 otherwise.
func PerProcessor() int {
	if interleaves {
		return 2
	}
	return 1
}

// Pairs lets goroutines that hash different contents do so two at a time. The zero value is ready.
type Pairs struct {
	mu      sync.Mutex
	open    int
	waiting *turn // nil if no hash waits
}

// A turn is content that waits to be hashed together with other content.
type turn struct {
	words   *[8]uint32
	content []byte
	done    chan int // number of bytes that were hashed together; 0 if there was no partner
}

// patience is the maximum time for which a turn waits. It is longer than reading the next piece of content from the
// page cache takes, and about as long as hashing two pieces alone takes.
const patience = 300 * time.Microsecond

// longestRest is the maximum number of pieces that are hashed without waiting after a wait without success. A piece
// takes half of patience, so a hash with slower partners loses a few per cent.
const longestRest = 64

// A Hash is a SHA-256 that is computed together with others. It is for one goroutine.
type Hash struct {
	pairs *Pairs
	one   hash.Hash // of crypto/sha256

	// Waiting is worth it only for partners that keep up. After each wait without a partner, twice as many pieces
	// are hashed without waiting. After each wait with a partner, it is half as many.
	rest, left int
}

// New returns a new hash. Other hashes wait for its content until it is closed.
func (p *Pairs) New() *Hash {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open++
	return &Hash{pairs: p, one: sha256.New()}
}

// Close stops other hashes from waiting for this one. The sum remains available.
func (h *Hash) Close() {
	p := h.pairs
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	if p.open < 2 && p.waiting != nil {
		p.waiting.done <- 0
		p.waiting = nil
	}
}

// Sum returns the SHA-256 of all that was written.
func (h *Hash) Sum() [sha256.Size]byte { return [sha256.Size]byte(h.one.Sum(nil)) }

// Write adds content. It is hashed together with content that is written to another hash at the same time, or alone
// if there is none. Write takes all of the content and does not fail.
func (h *Hash) Write(content []byte) (int, error) {
	rest := content
	if interleaves && len(content) >= sha256.BlockSize {
		rest = h.together(content)
	}
	h.one.Write(rest)
	return len(content), nil
}

// together adds as many blocks as it can hash together with another hash, and returns the rest.
func (h *Hash) together(content []byte) (rest []byte) {
	s := stateOf(h.one)
	if !s.aligned() {
		return content
	}
	rest = content
	for len(rest) >= sha256.BlockSize {
		n := h.hash(&s.words, rest)
		if n == 0 {
			break
		}
		rest = rest[n:]
	}
	if done := len(content) - len(rest); done > 0 {
		s.give(h.one, done)
	}
	return rest
}

// hash adds blocks of content to words together with blocks of another hash, and returns the number of bytes added.
// The hash that comes second computes both. If there is no other hash, the result is 0.
func (h *Hash) hash(words *[8]uint32, content []byte) int {
	p := h.pairs
	p.mu.Lock()
	other := p.waiting
	switch {
	case other != nil:
		p.waiting = nil
		p.mu.Unlock()
		n := min(len(content), len(other.content)) / sha256.BlockSize
		blocks(words, other.words, &content[0], &other.content[0], n)
		other.done <- n * sha256.BlockSize
		return n * sha256.BlockSize
	case p.open < 2, h.left > 0:
		p.mu.Unlock()
		h.left = max(h.left-1, 0)
		return 0
	}
	t := &turn{words, content, make(chan int, 1)}
	p.waiting = t
	p.mu.Unlock()
	n := p.wait(t)
	if n > 0 {
		h.rest /= 2
	} else {
		h.rest = min(max(2*h.rest, 1), longestRest)
	}
	h.left = h.rest
	return n
}

func (p *Pairs) wait(t *turn) int {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case n := <-t.done:
		return n
	case <-late.C:
	}
	p.mu.Lock()
	if p.waiting == t {
		p.waiting = nil
		t.done <- 0
	}
	p.mu.Unlock()
	return <-t.done
}

// A state is the state of a hash, as crypto/sha256 marshals it: four bytes that name the hash, the words of the
// digest, the beginning of the next block, the number of bytes so far.
type state struct {
	marshaled [marshaledSize]byte
	words     [8]uint32
}

const (
	firstWord     = 4
	length        = firstWord + sha256.Size + sha256.BlockSize
	marshaledSize = length + 8
)

func stateOf(h hash.Hash) *state {
	s := new(state)
	m, err := h.(encoding.BinaryAppender).AppendBinary(s.marshaled[:0])
	if err != nil || len(m) != marshaledSize {
		panic(fmt.Sprintf("crypto/sha256 marshals %d bytes, and not %d: %v", len(m), marshaledSize, err))
	}
	for i := range s.words {
		s.words[i] = binary.BigEndian.Uint32(s.marshaled[firstWord+4*i:])
	}
	return s
}

// aligned reports whether the next byte begins a block.
func (s *state) aligned() bool { return s.hashed()%sha256.BlockSize == 0 }

func (s *state) hashed() uint64 { return binary.BigEndian.Uint64(s.marshaled[length:]) }

// give sets the state of h to s, whose words are those after n more bytes.
func (s *state) give(h hash.Hash, n int) {
	for i, w := range s.words {
		binary.BigEndian.PutUint32(s.marshaled[firstWord+4*i:], w)
	}
	binary.BigEndian.PutUint64(s.marshaled[length:], s.hashed()+uint64(n))
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.marshaled[:]); err != nil {
		panic(err)
	}
}
