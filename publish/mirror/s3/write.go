package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/checksum"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/put"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/unfinished"
)

// errTaken reports a write that was not made because an object with other content exists.
var errTaken = errors.New("other content is there")

// Create stores a new object.
func (m *Mirror) Create(ctx context.Context, u mirror.Upload) error {
	_, err := m.write(ctx, &object{Upload: u}, mirror.Absent, mirror.ErrExist)
	return err
}

// Swap stores an object in place of the version was.
func (m *Mirror) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	return m.write(ctx, &object{Upload: u, mutable: true}, was, mirror.ErrConflict)
}

// write stores o in place of the version was. If the existing object has another version and other content, the
// error is taken.
func (m *Mirror) write(ctx context.Context, o *object, was mirror.Version, taken error) (mirror.Version, error) {
	b := m.bucket
	o.key, o.size = m.key(o.Name), o.Content.Size()
	if err := ctx.Err(); err != nil {
		return "", b.failed(writing, o.key, err)
	}
	var err error
	if o.content, err = o.Content.Open(); err != nil {
		return "", b.failed(writing, o.key, err)
	}
	defer o.content.Close()
	is, err := b.store(ctx, o, was)
	if errors.Is(err, errTaken) {
		err = taken
	}
	if err != nil {
		return "", b.failed(writing, o.key, err)
	}
	return is, nil
}

// An object is an upload, and what is known of it.
type object struct {
	mirror.Upload
	key     string
	size    int64
	content blob.Reader
	mutable bool // other publishers may write other content under this name

	digest    blob.Digest // zero until the content was hashed
	crc       uint64
	crcKnown  bool
	startOver bool // the parts sent so far are useless: start a new upload
}

// maxTries is how often a write is restarted because another writer interfered: by a write of its own, or by
// discarding the upload.
const maxTries = 5

// store writes an object and returns its version, also if another publisher wrote it.
func (b *Bucket) store(ctx context.Context, o *object, was mirror.Version) (mirror.Version, error) {
	for try := 1; ; try++ {
		if b.unconditional() {
			now, err := b.look(ctx, o)
			switch {
			case err != nil:
				return "", err
			case now.same:
				return now.version, nil
			case now.version != was:
				return "", errTaken
			}
		}
		is, err := b.storeOnce(ctx, o, was)
		if err == nil {
			return is, nil
		}
		is, err = b.reconcile(ctx, o, was, err)
		if !errors.Is(err, errAgain) {
			return is, err
		}
		if try == maxTries {
			return "", fmt.Errorf("begun %d times: %w", try, err)
		}
	}
}

func (b *Bucket) storeOnce(ctx context.Context, o *object, was mirror.Version) (mirror.Version, error) {
	if o.size > b.opts.Threshold {
		return b.storeParts(ctx, o, was)
	}
	return b.storeWhole(ctx, o, was)
}

// errAgain reports a write that can be restarted: the object to be replaced has not changed.
var errAgain = errors.New("another request was in the way")

// An unsureError is a failure after which the object may nevertheless exist.
type unsureError struct{ error }

func (e *unsureError) Unwrap() error { return e.error }

// unsure marks the failure of a request that makes the object visible.
func unsure(err error) error {
	if status := answer.Status(err); err == nil || status != 0 && status < 500 && status != http.StatusOK || status == http.StatusNotImplemented {
		return err
	}
	return &unsureError{err}
}

// lastLook is how long the result of a write is requested after all attempts at it have failed.
const lastLook = 20 * time.Second

// reconcile finds out whether a failed write was carried out, by reading the existing object. If that has the
// content of the upload, reconcile returns its version.
func (b *Bucket) reconcile(ctx context.Context, o *object, was mirror.Version, failure error) (mirror.Version, error) {
	var lost *unsureError
	why := reason(failure)
	if ctx.Err() != nil || why == other && !errors.As(failure, &lost) {
		return "", failure
	}
	if why == refused && o.Own {
		return "", errTaken
	}
	if why == other {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lastLook)
		defer cancel()
	}
	now, err := b.look(ctx, o)
	switch {
	case err != nil && why == other:
		return "", failure
	case err != nil:
		return "", fmt.Errorf("see what is there: %w", b.translate(looking, o.key, err))
	case now.same:
		return now.version, nil
	case why == other:
		return "", failure
	case now.version == was && (was == mirror.Absent || why == gone):
		o.startOver = true
		return "", fmt.Errorf("%w: %w", errAgain, failure)
	}
	return "", errTaken
}

