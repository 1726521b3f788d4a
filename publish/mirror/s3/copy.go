package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/encoding/httpbinding"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/checksum"
)

// CopyFrom implements mirror.Copier between buckets of one service. S3 copies the object only if it has the SHA-256 that it
// must have: what was sent in one request has one, and what was sent in parts has none, so that must pass through us.
// The condition is on the destination, and on the source as well: what was checked is what is copied.
func (m *Mirror) CopyFrom(ctx context.Context, from mirror.Reader, name string, u mirror.Upload) error {
	source, ok := from.(*Mirror)
	if !ok || !m.bucket.reaches(source.bucket) || !u.Digest.Known() {
		return errors.ErrUnsupported
	}
	there, err := source.bucket.head(ctx, source.key(name))
	if err != nil {
		return source.bucket.failed(looking, source.key(name), err)
	}
	if !proves(there, u) {
		return errors.ErrUnsupported
	}
	b, key := m.bucket, m.key(u.Name)
	etag := aws.ToString(there.ETag)
	out, err := call(ctx, b, b.client.CopyObject, b.copyInput(source, name, etag, key, u))
	switch {
	case err == nil:
		return b.copied(ctx, key, out, u)
	case ctx.Err() != nil:
		return b.failed(writing, key, err)
	}
	return b.afterCopy(ctx, source.bucket, key, u, err)
}

// reaches reports whether this bucket can be asked to copy from another one. One that refused once is not asked again:
// the credentials of one account seldom read the buckets of another.
func (b *Bucket) reaches(other *Bucket) bool {
	mine, theirs := b.client.Options().BaseEndpoint, other.client.Options().BaseEndpoint
	_, refused := b.refusesCopies.Load(other.opts.Bucket)
	return !refused && !b.unconditional() && aws.ToString(mine) == aws.ToString(theirs) && !strings.HasPrefix(other.opts.Bucket, "arn:")
}

// proves reports whether S3 vouches that an object has the content that is to be stored.
func proves(there *sdk.HeadObjectOutput, u mirror.Upload) bool {
	sum := aws.ToString(there.ChecksumSHA256)
	return aws.ToInt64(there.ContentLength) == u.Content.Size() && there.ChecksumType != types.ChecksumTypeComposite && sum == checksum.EncodeDigest(u.Digest)
}

func (b *Bucket) copyInput(source *Mirror, name, etag, key string, u mirror.Upload) *sdk.CopyObjectInput {
	in := &sdk.CopyObjectInput{
		Bucket: &b.opts.Bucket, Key: &key, IfNoneMatch: aws.String("*"),
		CopySource:        aws.String(httpbinding.EscapePath(source.bucket.opts.Bucket+"/"+source.key(name), false)),
		CopySourceIfMatch: &etag,
		MetadataDirective: types.MetadataDirectiveReplace, ContentType: &u.Type, CacheControl: &u.CacheControl,
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		StorageClass:      types.StorageClass(b.opts.StorageClass), ServerSideEncryption: types.ServerSideEncryption(b.opts.SSE),
	}
	if b.opts.KMSKeyID != "" {
		in.SSEKMSKeyId = &b.opts.KMSKeyID
	}
	return in
}

// copied makes sure that what S3 has made is what it was asked for.
func (b *Bucket) copied(ctx context.Context, key string, out *sdk.CopyObjectOutput, u mirror.Upload) error {
	if out.CopyObjectResult != nil && aws.ToString(out.CopyObjectResult.ChecksumSHA256) == checksum.EncodeDigest(u.Digest) {
		return moved(u)
	}
	there, err := b.head(ctx, key) // it did not say
	if err != nil {
		return b.failed(looking, key, err)
	}
	if !proves(there, u) {
		return b.failed(writing, key, mirror.Faultf("asked to copy an object with the SHA-256 %s, it does not say that it has made one", u.Digest))
	}
	return moved(u)
}

// moved reports that all of an object has arrived.
func moved(u mirror.Upload) error {
	if u.Sent != nil {
		u.Sent(u.Content.Size())
	}
	return nil
}

// afterCopy finds out what a copy that failed has come to. The object is there if its answer was lost, or if another
// publisher was faster. A refusal means that it must be sent.
func (b *Bucket) afterCopy(ctx context.Context, source *Bucket, key string, u mirror.Upload, failure error) error {
	status := answer.Status(failure)
	there, err := b.head(ctx, key)
	switch {
	case err == nil && proves(there, u):
		return moved(u)
	case status == http.StatusForbidden:
		b.refusesCopies.Store(source.opts.Bucket, true)
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, failure)
	case status >= 400 && status < 500 || status == http.StatusNotImplemented:
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, failure)
	}
	return b.failed(writing, key, failure)
}

var _ mirror.Copier = (*Mirror)(nil)
