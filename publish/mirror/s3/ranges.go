package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
)

// These bound the number of ranges of an object. A connection gives about 50 MB/s, and each range is a request.
// Four ranges are enough up to manyBytes; larger objects have ranges of largeRange.
const (
	smallRange = 8 * mib
	largeRange = 32 * mib
	fewRanges  = 4
	manyBytes  = 160 * mib
)

func ranges(size int64) int64 {
	if size <= manyBytes {
		return max(1, min(fewRanges, (size+smallRange-1)/smallRange))
	}
	return (size + largeRange - 1) / largeRange
}

// ReadParts reads the ranges of an object concurrently. If a connection breaks, its range continues where it
// stopped.
func (m *Mirror) ReadParts(ctx context.Context, name string, size int64, v mirror.Version, arrived func(n int)) ([]byte, error) {
	p := parted{b: m.bucket, key: m.key(name), content: make([]byte, size), version: v, arrived: arrived}
	n := ranges(size)
	g, gctx := defect.WithContext(ctx)
	for i := range n {
		from, to := i*size/n, (i+1)*size/n
		g.Go(func() error { return p.read(gctx, from, to) })
	}
	err := g.Wait()
	if status := answer.Status(err); status == http.StatusPreconditionFailed || status == http.StatusRequestedRangeNotSatisfiable {
		err = mirror.ErrConflict
	}
	if err != nil {
		return nil, p.b.failed(reading, p.key, err)
	}
	return p.content, nil
}

// A parted object is being read in ranges.
type parted struct {
	b       *Bucket
	key     string
	content []byte
	arrived func(n int)

	mu      sync.Mutex // guards version
	version mirror.Version
}

// read reads the bytes from from up to to.
func (p *parted) read(ctx context.Context, from, to int64) error {
	r := &reader{ctx: ctx, b: p.b, key: p.key, off: from, end: to, info: mirror.Info{Size: int64(len(p.content)), Version: p.same("")}}
	in := &sdk.GetObjectInput{Bucket: &p.b.opts.Bucket, Key: &p.key, Range: aws.String(fmt.Sprintf("bytes=%d-%d", from, to-1))}
	if r.info.Version != mirror.Absent {
		in.IfMatch = aws.String(string(r.info.Version))
	}
	out, err := hidden(ctx, p.b, p.key, func() (*sdk.GetObjectOutput, error) { return call(ctx, p.b, p.b.client.GetObject, in) })
	if err != nil {
		return err
	}
	r.body = out.Body
	defer func() { r.Close() }()
	if want := fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(p.content)); aws.ToString(out.ContentRange) != want {
		return mirror.ErrConflict // another size, or a server without ranges
	}
	r.info.Version = answer.Version(aws.ToString(out.ETag))
	if r.info.Version == mirror.Absent || p.same(r.info.Version) != r.info.Version {
		return mirror.ErrConflict
	}
	for part := p.content[from:to]; len(part) > 0; {
		n, err := r.Read(part)
		part = part[n:]
		if p.arrived != nil {
			p.arrived(n)
		}
		if len(part) > 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// same returns the version that all ranges must have. If none was known, it is v.
func (p *parted) same(v mirror.Version) mirror.Version {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version == mirror.Absent {
		p.version = v
	}
	return p.version
}