// A cause is the reason of a failed write, as far as it decides what to do next.
type cause int

const (
	other    cause = iota
	refused        // the condition does not hold
	inTheWay       // a concurrent request conflicts
	gone           // the uploaded parts are missing or were changed
)

func reason(err error) cause {
	if errors.Is(err, unfinished.ErrNotOurs) {
		return gone
	}
	switch answer.Code(err) {
	case "NoSuchUpload", "InvalidPart", "InvalidPartOrder":
		return gone
	case "NoSuchKey":
		return refused // there is no object to match
	}
	switch answer.Status(err) {
	case http.StatusPreconditionFailed:
		return refused
	case http.StatusConflict:
		return inTheWay
	}
	return other
}

// storeWhole sends an object in one request. It checks the digest before it sends the first byte, and S3 refuses
// content with another digest.
func (b *Bucket) storeWhole(ctx context.Context, o *object, was mirror.Version) (mirror.Version, error) {
	p := put.Request{
		Operation: "PutObject", Key: o.key, Header: b.labels(o, was),
		Content: o.content, Size: o.size, Sent: o.Sent,
		Repeatable: was == mirror.Absent,
	}
	s := b.slots.Slot()
	defer s.Free()
	if o.size <= checksum.BlockSize {
		// In a slot, so that no more objects are in memory than can be sent.
		if err := s.Take(ctx); err != nil {
			return "", err
		}
		buf := checksum.Buffers.Get().(*[checksum.BlockSize]byte)
		defer checksum.Buffers.Put(buf)
		small := buf[:o.size]
		if err := checksum.ReadFull(o.content, small, 0); err != nil {
			return "", err
		}
		p.Content, o.digest = bytes.NewReader(small), blob.DigestOf(small)
	} else {
		var err error
		if o.digest, err = b.hasher.Digest(ctx, o.content, o.size); err != nil {
			return "", err
		}
	}
	if err := o.verified(); err != nil {
		return "", err
	}
	if checksum.Checked {
		p.Header["X-Amz-Checksum-Sha256"] = []string{checksum.EncodeDigest(o.digest)}
	}
	if !s.Held() {
		if err := s.Take(ctx); err != nil {
			return "", err
		}
	}
	etag, err := b.puts.Send(ctx, p, &s)
	if err != nil {
		return "", unsure(changed(err))
	}
	if etag == "" {
		return "", unsure(errNoETag(p.Operation))
	}
	return answer.Version(etag), nil
}

// errNoETag reports an answer that does not say what was stored.
func errNoETag(operation string) error {
	return mirror.Faultf("it answers %s without ETag, so what it has stored is unknown", operation)
}

// verified compares the digest of the content with the promised one. Without a promise, the file must be the same
// as before: it may have been rewritten while it was read.
func (o *object) verified() error {
	if o.Digest.Known() {
		return promised(o.Upload, o.digest)
	}
	r, err := o.Content.Open()
	if err != nil {
		return err
	}
	return r.Close()
}

// changed explains why S3 keeps receiving other content than was hashed.
func changed(err error) error {
	if wrongContent[answer.Code(err)] {
		return fmt.Errorf("%w: %w", blob.ErrChanged, err)
	}
	return err
}

var wrongContent = map[string]bool{"BadDigest": true, "XAmzContentChecksumMismatch": true, "InvalidDigest": true}

// labels returns the headers of a new object, and the condition for storing it.
func (b *Bucket) labels(o *object, was mirror.Version) http.Header {
	h := make(http.Header, 12) // with room for what signing adds
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set("Content-Type", o.Type)
	set("Cache-Control", o.CacheControl)
	set("X-Amz-Storage-Class", b.opts.StorageClass)
	set("X-Amz-Server-Side-Encryption", b.opts.SSE)
	set("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", b.opts.KMSKeyID)
	if !b.unconditional() {
		h.Set(conditionOf(was))
	}
	return h
}

// promised compares a digest with the one that the caller has promised.
func promised(u mirror.Upload, found blob.Digest) error {
	if !checksum.Checked || !u.Digest.Known() || found == u.Digest {
		return nil
	}
	size := u.Content.Size()
	return &blob.MismatchError{Name: u.Name, WantSize: size, GotSize: size, Want: u.Digest, Got: found}
}
