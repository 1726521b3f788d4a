package spec

import (
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// maxRecord is the maximum size of a node in bytes. Spack's nodes have 1 to 3 KB, externals with many
// attributes some tens of KB, and a node with 1,900 dependencies has 256 KB.
const maxRecord = 1 << 20

// A Reader reads the specs of one run. Packages of a mirror share most of their dependencies, so a node of
// several specs is checked and stored once. Its methods may be called concurrently.
type Reader struct {
	limit int64

	mu    sync.Mutex // guards the fields below, and is not held while a node is read
	nodes map[nodeKey]*Node
	held  int64 // bytes of the records in nodes
}

// A nodeKey identifies the input of readNode.
type nodeKey struct {
	text    [sha256.Size]byte
	dialect dialect
}

// NewReader returns a Reader whose nodes take at most limit bytes in total. 0 means no limit.
func NewReader(limit int64) *Reader {
	return &Reader{limit: limit, nodes: make(map[nodeKey]*Node)}
}

// A SizeError means that the specs of a run are too large in total.
type SizeError struct{ Limit int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("spec: with it, the specs of this run would take more than %d MiB of memory: publish fewer packages at once", e.Limit>>20)
}

func (r *Reader) node(raw jsontext.Value, d dialect) (*Node, error) {
	key := nodeKey{sha256.Sum256(raw), d}
	r.mu.Lock()
	n := r.nodes[key]
	r.mu.Unlock()
	if n != nil {
		return n, nil
	}
	n, err := readNode(raw, d)
	if err != nil {
		return nil, err
	}
	if n.Record, err = recordOf(raw, d); err != nil {
		return nil, fmt.Errorf("spec node %s: %w", n.Name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.nodes[key]; known != nil {
		return known, nil
	}
	size := int64(len(n.Record))
	if r.limit > 0 && r.held+size > r.limit {
		return nil, &SizeError{r.limit}
	}
	r.nodes[key] = n
	r.held += size
	return n, nil
}
