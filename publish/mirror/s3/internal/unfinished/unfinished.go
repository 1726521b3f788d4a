// Package unfinished lists the incomplete multipart uploads of a bucket and their parts, and aborts them.
package unfinished

import (
	"context"
	"errors"
	"iter"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/listing"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/slots"
)

// Uploads are the incomplete uploads of a bucket.
type Uploads struct {
	Client *sdk.Client
	Slots  *slots.Slots
	Bucket string
}

// List lists the incomplete uploads of keys that start with prefix.
func (u Uploads) List(ctx context.Context, prefix string) iter.Seq2[types.MultipartUpload, error] {
	return func(yield func(types.MultipartUpload, error) bool) {
		in := &sdk.ListMultipartUploadsInput{Bucket: &u.Bucket, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
		for {
			page, err := slots.Call(ctx, u.Slots, func() (*sdk.ListMultipartUploadsOutput, error) { return u.Client.ListMultipartUploads(ctx, in) })
			if err == nil {
				err = plainUploads(page, in)
			}
			if err != nil {
				yield(types.MultipartUpload{}, err)
				return
			}
			for _, one := range page.Uploads {
				if !yield(one, nil) {
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

// plainUploads decodes the keys, and checks that the page continues the previous one.
func plainUploads(page *sdk.ListMultipartUploadsOutput, asked *sdk.ListMultipartUploadsInput) error {
	if page.EncodingType == types.EncodingTypeUrl {
		names := []*string{page.NextKeyMarker}
		for _, u := range page.Uploads {
			names = append(names, u.Key)
		}
		for _, name := range names {
			plain, err := listing.DecodeKey(aws.ToString(name))
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

// Abort aborts an upload. Aborting an upload that does not exist succeeds.
func (u Uploads) Abort(ctx context.Context, key, id string) error {
	_, err := slots.Call(ctx, u.Slots, func() (*sdk.AbortMultipartUploadOutput, error) {
		return u.Client.AbortMultipartUpload(ctx, &sdk.AbortMultipartUploadInput{Bucket: &u.Bucket, Key: &key, UploadId: &id})
	})
	if answer.Code(err) == "NoSuchUpload" {
		return nil
	}
	return err
}

// Parts lists the parts of an upload that have arrived.
func (u Uploads) Parts(ctx context.Context, key, id string) ([]types.Part, error) {
	var all []types.Part
	in := &sdk.ListPartsInput{Bucket: &u.Bucket, Key: &key, UploadId: &id}
	for {
		page, err := slots.Call(ctx, u.Slots, func() (*sdk.ListPartsOutput, error) { return u.Client.ListParts(ctx, in) })
		if err != nil {
			return nil, err
		}
		if page.ChecksumType == types.ChecksumTypeComposite {
			return nil, ErrNotOurs
		}
		all = append(all, page.Parts...)
		if !aws.ToBool(page.IsTruncated) {
			return all, nil
		}
		next, err := strconv.Atoi(aws.ToString(page.NextPartNumberMarker))
		if before, _ := strconv.Atoi(aws.ToString(in.PartNumberMarker)); err != nil || next <= before {
			return nil, mirror.Faultf("its list of parts does not end: part %d is followed by %s", before, answer.Quoted(aws.ToString(page.NextPartNumberMarker)))
		}
		in.PartNumberMarker = page.NextPartNumberMarker
	}
}

// ErrNotOurs reports an upload that was started with other checksum algorithms.
var ErrNotOurs = errors.New("an upload with other checksums")
