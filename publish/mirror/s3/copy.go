package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/copies"
)

// CopyFrom implements mirror.Copier between buckets of one service: see package copies.
func (m *Mirror) CopyFrom(ctx context.Context, from mirror.Reader, name string, u mirror.Upload) error {
	source, ok := from.(*Mirror)
	if !ok || !m.bucket.reaches(source.bucket) || !u.Digest.Known() {
		return errors.ErrUnsupported
	}
	there, err := source.bucket.head(ctx, source.key(name))
	if err != nil {
		return source.bucket.failed(looking, source.key(name), err)
	}
	b, c := m.bucket, m.copyOf(source, name, aws.ToString(there.ETag), u)
	err = b.copies.Do(ctx, c, there)
	switch {
	case err == nil:
		return moved(u)
	case errors.Is(err, errors.ErrUnsupported):
		return err
	case ctx.Err() != nil:
		return b.failed(writing, c.Key, err)
	}
	return b.afterCopy(ctx, source.bucket, c, u, err)
}

func (m *Mirror) copyOf(source *Mirror, name, etag string, u mirror.Upload) copies.Copy {
	return copies.Copy{
		FromBucket: source.bucket.opts.Bucket, FromKey: source.key(name), ETag: etag, Key: m.key(u.Name),
		Size: u.Content.Size(), Digest: u.Digest, Type: u.Type, CacheControl: u.CacheControl,
	}
}

// reaches reports whether this bucket may still be asked to copy from another one. A bucket that has refused once
// is not asked again, because the credentials of one account seldom read the buckets of another.
func (b *Bucket) reaches(other *Bucket) bool {
	mine, theirs := b.client.Options().BaseEndpoint, other.client.Options().BaseEndpoint
	_, refused := b.refusesCopies.Load(other.opts.Bucket)
	return !refused && !b.unconditional() && aws.ToString(mine) == aws.ToString(theirs) && !strings.HasPrefix(other.opts.Bucket, "arn:")
}

// moved reports that the whole object has arrived.
func moved(u mirror.Upload) error {
	if u.Sent != nil {
		u.Sent(u.Content.Size())
	}
	return nil
}

// afterCopy finds out the result of a failed copy. The object exists if only the answer was lost, or if another
// publisher was faster. If the copy was refused, the object must be sent.
func (b *Bucket) afterCopy(ctx context.Context, source *Bucket, c copies.Copy, u mirror.Upload, failure error) error {
	status := answer.Status(failure)
	there, err := b.head(ctx, c.Key)
	switch {
	case err == nil && aws.ToInt64(there.ContentLength) == c.Size && (copies.Proves(there, c.Digest) || c.Size > b.copies.OnePart && copies.Noted(there, c.Digest)):
		return moved(u)
	case status == http.StatusForbidden:
		b.refusesCopies.Store(source.opts.Bucket, true)
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, failure)
	case status >= 400 && status < 500 || status == http.StatusNotImplemented:
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, failure)
	}
	return b.failed(writing, c.Key, failure)
}

var _ mirror.Copier = (*Mirror)(nil)
