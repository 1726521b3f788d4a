package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/listing"
)

// List lists a range, 1,000 objects with each request.
//
// Publishers build indices from listings, so a listing that ends early would make packages disappear. Therefore a
// page is accepted only if it agrees with the request and with the pages before it; see listing.Progress.
func (m *Mirror) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	if r.Few {
		return m.pages(ctx, r, 100)
	}
	return m.pages(ctx, r, 0)
}

// pages is List with at most size objects a page. 0 lets the store choose.
func (m *Mirror) pages(ctx context.Context, r mirror.Range, size int32) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		b, prefix := m.bucket, m.key(r.Prefix)
		in := &sdk.ListObjectsV2Input{Bucket: &b.opts.Bucket, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
		if size > 0 {
			in.MaxKeys = &size
		}
		seen := listing.Progress{Prefix: prefix}
		if r.After != "" {
			in.StartAfter = aws.String(m.key(r.After))
			seen.Last = *in.StartAfter
		}
		for {
			page, err := b.list(ctx, in)
			if err == nil {
				err = seen.Check(&page)
			}
			if err != nil {
				yield(mirror.Info{}, b.failed(listingKeys, prefix, err))
				return
			}
			for _, o := range page.Objects {
				name := strings.TrimPrefix(o.Key, m.prefix)
				if r.Until != "" && name >= r.Until {
					return
				}
				if name == "" { // the "directory" that some tools make of the prefix
					continue
				}
				if !yield(b.info(name, &o.Size, &o.ETag, &o.Modified, ""), nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			in.ContinuationToken = &page.Next
		}
	}
}

// answers holds buffers for pages. A page of 1,000 objects takes about 400 KB.
var answers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// keptBuffer is the maximum size, in bytes, of a buffer that is reused.
const keptBuffer = 2 * mib

// list requests one page. The SDK takes several milliseconds of processor time for a page of 1,000 objects, mostly
// to read the XML token by token. So list reads the answer itself and leaves the SDK an empty one.
func (b *Bucket) list(ctx context.Context, in *sdk.ListObjectsV2Input) (listing.Page, error) {
	var p listing.Page
	buf := answers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= keptBuffer {
			answers.Put(buf)
		}
	}()
	_, err := call(ctx, b, func(ctx context.Context, in *sdk.ListObjectsV2Input, _ ...func(*sdk.Options)) (*sdk.ListObjectsV2Output, error) {
		return b.client.ListObjectsV2(ctx, in, sdk.WithAPIOptions(readingFirst(buf, func(answer []byte) (err error) {
			p, err = listing.Read(answer)
			return err
		})))
	}, in)
	if err != nil {
		return listing.Page{}, err
	}
	return p, p.Settle()
}

var emptyPage = []byte("<ListBucketResult/>")

// readingFirst reads the body of each successful answer into buf and passes it to see. The SDK receives an empty
// page instead.
func readingFirst(buf *bytes.Buffer, see func([]byte) error) func(*middleware.Stack) error {
	first := middleware.DeserializeMiddlewareFunc("ReadingFirst", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		reply, ok := out.RawResponse.(*smithyhttp.Response)
		if err != nil || !ok || reply.StatusCode/100 != 2 {
			return out, metadata, err
		}
		if reply.StatusCode != http.StatusOK {
			return out, metadata, mirror.Faultf("it answers ListObjectsV2 with status %d", reply.StatusCode)
		}
		buf.Reset()
		if _, err := buf.ReadFrom(reply.Body); err != nil {
			return out, metadata, fmt.Errorf("read the answer: %w", err) // the request is repeated
		}
		if err := see(buf.Bytes()); err != nil {
			return out, metadata, err
		}
		reply.Body = struct {
			io.Reader
			io.Closer
		}{bytes.NewReader(emptyPage), reply.Body}
		return out, metadata, nil
	})
	return func(s *middleware.Stack) error { return s.Deserialize.Add(first, middleware.After) }
}
