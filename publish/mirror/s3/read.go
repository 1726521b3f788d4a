package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithytime "github.com/aws/smithy-go/time"

	"github.com/vantagecompute/slurm-factory-publish/publish/credentials"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/wire"
)

// Open opens an object for reading.
func (m *Mirror) Open(ctx context.Context, name string) (*mirror.Object, error) {
	b, key := m.bucket, m.key(name)
	out, err := hidden(ctx, b, key, func() (*sdk.GetObjectOutput, error) {
		return call(ctx, b, b.client.GetObject, &sdk.GetObjectInput{Bucket: &b.opts.Bucket, Key: &key})
	})
	if err != nil {
		return nil, b.failed(reading, key, err)
	}
	if aws.ToString(out.ETag) == "" && out.LastModified != nil { // without either it is not an object but a page or an error
		out.ETag = aws.String(unversioned)
	}
	err = complete("GetObject", out.ContentLength, out.ETag)
	if err == nil && out.ContentRange != nil {
		err = mirror.Faultf("asked for a whole object, it sends the range %s", answer.Quoted(*out.ContentRange))
	}
	if err != nil {
		out.Body.Close()
		return nil, b.failed(reading, key, err)
	}
	info := b.info(name, out.ContentLength, out.ETag, out.LastModified, out.ServerSideEncryption)
	return &mirror.Object{Info: info, Body: &reader{ctx: ctx, b: b, key: key, info: info, end: info.Size, body: out.Body}}, nil
}

// unversioned is the version of an object without an ETag, such as a file that was put into the directory of a
// gateway. It can be read but never replaced, because no condition matches it.
const unversioned = `"unversioned"`

// A reader is the body of an object. If the connection breaks, it continues where it stopped, in the same version.
// It keeps the context of the request, because it lives as long.
type reader struct {
	ctx   context.Context
	b     *Bucket
	key   string
	info  mirror.Info
	body  io.ReadCloser
	off   int64 // of the next byte
	end   int64 // of the object or range
	tries int   // since the last byte was read
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.off += int64(n)
		switch {
		case n > 0:
			r.tries = 0
			return n, nil // the next call returns the error
		case r.off == r.end || err == nil:
			return n, err
		}
		if err := r.goOn(err); err != nil {
			return 0, r.b.failed(reading, r.key, err)
		}
	}
}

// goOn requests the rest after a failure. The error is an io.ErrUnexpectedEOF.
func (r *reader) goOn(failure error) error {
	retryer := r.b.client.Options().Retryer
	r.tries++
	delay, err := retryer.RetryDelay(r.tries, failure)
	var slow *wire.SlowError
	switch {
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case errors.As(failure, &slow):
		return fmt.Errorf("%w after %d of %d bytes: %w", io.ErrUnexpectedEOF, r.off, r.end, failure)
	case err != nil || r.tries >= retryer.MaxAttempts():
		return fmt.Errorf("%w after %d of %d bytes: %w", io.ErrUnexpectedEOF, r.off, r.end, failure)
	}
	if err := smithytime.SleepWithContext(r.ctx, delay); err != nil {
		return err
	}
	out, err := call(r.ctx, r.b, r.b.client.GetObject, &sdk.GetObjectInput{
		Bucket: &r.b.opts.Bucket, Key: &r.key,
		IfMatch: aws.String(string(r.info.Version)),
		Range:   aws.String(r.rest()),
	})
	if err != nil {
		return fmt.Errorf("%w after %d of %d bytes: %w", io.ErrUnexpectedEOF, r.off, r.end, err)
	}
	r.body.Close()
	r.body = out.Body
	if err := r.continues(out); err != nil {
		return fmt.Errorf("%w after %d of %d bytes: %w", io.ErrUnexpectedEOF, r.off, r.end, err)
	}
	return nil
}

// rest returns the range of the bytes that are still to be read.
func (r *reader) rest() string {
	if r.end == r.info.Size {
		return fmt.Sprintf("bytes=%d-", r.off)
	}
	return fmt.Sprintf("bytes=%d-%d", r.off, r.end-1)
}

// continues checks that an answer has the rest of the object.
func (r *reader) continues(rest *sdk.GetObjectOutput) error {
	from, _, _ := strings.Cut(aws.ToString(rest.ContentRange), "-")
	switch {
	case answer.Version(aws.ToString(rest.ETag)) != r.info.Version:
		return mirror.Faultf("asked for the rest of version %s, it sends version %s: it does not obey If-Match", r.info.Version, answer.Quoted(aws.ToString(rest.ETag)))
	case rest.ContentRange == nil && r.off > 0:
		return errors.New("the rest cannot be had alone")
	case rest.ContentRange != nil && from != fmt.Sprintf("bytes %d", r.off):
		return mirror.Faultf("asked for the bytes from %d on, it sends the range %s", r.off, answer.Quoted(*rest.ContentRange))
	}
	return nil
}

