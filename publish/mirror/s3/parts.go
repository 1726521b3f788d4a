package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/checksum"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/put"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/slots"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/unfinished"
)

// An upload is a multipart upload of an object.
type upload struct {
	b *Bucket
	o *object

	id       string   // empty until the upload was started
	ours     bool     // started by this process, not found
	others   []string // unfinished uploads of the same object, useless once it exists
	partSize int64
	have     map[int32]types.Part // parts that had arrived before

	// mu guards done while parts are being sent.
	mu   sync.Mutex
	done []types.CompletedPart // by number, from 1
}

// storeParts sends an object in parts. The first parts are sent while the rest is being hashed. They become an
// object only if the whole content has the promised digest.
//
// An interruption leaves an upload that can be resumed. An upload is discarded only if its content is known to be
// wrong.
func (b *Bucket) storeParts(ctx context.Context, o *object, was mirror.Version) (mirror.Version, error) {
	u := &upload{b: b, o: o, partSize: max(b.partSize(o.size), min(o.PartSize, maxPart))}
	if !o.startOver && !o.Fresh {
		there, err := u.resume(ctx, was)
		if err != nil {
			return "", err
		}
		if there != mirror.Absent {
			u.tidy(ctx, u.id)
			return there, nil
		}
	}
	u.done = make([]types.CompletedPart, (o.size+u.partSize-1)/u.partSize)
	if err := u.sendParts(ctx); err != nil {
		if wrong(err) {
			u.discard(ctx)
		}
		return "", err
	}
	is, err := u.complete(ctx, was)
	if err == nil {
		u.tidy(ctx)
	}
	return is, err
}

// wrong reports whether the content of an upload has another digest than the promised one.
func wrong(err error) bool {
	var mismatch *blob.MismatchError
	return errors.As(err, &mismatch) || errors.Is(err, blob.ErrChanged)
}

// partSize returns the configured part size, or a larger one if the object would have more than maxParts.
func (b *Bucket) partSize(size int64) int64 {
	least := (size + maxParts - 1) / maxParts
	least = (least + mib - 1) / mib * mib
	return max(b.opts.PartSize, least)
}

// sendParts hashes the content and sends the missing parts. Hashing never waits for sending: the description of a
// part is small, so all of them fit in the channel between the two.
func (u *upload) sendParts(whole context.Context) error {
	g, ctx := defect.WithContext(whole)
	hashed := make(chan checksum.Part, len(u.done))
	g.Go(func() error {
		defer close(hashed)
		found, err := u.b.hasher.Parts(ctx, u.o.content, u.o.size, u.partSize, func(p checksum.Part) { hashed <- p })
		if err != nil {
			return err
		}
		u.o.learn(found)
		return u.o.verified()
	})
	g.Go(func() error {
		if u.id == "" {
			// It is not cancelled when hashing fails, because an upload whose ID is unknown cannot be discarded.
			if err := u.begin(whole); err != nil {
				return err
			}
		}
		for p := range hashed {
			if u.arrived(p) {
				continue
			}
			s := u.b.slots.Slot()
			if err := s.Take(ctx); err != nil {
				return err
			}
			g.Go(func() error {
				defer s.Free()
				return u.sendPart(ctx, p, &s)
			})
		}
		return nil
	})
	return g.Wait()
}

