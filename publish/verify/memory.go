package verify

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/semaphore"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// These bounds, and the size of the index, limit the memory that Verify uses.
const (
	// documentsAtOnce is how many bytes of documents are in memory at once. Documents of up to smallDocument
	// bytes do not count.
	documentsAtOnce = 32 << 20
	smallDocument   = 64 << 10
	// keysAtOnce is how many keys are checked at once: a mirror has a few.
	keysAtOnce = 4
	// maxIndexByURL is the size of the largest index that is read from a server: about 250,000 packages.
	maxIndexByURL = 256 << 20
)

// sizable returns an error for an index that is too large to be read from a server. The writers of a bucket are
// known; a server may send anything.
func (p *probe) sizable(name string, size int64) error {
	if p.seen != nil && size > maxIndexByURL {
		return fmt.Errorf("%s has %d bytes; by a URL at most %d are read: verify the bucket or the directory behind it", name, size, maxIndexByURL)
	}
	return nil
}

// document reads the document of a package. It counts as in memory until release is called.
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

// A probedBody counts an object as unreadable if reading fails before its end.
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
