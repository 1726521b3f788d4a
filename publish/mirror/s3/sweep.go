package s3

import (
	"context"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
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
