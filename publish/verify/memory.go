package verify

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/semaphore"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// What a mirror can make Verify hold in memory follows from these bounds, and from the size of its index.
const (
	// documentsAtOnce is how many bytes the documents that are checked at once may have, those of up to
	// smallDocument bytes not counted.
	documentsAtOnce = 32 << 20
	smallDocument   = 64 << 10
	// keysAtOnce is how many keys are: a mirror has a few.
	keysAtOnce = 4
	// maxIndexByURL is how large an index may be that a server sends: that of some 250,000 packages.
	maxIndexByURL = 256 << 20
)

// sizable refuses an index that is too large to be read whole from a server. Who may write to a bucket is
// known; what answers for a URL is not.
func (p *probe) sizable(name string, size int64) error {
	if p.seen != nil && size > maxIndexByURL {
		return fmt.Errorf("%s has %d bytes; by a URL at most %d are read: verify the bucket or the directory behind it", name, size, maxIndexByURL)
	}
	return nil
}

// document reads a document of a package. Until release is called, it counts among those that are in memory.
func (p *probe) document(ctx context.Context, name string) (content []byte, release func(), err error) {
	o, err := p.Open(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	defer o.Body.Close()
	if o.Size > buildcache.MaxDocument {
		return nil, nil, fmt.Errorf("read %s: it has %d bytes, more than %d", name, o.Size, buildcache.MaxDocument)
	}
	release = func() {}
	if o.Size > smallDocument {
		if err := p.documents.Acquire(ctx, o.Size); err != nil {
			return nil, nil, err
		}
		release = func() { p.documents.Release(o.Size) }
	}
	content = make([]byte, o.Size)
	if _, err := io.ReadFull(o.Body, content); err != nil {
		release()
		return nil, nil, fmt.Errorf("read %s: %w", name, err)
	}
	return content, release, nil
}

func newProbe(r mirror.Reader, stop context.CancelCauseFunc) *probe {
	return &probe{reader: r, stop: stop, documents: semaphore.NewWeighted(documentsAtOnce)}
}

// A probedBody counts what cannot be read to its end among what cannot be read.
type probedBody struct {
	io.ReadCloser
	failed func(error) error
}

func (b *probedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.failed(err)
	}
	return n, err
}
