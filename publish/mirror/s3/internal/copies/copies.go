// Package copies has S3 copy objects by itself, and makes sure of their content.
//
// What was sent in one request has a SHA-256 in S3, and is copied whole. Of what was sent in parts, or by another program, S3
// computes it while it copies it as the one part of an upload, which becomes an object only if it is right. What is too large
// for one part is copied in several, and there the SHA-256 counts that its publisher has noted. Each copy is made on the condition that
// there is no such object yet, and of the very version that was looked at.
package copies

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/encoding/httpbinding"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/checksum"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/slots"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/unfinished"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
)

const (
	mib = 1 << 20
	// worthwhile is from which size, in bytes, an object of which S3 has no SHA-256 is copied as a part, which takes three
	// requests. To read and send it takes two.
	worthwhile = 256 << 10
	// part is how much of an object that is too large for one part is copied by one request, and atOnce how many are under way:
	// S3 copies some 100 MB/s for each.
	part   = 512 * mib
	atOnce = 16
	// maxParts is how many parts an upload has at most, below the 10,000 of S3.
	maxParts = 9000

	// noted is the name of the SHA-256 among the metadata of an object that is too large for one part.
	noted = "sha256"
)

// A Place is a bucket to which objects are copied.
type Place struct {
	Client                       *sdk.Client
	Slots                        *slots.Slots
	Uploads                      unfinished.Uploads
	Bucket                       string
	StorageClass, SSE, KMSKeyID  string // of new objects
	OnePart                      int64  // the largest object that one request copies, in bytes
	Foreign                      bool   // the storage is not Amazon's
	Overwriting                  func() // called once if it was seen to copy over an object in spite of the condition
	refusesToOverwrite, overruns atomic.Bool
	refusesParts                 atomic.Bool // it copies no part of an upload that has checksums
	proving                      sync.Mutex  // held during the copy that shows which
}

// A Copy is an object that is to be copied.
type Copy struct {
	FromBucket, FromKey string
	ETag                string // of the version that was looked at
	Key                 string
	Size                int64
	Digest              blob.Digest
	Type, CacheControl  string
}

// Do copies an object, given what is known of the version that was looked at. The error matches errors.ErrUnsupported if S3 cannot
// vouch for the content: then nothing was stored.
func (p *Place) Do(ctx context.Context, c Copy, there *sdk.HeadObjectOutput) error {
	switch {
	case aws.ToInt64(there.ContentLength) != c.Size:
		return errors.ErrUnsupported
	case c.Size > p.OnePart:
		return p.inParts(ctx, c, there)
	case Proves(there, c.Digest) && !p.overruns.Load():
		if err := p.whole(ctx, c); !errors.Is(err, errOverruns) {
			return err
		}
	}
	if c.Size < worthwhile || p.refusesParts.Load() {
		return errors.ErrUnsupported
	}
	return p.asOnePart(ctx, c)
}

// errOverruns reports storage that ignores conditions on copies. It obeys them where an upload is completed.
var errOverruns = errors.New("the storage ignores conditions on copies")

// Proves reports whether S3 vouches that an object has a content: by its SHA-256, or by that of its only part.
func Proves(there *sdk.HeadObjectOutput, d blob.Digest) bool {
	sum := aws.ToString(there.ChecksumSHA256)
	return there.ChecksumType != types.ChecksumTypeComposite && sum == checksum.EncodeDigest(d) || sum == OfOnePart(d)
}

// OfOnePart is what S3 has in place of the SHA-256 of an object that came in one part: the SHA-256 of that of the part.
func OfOnePart(d blob.Digest) string { return checksum.EncodeDigest(blob.DigestOf(d[:])) + "-1" }

// Noted reports whether the publisher of an object has noted that it has a content.
func Noted(there *sdk.HeadObjectOutput, d blob.Digest) bool {
	return there.Metadata[noted] == d.String()
}

// Metadata is what a publisher notes of an object of a size, in bytes.
func (p *Place) Metadata(size int64, d blob.Digest) map[string]string {
	if size <= p.OnePart || !d.Known() {
		return nil
	}
	return map[string]string{noted: d.String()}
}

