package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/checksum"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/put"
)

const (
	ifMatch     = "If-Match"
	ifNoneMatch = "If-None-Match"
)

// conditionOf returns the condition for replacing the version was.
func conditionOf(was mirror.Version) (header, value string) {
	if was == mirror.Absent {
		return ifNoneMatch, "*"
	}
	return ifMatch, string(was)
}

// unconditional reports whether writes carry no conditions.
func (b *Bucket) unconditional() bool { return b.opts.SingleWriter && b.foreign }

// placeOf identifies a bucket, so that a proof does not count for a bucket of the same name at another endpoint. It
// is published, so it does not reveal the address.
func placeOf(endpoint, bucket string) string {
	if u, err := url.Parse(endpoint); err == nil {
		endpoint = u.Host
	}
	sum := sha256.Sum256([]byte(endpoint + "\n" + bucket))
	return hex.EncodeToString(sum[:8])
}

// Proof implements mirror.Prover. Amazon S3 obeys conditions; for other storage a proof is needed.
func (m *Mirror) Proof(was mirror.Version) string {
	b := m.bucket
	if !b.foreign || b.unconditional() {
		return ""
	}
	header, _ := conditionOf(was)
	return strings.ToLower(header) + " " + b.place
}

// proofObject is a name under which nothing is stored, except by faulty storage.
const proofObject = "publish-proof"

// Prove implements mirror.Prover. To prove If-None-Match, it writes an existing object as a new one. To prove
// If-Match, it replaces an object that does not exist. If no existing object is known, it proves If-Match instead
// of If-None-Match.
func (m *Mirror) Prove(ctx context.Context, was mirror.Version, there *mirror.Upload) error {
	b := m.bucket
	if m.Proof(was) == "" {
		return nil
	}
	header, value := conditionOf(was)
	u := mirror.Upload{Name: proofObject, Content: blob.Bytes([]byte("the storage has stored this, although it was asked to do so only in place of another object\n")), Type: "text/plain"}
	switch {
	case header == ifNoneMatch && there != nil:
		u = *there
	default:
		header, value = ifMatch, `"00000000000000000000000000000000"`
	}
	if _, done := b.proved.Load(header); done {
		return nil
	}
	key := m.key(u.Name)
	err := b.writeUnder(ctx, key, u, header, value)
	if err == nil && header == ifNoneMatch {
		err = b.writeUnder(ctx, key, u, header, value) // the object may not have existed; now it does
	}
	switch {
	case err == nil:
		return b.failed(writing, key, &mirror.ConditionError{Header: header})
	case answer.Status(err) == http.StatusPreconditionFailed, answer.Status(err) == http.StatusNotFound && answer.Code(err) != "NoSuchBucket": // also if the answer was cut off
		b.proved.Store(header, true)
		return nil
	}
	return b.failed(writing, key, err)
}

// writeUnder writes a small object with a condition.
func (b *Bucket) writeUnder(ctx context.Context, key string, u mirror.Upload, header, value string) error {
	r, err := u.Content.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	content := make([]byte, u.Content.Size())
	if err := checksum.ReadFull(r, content, 0); err != nil {
		return err
	}
	h := b.labels(&object{Upload: u}, mirror.Absent)
	h.Del(ifNoneMatch)
	h.Set(header, value)
	if checksum.Checked {
		h["X-Amz-Checksum-Sha256"] = []string{checksum.EncodeDigest(blob.DigestOf(content))}
	}
	s := b.slots.Slot()
	if err := s.Take(ctx); err != nil {
		return err
	}
	defer s.Free()
	_, err = b.puts.Send(ctx, put.Request{
		Operation: "PutObject", Key: key, Header: h,
		Content: bytes.NewReader(content), Size: int64(len(content)),
		Repeatable: true,
	}, &s)
	return err
}