func (r *reader) Close() error { return r.body.Close() }

// Stat describes an object.
func (m *Mirror) Stat(ctx context.Context, name string) (mirror.Info, error) {
	b, key := m.bucket, m.key(name)
	out, err := b.head(ctx, key)
	if err != nil {
		return mirror.Info{}, b.failed(looking, key, err)
	}
	info := b.info(name, out.ContentLength, out.ETag, out.LastModified, out.ServerSideEncryption)
	if out.ChecksumType == types.ChecksumTypeFullObject {
		info.CRC64NVME = aws.ToString(out.ChecksumCRC64NVME)
	}
	return info, nil
}

// head requests all metadata of an object.
func (b *Bucket) head(ctx context.Context, key string) (*sdk.HeadObjectOutput, error) {
	in := &sdk.HeadObjectInput{Bucket: &b.opts.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled}
	ask := func() (*sdk.HeadObjectOutput, error) {
		out, err := call(ctx, b, b.client.HeadObject, in)
		if err == nil {
			err = complete("HeadObject", out.ContentLength, out.ETag)
		}
		return out, err
	}
	out, err := hidden(ctx, b, key, ask)
	if !unexplained[answer.Status(err)] {
		return out, err
	}
	// The answer to a HEAD has no body with a reason. A GET of the first byte returns the reason in its body. If
	// that GET succeeds, the HEAD is repeated.
	if err := b.touch(ctx, key); err != nil {
		return nil, err
	}
	return ask()
}

// complete checks that an answer has the size and the version of the object.
func complete(operation string, size *int64, etag *string) error {
	switch {
	case size == nil || *size < 0:
		return mirror.Faultf("it answers %s without Content-Length, so it is unknown whether the object is whole", operation)
	case aws.ToString(etag) == "":
		return mirror.Faultf("it answers %s without ETag, so versions cannot be told apart", operation)
	}
	return nil
}

// unexplained lists the refusals that can have several causes.
var unexplained = map[int]bool{301: true, 307: true, 400: true, 403: true}

// touch reads the first byte of an object.
func (b *Bucket) touch(ctx context.Context, key string) error {
	out, err := call(ctx, b, b.client.GetObject, &sdk.GetObjectInput{
		Bucket: &b.opts.Bucket, Key: &key, Range: aws.String("bytes=0-0"),
	})
	if answer.Code(err) == "InvalidRange" {
		return nil // an empty object
	}
	if err != nil {
		return err
	}
	return out.Body.Close()
}

// hidden requests an object that may not exist. S3 says that an object does not exist only to callers that may list
// the bucket, and answers "forbidden" to others. A role that is limited to a prefix may list a part of the bucket,
// and finds out by a listing.
func hidden[Out any](ctx context.Context, b *Bucket, key string, ask func() (*Out, error)) (*Out, error) {
	out, err := ask()
	if answer.Status(err) != http.StatusForbidden || credentials.Refused(answer.Code(err)) {
		return out, err
	}
	one := &sdk.ListObjectsV2Input{Bucket: &b.opts.Bucket, Prefix: &key, MaxKeys: aws.Int32(1)}
	page, unlisted := call(ctx, b, b.client.ListObjectsV2, one)
	switch {
	case unlisted != nil:
		return out, err
	case len(page.Contents) == 0 || aws.ToString(page.Contents[0].Key) != key:
		return nil, &types.NoSuchKey{}
	}
	return ask() // created meanwhile, or forbidden
}

func (b *Bucket) info(name string, size *int64, etag *string, modified *time.Time, sse types.ServerSideEncryption) mirror.Info {
	i := mirror.Info{
		Name:     name,
		Size:     aws.ToInt64(size),
		Version:  answer.Version(aws.ToString(etag)),
		Modified: aws.ToTime(modified),
	}
	if !encrypted(string(sse)) && !encrypted(b.opts.SSE) {
		i.MD5 = answer.MD5(i.Version)
	}
	return i
}

// encrypted reports whether ETags that look like an MD5 of the content are none.
func encrypted(sse string) bool { return strings.HasPrefix(sse, "aws:kms") }
