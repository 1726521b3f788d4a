package s3

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/checksum"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/copies"
)

// A sight describes the object that exists under the name of an upload.
type sight struct {
	version mirror.Version // Absent if there is none
	same    bool           // it has the content of the upload
}

// look compares the existing object with the upload.
func (b *Bucket) look(ctx context.Context, o *object) (sight, error) {
	for try := 1; ; try++ {
		s, err := b.lookOnce(ctx, o)
		if !errors.Is(err, errReplaced) {
			return s, err
		}
		if try == maxTries { // another writer keeps writing other content
			return s, nil
		}
	}
}

// errReplaced reports an object that was replaced while it was compared.
var errReplaced = errors.New("replaced in the meantime")

func (b *Bucket) lookOnce(ctx context.Context, o *object) (sight, error) {
	out, err := b.head(ctx, o.key)
	if code := answer.Code(err); code == "NoSuchKey" || answer.Status(err) == http.StatusNotFound && code != "NoSuchBucket" {
		return sight{}, nil
	}
	if err != nil {
		return sight{}, err
	}
	s := sight{version: answer.Version(aws.ToString(out.ETag))}
	if aws.ToInt64(out.ContentLength) == o.size {
		s.same, err = b.same(ctx, o, out)
	}
	return s, err
}

// same compares the content by the strongest checksum that S3 has of the whole object. If S3 has none, as for
// objects that other tools uploaded in parts, the object is read.
func (b *Bucket) same(ctx context.Context, o *object, there *sdk.HeadObjectOutput) (bool, error) {
	whole := there.ChecksumType != types.ChecksumTypeComposite
	if sum := aws.ToString(there.ChecksumSHA256); strings.HasSuffix(sum, "-1") {
		if err := b.know(ctx, o); err != nil {
			return false, err
		}
		return sum == copies.OfOnePart(o.digest), nil
	}
	if sum := aws.ToString(there.ChecksumSHA256); sum != "" && whole && !strings.Contains(sum, "-") {
		if err := b.know(ctx, o); err != nil {
			return false, err
		}
		return sum == checksum.EncodeDigest(o.digest), nil
	}
	if sum := aws.ToString(there.ChecksumCRC64NVME); sum != "" && whole {
		if err := b.knowCRC(ctx, o); err != nil {
			return false, err
		}
		return sum == checksum.EncodeCRC(o.crc), nil
	}
	if err := b.know(ctx, o); err != nil {
		return false, err
	}
	digest, err := b.readBack(ctx, o.key, aws.ToString(there.ETag))
	return digest == o.digest, err
}

// know makes sure that the digest of the content is known and is the promised one.
func (b *Bucket) know(ctx context.Context, o *object) error {
	if o.digest.Known() {
		return nil
	}
	return b.knowCRC(ctx, o)
}

func (b *Bucket) knowCRC(ctx context.Context, o *object) error {
	if o.crcKnown {
		return nil
	}
	found, err := b.hasher.Parts(ctx, o.content, o.size, max(o.size, 1), func(checksum.Part) {})
	if err != nil {
		return err
	}
	o.learn(found)
	return o.verified()
}

func (o *object) learn(found checksum.Sums) {
	o.digest, o.crc, o.crcKnown = found.Digest, found.CRC, true
}

// readBack hashes the version of an object that look has found.
func (b *Bucket) readBack(ctx context.Context, key, etag string) (blob.Digest, error) {
	out, err := call(ctx, b, b.client.GetObject, &sdk.GetObjectInput{Bucket: &b.opts.Bucket, Key: &key, IfMatch: &etag})
	if status := answer.Status(err); status == http.StatusPreconditionFailed || status == http.StatusNotFound {
		return blob.Digest{}, errReplaced
	}
	if err != nil {
		return blob.Digest{}, err
	}
	if err := complete("GetObject", out.ContentLength, out.ETag); err != nil {
		out.Body.Close()
		return blob.Digest{}, err
	}
	r := &reader{ctx: ctx, b: b, key: key, body: out.Body, end: aws.ToInt64(out.ContentLength), info: mirror.Info{Size: aws.ToInt64(out.ContentLength), Version: answer.Version(etag)}}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return blob.Digest{}, err
	}
	return blob.Digest(h.Sum(nil)), nil
}
