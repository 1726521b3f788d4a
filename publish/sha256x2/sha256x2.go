// Package sha256x2 computes the SHA-256 of two contents in the time of one.
//
// A processor with instructions for SHA-256 can start the next one long before the last has a result, but each round
// waits for the previous one, which leaves up to half of the throughput idle. The rounds of two contents in turn fill the
// gaps. This is known as multi-buffer hashing; Linux does it for fs-verity. crypto/sha256 does not.
//
// How much that gains depends on the processor. On an AMD EPYC, reading and hashing the cache of docs/benchmarks takes
// 1.41 s of processor time in place of 1.87: a quarter less. On an Intel Xeon, hashing alone takes 4 % less, and a whole
// publish 2.06 s in place of 2.31. Half of what a client spends that checks what it sends is hashing, so the assembly
// stays for the first kind. BenchmarkOne and BenchmarkTwo measure a processor.
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

// PerProcessor is how many contents a processor hashes best at once: 1 where there are no
// instructions for SHA-256 whose rounds could be done in turn.
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
	waiting *turn // nil: nobody is
}

// A turn is content that waits for another to be hashed with.
type turn struct {
	words   *[8]uint32
	content []byte
	done    chan int // how many bytes were hashed along with another's; 0: there is none
}

// patience is how long a turn waits: longer than it takes to read the next piece of content from the
// page cache, and about as long as it takes to hash two pieces alone.
const patience = 300 * time.Microsecond

// longestRest is how many pieces are hashed without waiting, at most, after waiting was in vain. A piece
// takes half of patience, so a hash whose partners are slower loses a few per cent.
const longestRest = 64

// A Hash is a SHA-256 that is computed along with others. It is for one goroutine.
type Hash struct {
	pairs *Pairs
	one   hash.Hash // of crypto/sha256

	// Waiting is worth it only for partners that keep up. Each time that none came, twice as many
	// pieces are hashed without waiting, and half as many when one came.
	rest, left int
}

// New begins a hash. Until it is closed, others wait for what is written to it.
func (p *Pairs) New() *Hash {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open++
	return &Hash{pairs: p, one: sha256.New()}
}

// Close ends waiting for this hash. The sum stays.
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

// Write adds content, together with what is written to another hash at this time, or alone if
// there is none. It takes all of it, and does not fail.
func (h *Hash) Write(content []byte) (int, error) {
	rest := content
	if interleaves && len(content) >= sha256.BlockSize {
		rest = h.together(content)
	}
	h.one.Write(rest)
	return len(content), nil
}

// together adds as many blocks as another hash can do at the same time, and returns the rest.
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

// hash adds blocks of content to words along with another's, and returns how many bytes that
// were: the second to come does it for both. It returns 0 if there is no other.
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

// A state is that of a hash, as crypto/sha256 marshals it: four bytes that name the hash, the words of
// the digest, the beginning of the next block, the number of bytes so far.
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

// give makes s, whose words are those after n bytes more, the state of h.
func (s *state) give(h hash.Hash, n int) {
	for i, w := range s.words {
		binary.BigEndian.PutUint32(s.marshaled[firstWord+4*i:], w)
	}
	binary.BigEndian.PutUint64(s.marshaled[length:], s.hashed()+uint64(n))
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.marshaled[:]); err != nil {
		panic(err)
	}
}