// Input is a request to copy an object whole.
func (p *Place) Input(c Copy) *sdk.CopyObjectInput {
	return &sdk.CopyObjectInput{
		Bucket: &p.Bucket, Key: &c.Key, IfNoneMatch: aws.String("*"), CopySource: c.source(), CopySourceIfMatch: &c.ETag,
		MetadataDirective: types.MetadataDirectiveReplace, ContentType: &c.Type, CacheControl: &c.CacheControl,
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		StorageClass:      types.StorageClass(p.StorageClass), ServerSideEncryption: types.ServerSideEncryption(p.SSE), SSEKMSKeyId: optional(p.KMSKeyID),
	}
}

func (c Copy) source() *string {
	return aws.String(httpbinding.EscapePath(c.FromBucket+"/"+c.FromKey, false))
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// whole copies an object of which S3 has the SHA-256, and makes sure that S3 has made what it was asked for.
func (p *Place) whole(ctx context.Context, c Copy) error {
	out, err := p.Object(ctx, p.Input(c))
	if err != nil {
		return err
	}
	if r := out.CopyObjectResult; r != nil && aws.ToString(r.ChecksumSHA256) == checksum.EncodeDigest(c.Digest) {
		return nil
	}
	return errUnsaid
}

// errUnsaid reports a copy of which the storage did not say what it has made.
var errUnsaid = mirror.Faultf("it does not say that it has made the copy that it was asked for")

// Object is CopyObject. Storage that is not Amazon's is asked once more for the first object that it copies, and must refuse, since
// the object is there now. Until that is known, it copies one object at a time.
func (p *Place) Object(ctx context.Context, in *sdk.CopyObjectInput) (*sdk.CopyObjectOutput, error) {
	if p.Foreign && !p.refusesToOverwrite.Load() {
		p.proving.Lock()
		defer p.proving.Unlock()
	}
	if p.overruns.Load() {
		return nil, errOverruns
	}
	out, err := slots.Call(ctx, p.Slots, func() (*sdk.CopyObjectOutput, error) { return p.Client.CopyObject(ctx, in) })
	if p.Foreign && err == nil && !p.refusesToOverwrite.Load() {
		_, again := slots.Call(ctx, p.Slots, func() (*sdk.CopyObjectOutput, error) { return p.Client.CopyObject(ctx, in) })
		switch {
		case again == nil:
			p.overruns.Store(true)
			p.Overwriting()
		case answer.Status(again) == http.StatusPreconditionFailed:
			p.refusesToOverwrite.Store(true)
		}
	}
	return out, err
}

// asOnePart copies an object as the only part of an upload. S3 computes the SHA-256 of the part, which is that of the object.
func (p *Place) asOnePart(ctx context.Context, c Copy) error {
	id, err := p.begin(ctx, c, types.ChecksumAlgorithmSha256, types.ChecksumTypeComposite)
	if err != nil {
		return err
	}
	one, err := p.copyPart(ctx, c, id, 1, nil)
	if p.Foreign && answer.Status(err) == http.StatusBadRequest {
		p.refusesParts.Store(true) // as MinIO does; the next object would cost three requests for nothing
	}
	if err == nil && aws.ToString(one.ChecksumSHA256) != checksum.EncodeDigest(c.Digest) {
		err = errors.ErrUnsupported // it does not say, or the content is wrong, which is found by reading it
	}
	if err == nil {
		err = p.complete(ctx, c, &sdk.CompleteMultipartUploadInput{
			UploadId: &id, MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{one}}, ChecksumType: types.ChecksumTypeComposite,
		})
	}
	return p.ended(ctx, c, id, err)
}

