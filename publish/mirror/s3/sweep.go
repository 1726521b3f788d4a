package s3

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
)

// Leftovers lists unfinished multipart uploads.
func (m *Mirror) Leftovers(ctx context.Context, prefix string) iter.Seq2[mirror.Leftover, error] {
	return func(yield func(mirror.Leftover, error) bool) {
		for u, err := range m.bucket.uploads.List(ctx, m.key(prefix)) {
			if err != nil {
				yield(mirror.Leftover{}, m.bucket.failed(listingUploads, m.key(prefix), err))
				return
			}
			l := mirror.Leftover{
				Name:    strings.TrimPrefix(aws.ToString(u.Key), m.prefix),
				ID:      aws.ToString(u.UploadId),
				Started: aws.ToTime(u.Initiated),
			}
			if !yield(l, nil) {
				return
			}
		}
	}
}

// Discard aborts an unfinished multipart upload.
func (m *Mirror) Discard(ctx context.Context, l mirror.Leftover) error {
	if err := m.bucket.uploads.Abort(ctx, m.key(l.Name), l.ID); err != nil {
		return m.bucket.failed(discarding, m.key(l.Name), err)
	}
	return nil
}

// A Deleter deletes objects of a mirror.
type Deleter struct{ m *Mirror }

// Deleter returns what may delete. Code that publishes is not handed one.
func (m *Mirror) Deleter() *Deleter { return &Deleter{m} }

// Delete deletes an object that still is the version was. AWS looks at the condition;
// MinIO does not.
func (d *Deleter) Delete(ctx context.Context, name string, was mirror.Version) error {
	b, key := d.m.bucket, d.m.key(name)
	if was == mirror.Absent {
		return d.m.wantAbsent(ctx, name)
	}
	_, err := call(ctx, b, b.client.DeleteObject, &sdk.DeleteObjectInput{
		Bucket: &b.opts.Bucket, Key: &key, IfMatch: aws.String(string(was)),
	})
	switch {
	case err == nil || answer.Code(err) == "NoSuchKey":
		return nil
	case answer.Status(err) == http.StatusPreconditionFailed || answer.Status(err) == http.StatusConflict:
		return d.m.wantAbsent(ctx, name)
	}
	return b.failed(deleting, key, err)
}

// wantAbsent is what deleting comes to when nothing may be deleted: ErrConflict if there
// is an object.
func (m *Mirror) wantAbsent(ctx context.Context, name string) error {
	_, err := m.Stat(ctx, name)
	switch {
	case err == nil:
		return m.bucket.failed(deleting, m.key(name), mirror.ErrConflict)
	case errors.Is(err, mirror.ErrNotExist):
		return nil
	}
	return err
}
