package s3

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Leftovers lists unfinished multipart uploads.
func (m *Mirror) Leftovers(ctx context.Context, prefix string) iter.Seq2[mirror.Leftover, error] {
	return func(yield func(mirror.Leftover, error) bool) {
		for u, err := range m.bucket.uploads(ctx, m.key(prefix)) {
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

// uploads lists the unfinished uploads of keys that start with prefix.
func (b *Bucket) uploads(ctx context.Context, prefix string) iter.Seq2[types.MultipartUpload, error] {
	return func(yield func(types.MultipartUpload, error) bool) {
		in := &sdk.ListMultipartUploadsInput{Bucket: &b.opts.Bucket, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
		for {
			page, err := call(ctx, b, b.client.ListMultipartUploads, in)
			if err == nil {
				err = plainUploads(page, in)
			}
			if err != nil {
				yield(types.MultipartUpload{}, err)
				return
			}
			for _, u := range page.Uploads {
				if !yield(u, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
		}
	}
}

// plainUploads undoes the encoding of keys, and makes sure that the next page comes after this one.
func plainUploads(page *sdk.ListMultipartUploadsOutput, asked *sdk.ListMultipartUploadsInput) error {
	if page.EncodingType == types.EncodingTypeUrl {
		names := []*string{page.NextKeyMarker}
		for _, u := range page.Uploads {
			names = append(names, u.Key)
		}
		for _, name := range names {
			plain, err := decodeKey(aws.ToString(name))
			if err != nil {
				return err
			}
			if name != nil {
				*name = plain
			}
		}
	}
	key, id := aws.ToString(page.NextKeyMarker), aws.ToString(page.NextUploadIdMarker)
	before := aws.ToString(asked.KeyMarker)
	if aws.ToBool(page.IsTruncated) && (key < before || key == "" || key == before && id == aws.ToString(asked.UploadIdMarker)) {
		return mirror.Faultf("its list of unfinished uploads does not end: %q is followed by %q", before, key)
	}
	return nil
}

// Discard aborts an unfinished multipart upload.
func (m *Mirror) Discard(ctx context.Context, l mirror.Leftover) error {
	if err := m.bucket.abort(ctx, m.key(l.Name), l.ID); err != nil {
		return m.bucket.failed(discarding, m.key(l.Name), err)
	}
	return nil
}

func (b *Bucket) abort(ctx context.Context, key, id string) error {
	_, err := call(ctx, b, b.client.AbortMultipartUpload, &sdk.AbortMultipartUploadInput{
		Bucket: &b.opts.Bucket, Key: &key, UploadId: &id,
	})
	if codeOf(err) == "NoSuchUpload" {
		return nil
	}
	return err
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
	case err == nil || codeOf(err) == "NoSuchKey":
		return nil
	case statusOf(err) == http.StatusPreconditionFailed || statusOf(err) == http.StatusConflict:
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
