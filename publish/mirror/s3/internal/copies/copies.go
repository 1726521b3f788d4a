// Package copies lets S3 copy objects itself, and verifies their content.
//
// An object that was sent in one request has a SHA-256 in S3 and is copied whole. An object that was sent in parts,
// or by another program, is copied as the only part of an upload: S3 computes the SHA-256 of the part, and the part
// becomes an object only if that is right. An object too large for one part is copied in several, and its SHA-256
// is the one that its publisher has recorded in its metadata. Each copy is conditional on the absence of the
// object, and on the version of the source.
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
	// worthwhile is the minimum size, in bytes, for copying an object without a SHA-256 in S3 as a part. That takes
	// three requests; reading and sending the object takes two.
	worthwhile = 256 << 10
	// part is how many bytes one request copies of an object that is too large for one part, and atOnce is the
	// number of such requests in flight. S3 copies about 100 MB/s for each.
	part   = 512 * mib
	atOnce = 16
	// maxParts is the maximum number of parts of an upload. It is below the 10,000 of S3.
	maxParts = 9000

	// noted is the metadata name of the SHA-256 of an object that is too large for one part.
	noted = "sha256"
)

// A Place is a bucket that is the destination of copies.
type Place struct {
	Client                       *sdk.Client
	Slots                        *slots.Slots
	Uploads                      unfinished.Uploads
	Bucket                       string
	StorageClass, SSE, KMSKeyID  string // of new objects
	OnePart                      int64  // bytes; the largest object that one request copies
	Foreign                      bool   // the storage is not Amazon's
	Overwriting                  func() // called once if a copy overwrites an object despite its condition
	refusesToOverwrite, overruns atomic.Bool
	refusesParts                 atomic.Bool // the storage does not copy parts of uploads with checksums
	proving                      sync.Mutex  // held during the copy that shows whether it obeys conditions
}

// A Copy is an object to be copied.
type Copy struct {
	FromBucket, FromKey string
	ETag                string // of the version that was read
	Key                 string
	Size                int64
	Digest              blob.Digest
	Type, CacheControl  string
}

// Do copies a version of an object. If S3 cannot vouch for the content, nothing is stored and the error matches
// errors.ErrUnsupported.
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

// errOverruns reports storage that ignores conditions on copies, and obeys them when an upload is completed.
var errOverruns = errors.New("the storage ignores conditions on copies")

// Proves reports whether S3 vouches for the content of an object: by its SHA-256, or by that of its only part.
func Proves(there *sdk.HeadObjectOutput, d blob.Digest) bool {
	sum := aws.ToString(there.ChecksumSHA256)
	return there.ChecksumType != types.ChecksumTypeComposite && sum == checksum.EncodeDigest(d) || sum == OfOnePart(d)
}

// OfOnePart returns the checksum that S3 has of an object uploaded in one part, instead of its SHA-256: the SHA-256
// of the part's SHA-256.
func OfOnePart(d blob.Digest) string { return checksum.EncodeDigest(blob.DigestOf(d[:])) + "-1" }

// Noted reports whether the metadata of an object names this content.
func Noted(there *sdk.HeadObjectOutput, d blob.Digest) bool {
	return there.Metadata[noted] == d.String()
}

// Metadata returns the metadata that a publisher records for an object of size bytes.
func (p *Place) Metadata(size int64, d blob.Digest) map[string]string {
	if size <= p.OnePart || !d.Known() {
		return nil
	}
	return map[string]string{noted: d.String()}
}

// Input returns a request to copy an object whole.
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

// whole copies an object of which S3 has the SHA-256, and checks that the copy has it.
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

// errUnsaid reports an answer that does not describe the copy.
var errUnsaid = mirror.Faultf("it does not say that it has made the copy that it was asked for")

// Object is CopyObject. Storage other than Amazon's must first prove that it obeys the condition: after its first
// copy the same copy is requested again, and must be refused because the object exists now. Until then, only one
// object is copied at a time.
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

// asOnePart copies an object as the only part of an upload. S3 computes the SHA-256 of the part, which is that of
// the object.
func (p *Place) asOnePart(ctx context.Context, c Copy) error {
	id, err := p.begin(ctx, c, types.ChecksumAlgorithmSha256, types.ChecksumTypeComposite)
	if err != nil {
		return err
	}
	one, err := p.copyPart(ctx, c, id, 1, nil)
	if p.Foreign && answer.Status(err) == http.StatusBadRequest {
		p.refusesParts.Store(true) // as MinIO does; so the next object is not tried in this way
	}
	if err == nil && aws.ToString(one.ChecksumSHA256) != checksum.EncodeDigest(c.Digest) {
		err = errors.ErrUnsupported // no checksum, or a wrong one: reading the object finds out
	}
	if err == nil {
		err = p.complete(ctx, c, &sdk.CompleteMultipartUploadInput{
			UploadId: &id, MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{one}}, ChecksumType: types.ChecksumTypeComposite,
		})
	}
	return p.ended(ctx, c, id, err)
}

// inParts copies an object in several parts. S3 does not compute its SHA-256. Instead, S3 verifies the CRC-64/NVME
// of the whole, which the publisher recorded with the SHA-256.
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

// complete makes an object of the parts, on the condition that there is none.
func (p *Place) complete(ctx context.Context, c Copy, in *sdk.CompleteMultipartUploadInput) error {
	in.Bucket, in.Key, in.IfNoneMatch = &p.Bucket, &c.Key, aws.String("*")
	_, err := slots.Call(ctx, p.Slots, func() (*sdk.CompleteMultipartUploadOutput, error) {
		return p.Client.CompleteMultipartUpload(ctx, in)
	})
	return err
}

// ended aborts a failed upload, unless a stop was requested. The bucket's lifecycle rule removes uploads that
// cannot be aborted.
func (p *Place) ended(ctx context.Context, c Copy, id string, err error) error {
	if err != nil && ctx.Err() == nil {
		_ = p.Uploads.Abort(ctx, c.Key, id)
	}
	return err
}