// inParts copies an object in several parts, of which S3 computes no SHA-256 of the whole. S3 makes sure by the CRC-64/NVME of the whole
// that the copy is what the publisher has sent who has noted the SHA-256.
func (p *Place) inParts(ctx context.Context, c Copy, there *sdk.HeadObjectOutput) error {
	crc := aws.ToString(there.ChecksumCRC64NVME)
	if !Noted(there, c.Digest) || crc == "" || there.ChecksumType == types.ChecksumTypeComposite {
		return errors.ErrUnsupported
	}
	id, err := p.begin(ctx, c, types.ChecksumAlgorithmCrc64nvme, types.ChecksumTypeFullObject)
	if err != nil {
		return err
	}
	most := max(min(part, p.OnePart), (c.Size+maxParts-1)/maxParts)
	parts := make([]types.CompletedPart, (c.Size+most-1)/most)
	err = parallel.Each(ctx, atOnce, parallel.Positions(parts), func(ctx context.Context, i int) (err error) {
		off := int64(i) * most
		parts[i], err = p.copyPart(ctx, c, id, int32(i+1), aws.String(fmt.Sprintf("bytes=%d-%d", off, min(off+most, c.Size)-1)))
		return err
	})
	if err == nil {
		err = p.complete(ctx, c, &sdk.CompleteMultipartUploadInput{
			UploadId: &id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
			ChecksumType: types.ChecksumTypeFullObject, ChecksumCRC64NVME: &crc, MpuObjectSize: &c.Size,
		})
	}
	return p.ended(ctx, c, id, err)
}

func (p *Place) begin(ctx context.Context, c Copy, algorithm types.ChecksumAlgorithm, kind types.ChecksumType) (id string, err error) {
	out, err := slots.Call(ctx, p.Slots, func() (*sdk.CreateMultipartUploadOutput, error) {
		return p.Client.CreateMultipartUpload(ctx, &sdk.CreateMultipartUploadInput{
			Bucket: &p.Bucket, Key: &c.Key, ChecksumAlgorithm: algorithm, ChecksumType: kind, Metadata: p.Metadata(c.Size, c.Digest),
			ContentType: optional(c.Type), CacheControl: optional(c.CacheControl),
			StorageClass: types.StorageClass(p.StorageClass), ServerSideEncryption: types.ServerSideEncryption(p.SSE), SSEKMSKeyId: optional(p.KMSKeyID),
		})
	})
	if err == nil && aws.ToString(out.UploadId) == "" {
		err = mirror.Faultf("it answers CreateMultipartUpload without UploadId")
	}
	if err != nil {
		return "", err
	}
	return *out.UploadId, nil
}

func (p *Place) copyPart(ctx context.Context, c Copy, id string, number int32, within *string) (types.CompletedPart, error) {
	out, err := slots.Call(ctx, p.Slots, func() (*sdk.UploadPartCopyOutput, error) {
		return p.Client.UploadPartCopy(ctx, &sdk.UploadPartCopyInput{
			Bucket: &p.Bucket, Key: &c.Key, UploadId: &id, PartNumber: &number, CopySource: c.source(), CopySourceIfMatch: &c.ETag, CopySourceRange: within,
		})
	})
	if err != nil {
		return types.CompletedPart{}, err
	}
	r := out.CopyPartResult
	if r == nil || aws.ToString(r.ETag) == "" {
		return types.CompletedPart{}, mirror.Faultf("it answers UploadPartCopy without an ETag")
	}
	return types.CompletedPart{PartNumber: &number, ETag: r.ETag, ChecksumSHA256: r.ChecksumSHA256, ChecksumCRC64NVME: r.ChecksumCRC64NVME}, nil
}

// complete makes an object of the parts if there is none.
func (p *Place) complete(ctx context.Context, c Copy, in *sdk.CompleteMultipartUploadInput) error {
	in.Bucket, in.Key, in.IfNoneMatch = &p.Bucket, &c.Key, aws.String("*")
	_, err := slots.Call(ctx, p.Slots, func() (*sdk.CompleteMultipartUploadOutput, error) {
		return p.Client.CompleteMultipartUpload(ctx, in)
	})
	return err
}

// ended gives an upload up that came to nothing, unless a stop was requested. What cannot be discarded is left to the bucket's
// lifecycle rule.
func (p *Place) ended(ctx context.Context, c Copy, id string, err error) error {
	if err != nil && ctx.Err() == nil {
		_ = p.Uploads.Abort(ctx, c.Key, id)
	}
	return err
}
