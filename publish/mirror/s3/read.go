package s3

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithytime "github.com/aws/smithy-go/time"

	"github.com/vantagecompute/slurm-factory-publish/publish/credentials"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Open reads an object.
func (m *Mirror) Open(ctx context.Context, name string) (*mirror.Object, error) {
	b, key := m.bucket, m.key(name)
	out, err := hidden(ctx, b, key, func() (*sdk.GetObjectOutput, error) {
		return call(ctx, b, b.client.GetObject, &sdk.GetObjectInput{Bucket: &b.opts.Bucket, Key: &key})
	})
	if err != nil {
		return nil, b.failed(reading, key, err)
	}
	info := b.info(name, out.ContentLength, out.ETag, out.LastModified, out.ServerSideEncryption)
	return &mirror.Object{Info: info, Body: &reader{ctx: ctx, b: b, key: key, info: info, body: out.Body}}, nil
}

// A reader is the body of an object. When the connection breaks it goes on where it was,
// in the same version. It lives as long as the request, and so has its context.
type reader struct {
	ctx   context.Context
	b     *Bucket
	key   string
	info  mirror.Info
	body  io.ReadCloser
	off   int64
	tries int // since something was read
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.off += int64(n)
		switch {
		case n > 0:
			r.tries = 0
			return n, nil // what went wrong is met again
		case r.off == r.info.Size || err == nil:
			return n, err
		}
		if err := r.goOn(err); err != nil {
			return 0, r.b.failed(reading, r.key, err)
		}
	}
}

// goOn asks for the rest after a failure. The error is an io.ErrUnexpectedEOF.
func (r *reader) goOn(failure error) error {
	retryer := r.b.direct.retryer
	r.tries++
	delay, err := retryer.RetryDelay(r.tries, failure)
	switch {
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case err != nil || r.tries >= retryer.MaxAttempts():
		return fmt.Errorf("%w after %d of %d bytes: %w", io.ErrUnexpectedEOF, r.off, r.info.Size, failure)
	}
	if err := smithytime.SleepWithContext(r.ctx, delay); err != nil {
		return err
	}
	out, err := call(r.ctx, r.b, r.b.client.GetObject, &sdk.GetObjectInput{
		Bucket: &r.b.opts.Bucket, Key: &r.key,
		IfMatch: aws.String(string(r.info.Version)),
		Range:   aws.String(fmt.Sprintf("bytes=%d-", r.off)),
	})
	if err != nil {
		return fmt.Errorf("%w after %d of %d bytes: %w", io.ErrUnexpectedEOF, r.off, r.info.Size, err)
	}
	r.body.Close()
	if r.body = out.Body; out.ContentRange == nil && r.off > 0 {
		return fmt.Errorf("%w after %d of %d bytes: the rest cannot be had alone", io.ErrUnexpectedEOF, r.off, r.info.Size)
	}
	return nil
}

func (r *reader) Close() error { return r.body.Close() }

// Stat looks at an object.
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

// head asks for everything that S3 knows of an object.
func (b *Bucket) head(ctx context.Context, key string) (*sdk.HeadObjectOutput, error) {
	in := &sdk.HeadObjectInput{Bucket: &b.opts.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled}
	out, err := hidden(ctx, b, key, func() (*sdk.HeadObjectOutput, error) { return call(ctx, b, b.client.HeadObject, in) })
	if !unexplained[statusOf(err)] {
		return out, err
	}
	// The answer to a HEAD has no body that says why. We ask in a way that S3 answers
	// in words, and if it has nothing to complain about now, once more.
	if err := b.touch(ctx, key); err != nil {
		return nil, err
	}
	return call(ctx, b, b.client.HeadObject, in)
}

// unexplained are the refusals that can mean several things.
var unexplained = map[int]bool{301: true, 307: true, 400: true, 403: true}

// touch reads the first byte of an object.
func (b *Bucket) touch(ctx context.Context, key string) error {
	out, err := call(ctx, b, b.client.GetObject, &sdk.GetObjectInput{
		Bucket: &b.opts.Bucket, Key: &key, Range: aws.String("bytes=0-0"),
	})
	if codeOf(err) == "InvalidRange" {
		return nil // it is empty
	}
	if err != nil {
		return err
	}
	return out.Body.Close()
}

// hidden asks for an object that may not be there. S3 tells that it is not only to those who
// may list the bucket, and forbids it to others. A role that is narrowed to a prefix may list
// a part of the bucket, and sees by that.
func hidden[Out any](ctx context.Context, b *Bucket, key string, ask func() (*Out, error)) (*Out, error) {
	out, err := ask()
	if statusOf(err) != http.StatusForbidden || credentials.Refused(codeOf(err)) {
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
	return ask() // it has come in the meantime, or it is forbidden
}

func (b *Bucket) info(name string, size *int64, etag *string, modified *time.Time, sse types.ServerSideEncryption) mirror.Info {
	i := mirror.Info{
		Name:     name,
		Size:     aws.ToInt64(size),
		Version:  version(aws.ToString(etag)),
		Modified: aws.ToTime(modified),
	}
	if !encrypted(string(sse)) && !encrypted(b.opts.SSE) {
		i.MD5 = md5Of(i.Version)
	}
	return i
}

// encrypted reports whether ETags are not the MD5 of the content, although they look it.
func encrypted(sse string) bool { return strings.HasPrefix(sse, "aws:kms") }

// version is an ETag as conditions need it. Some lists leave the quotes out.
func version(etag string) mirror.Version {
	if etag == "" || strings.HasPrefix(etag, `"`) || strings.HasPrefix(etag, "W/") {
		return mirror.Version(etag)
	}
	return mirror.Version(`"` + etag + `"`)
}

// md5Of is the MD5 that an ETag is, unless the object was uploaded in parts.
func md5Of(v mirror.Version) string {
	s := strings.Trim(string(v), `"`)
	if len(s) != 32 || strings.ContainsFunc(s, notHex) {
		return ""
	}
	return strings.ToLower(s)
}

func notHex(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F')
}

// List lists a range, a thousand objects with each request.
func (m *Mirror) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		b, prefix := m.bucket, m.key(r.Prefix)
		in := &sdk.ListObjectsV2Input{Bucket: &b.opts.Bucket, Prefix: &prefix}
		if r.After != "" {
			in.StartAfter = aws.String(m.key(r.After))
		}
		for {
			page, err := b.list(ctx, in)
			if err != nil {
				yield(mirror.Info{}, b.failed(listing, prefix, err))
				return
			}
			for _, o := range page.objects {
				name := strings.TrimPrefix(o.key, m.prefix)
				if r.Until != "" && name >= r.Until {
					return
				}
				if name == "" { // the "directory" that some tools make of the prefix
					continue
				}
				if !yield(b.info(name, &o.size, &o.etag, &o.modified, ""), nil) {
					return
				}
			}
			if !page.more || page.next == "" {
				return
			}
			in.ContinuationToken = &page.next
		}
	}
}