func (u *upload) begin(ctx context.Context) error {
	in := &sdk.CreateMultipartUploadInput{
		Bucket: &u.b.opts.Bucket, Key: &u.o.key,
		ChecksumAlgorithm:    types.ChecksumAlgorithmCrc64nvme,
		ChecksumType:         types.ChecksumTypeFullObject,
		Metadata:             u.b.copies.Metadata(u.o.size, u.o.Digest),
		ContentType:          optional(u.o.Type),
		CacheControl:         optional(u.o.CacheControl),
		StorageClass:         types.StorageClass(u.b.opts.StorageClass),
		ServerSideEncryption: types.ServerSideEncryption(u.b.opts.SSE),
		SSEKMSKeyId:          optional(u.b.opts.KMSKeyID),
	}
	out, err := call(ctx, u.b, u.b.client.CreateMultipartUpload, in)
	if err != nil {
		return err
	}
	if u.id, u.ours = aws.ToString(out.UploadId), true; u.id == "" {
		return mirror.Faultf("it answers CreateMultipartUpload without UploadId")
	}
	if tries, ok := retry.GetAttemptResults(out.ResultMetadata); ok && len(tries.Results) > 1 {
		// The answer was lost, and with it the ID of an upload that exists.
		u.lookForOthers(ctx)
	}
	return nil
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// arrived reports whether a part with the same bytes has already arrived.
func (u *upload) arrived(p checksum.Part) bool {
	there, ok := u.have[p.Number]
	if !ok || aws.ToInt64(there.Size) != p.Size || aws.ToString(there.ChecksumCRC64NVME) != checksum.EncodeCRC(p.CRC) {
		return false
	}
	u.finished(p, aws.ToString(there.ETag))
	return true
}

func (u *upload) sendPart(ctx context.Context, p checksum.Part, s *slots.Slot) error {
	etag, err := u.b.puts.Send(ctx, put.Request{
		Operation: "UploadPart",
		Key:       u.o.key,
		Query:     "partNumber=" + strconv.Itoa(int(p.Number)) + "&uploadId=" + url.QueryEscape(u.id),
		Header:    http.Header{"X-Amz-Checksum-Crc64nvme": {checksum.EncodeCRC(p.CRC)}},
		Content:   u.o.content, Off: p.Off, Size: p.Size,
		Sent:       u.sent,
		Repeatable: true,
	}, s)
	if err != nil {
		return changed(err)
	}
	if etag == "" {
		return errNoETag("UploadPart")
	}
	u.finished(p, etag)
	return nil
}

// sent forwards the progress of parts that are sent concurrently.
func (u *upload) sent(n int64) {
	if u.o.Sent == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.o.Sent(n)
}

func (u *upload) finished(p checksum.Part, etag string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done[p.Number-1] = types.CompletedPart{
		PartNumber: &p.Number, ETag: &etag, ChecksumCRC64NVME: aws.String(checksum.EncodeCRC(p.CRC)),
	}
}

// complete makes an object of the parts, on the condition that the existing object has the version was. S3 checks
// the size and the checksum of the whole.
func (u *upload) complete(ctx context.Context, was mirror.Version) (mirror.Version, error) {
	in := &sdk.CompleteMultipartUploadInput{
		Bucket: &u.b.opts.Bucket, Key: &u.o.key, UploadId: &u.id,
		MultipartUpload:   &types.CompletedMultipartUpload{Parts: u.done},
		ChecksumType:      types.ChecksumTypeFullObject,
		ChecksumCRC64NVME: aws.String(checksum.EncodeCRC(u.o.crc)),
		MpuObjectSize:     &u.o.size,
	}
	switch {
	case u.b.unconditional():
	case was == mirror.Absent:
		in.IfNoneMatch = aws.String("*")
	default:
		in.IfMatch = aws.String(string(was))
	}
	out, err := call(ctx, u.b, u.b.client.CompleteMultipartUpload, in)
	if err == nil && aws.ToString(out.ETag) == "" {
		return "", unsure(errNoETag("CompleteMultipartUpload"))
	}
	if err == nil {
		return answer.Version(aws.ToString(out.ETag)), nil
	}
	if !u.ours && (answer.Code(err) == "InvalidRequest" || wrongContent[answer.Code(err)]) {
		err = fmt.Errorf("%w: %w", unfinished.ErrNotOurs, err) // some servers report it only now
	}
	// After a refusal the upload still exists but will never become the object: either the object is not wanted, or
	// S3 requires all parts again.
	if reason(err) != other || wrongContent[answer.Code(err)] {
		u.discard(ctx)
	}
	if errors.Is(err, unfinished.ErrNotOurs) {
		return "", err
	}
	return "", unsure(changed(err))
}

// tidy discards the unfinished uploads of an object that exists. A publisher that is still sending one of them
// finds the object instead.
func (u *upload) tidy(ctx context.Context, also ...string) {
	for _, id := range append(also, u.others...) {
		u.discardID(ctx, id)
	}
}

// discardTime is how long a discard is tried.
const discardTime = 30 * time.Second

// discard aborts the upload, unless a stop was requested. The bucket's lifecycle rule removes uploads that discard
// cannot.
func (u *upload) discard(ctx context.Context) { u.discardID(ctx, u.id) }

func (u *upload) discardID(ctx context.Context, id string) {
	if id == "" || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, discardTime)
	defer cancel()
	if err := u.b.uploads.Abort(ctx, u.o.key, id); err != nil {
		u.b.opts.Log.Warn("an unfinished upload is left behind", "error", u.b.failed(discarding, u.o.key, err))
	}
}
