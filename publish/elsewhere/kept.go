package elsewhere

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// maxKept is how many bytes of specs are kept in memory between reading a package and storing its spec. A
// compressed spec has a few kilobytes. Specs beyond the limit are requested again.
const maxKept = 32 << 20

// A keeper keeps the last object that is read through it.
type keeper struct {
	mirror.Reader
	name string
	text []byte
}

// Open implements mirror.Reader.
func (k *keeper) Open(ctx context.Context, name string) (*mirror.Object, error) {
	o, err := k.Reader.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	k.name, k.text = name, nil
	return &mirror.Object{Info: o.Info, Body: &copied{o.Body, k}}, nil
}

type copied struct {
	io.ReadCloser
	to *keeper
}

func (c *copied) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.to.text = append(c.to.text, p[:n]...)
	return n, err
}

// taken returns the content of an object that was read and checked. It is nil if it was not read, or if
// maxKept is reached.
func (k *keeper) taken(name string, kept *atomic.Int64) []byte {
	size := int64(len(k.text))
	if k.name != name || size == 0 {
		return nil
	}
	if kept.Add(size) > maxKept {
		kept.Add(-size)
		return nil
	}
	return k.text
}
