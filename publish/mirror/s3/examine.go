package s3

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/crc64nvme"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/checksum"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/listing"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/put"
)

// A Trial is the result of testing one ability that publishing needs.
type Trial struct {
	What string
	Err  error // nil if the store behaves as Amazon S3 does
	// Without says how publishing works without the ability. It is empty if publishing needs it.
	Without string
}

// Examine tests the abilities that publishing needs beyond the methods of a mirror. names are existing objects
// below prefix whose content is their name and whose Cache-Control is caching. It leaves nothing behind, unless the
// store is faulty.
func (m *Mirror) Examine(ctx context.Context, prefix string, names []string, caching string) []Trial {
	name := names[0]
	return []Trial{
		{"Cache-Control", m.tryLabel(ctx, name, caching), "caches keep a stale index for as long as they like"},
		{"listing in pages", m.tryPages(ctx, prefix, names), ""},
		{"listing from a name on", m.tryAfter(ctx, prefix, names), "mirrors of more than a thousand packages cannot be listed in ranges"},
		{"checksums of what arrives", m.tryChecksum(ctx, name), "content is compared with its digest before it is sent, and not when it has arrived: use `publish verify --deep` from time to time"},
		{"uploads in parts, and their conditions", m.tryParts(ctx, name), ""},
		{"finding unfinished uploads", m.tryUnfinished(ctx, prefix, name), "an interrupted upload of a large file starts again from the beginning"},
		{"copies within the storage, and their conditions", m.tryCopies(ctx, name, names[len(names)-1]), "`publish copy` has large objects copied as parts of uploads, if the storage does that, which takes more requests, and sends others through this machine"},
	}
}

// tryCopies copies an object onto an existing one, under the condition that there is none. It must be the last
// test, because a store that ignores the condition overwrites the object.
func (m *Mirror) tryCopies(ctx context.Context, name, over string) error {
	info, err := m.Stat(ctx, name)
	if err != nil {
		return err
	}
	u := mirror.Upload{Name: over, Content: blob.Bytes([]byte(name)), Type: "text/plain"}
	_, err = call(ctx, m.bucket, m.bucket.client.CopyObject, m.bucket.copies.Input(m.copyOf(m, name, string(info.Version), u)))
	switch {
	case err == nil && m.bucket.unconditional():
		return nil
	case err == nil:
		return mirror.Faultf("it ignores %s on copies, and overwrites what is there", ifNoneMatch)
	case reason(err) == refused || reason(err) == inTheWay:
		return nil
	}
	return m.bucket.failed(writing, m.key(over), err)
}

// tryPages lists two keys a page, which shows whether listings continue in order and to the end.
func (m *Mirror) tryPages(ctx context.Context, prefix string, names []string) error {
	return listsAs(m.pages(ctx, mirror.Range{Prefix: prefix}, 2), slices.Sorted(slices.Values(names)))
}

func (m *Mirror) tryAfter(ctx context.Context, prefix string, names []string) error {
	sorted := slices.Sorted(slices.Values(names))
	return listsAs(m.pages(ctx, mirror.Range{Prefix: prefix, After: sorted[1]}, listing.PageKeys), sorted[2:])
}

func listsAs(listed func(func(mirror.Info, error) bool), want []string) error {
	var got []string
	for info, err := range listed {
		if err != nil {
			return err
		}
		got = append(got, info.Name)
	}
	if !slices.Equal(got, want) {
		return mirror.Faultf("asked for %q, it lists %q", want, got)
	}
	return nil
}

// tryChecksum replaces an object by its own content, sent with the checksum of another.
func (m *Mirror) tryChecksum(ctx context.Context, name string) error {
	info, err := m.Stat(ctx, name)
	if err != nil {
		return err
	}
	content := []byte(name)
	h := http.Header{"X-Amz-Checksum-Sha256": {checksum.EncodeDigest(blob.DigestOf([]byte("other content")))}}
	if !m.bucket.unconditional() {
		h.Set(ifMatch, string(info.Version))
	}
	err = m.bucket.putOnce(ctx, put.Request{Operation: "PutObject", Key: m.key(name), Header: h, Content: bytes.NewReader(content), Size: int64(len(content))})
	switch {
	case err == nil:
		return mirror.Faultf("it accepts content that does not have the checksum in the request")
	case wrongContent[answer.Code(err)] || answer.Status(err) == http.StatusBadRequest:
		return nil
	}
	return m.bucket.failed(writing, m.key(name), err)
}

func (b *Bucket) putOnce(ctx context.Context, p put.Request) error {
	s := b.slots.Slot()
	if err := s.Take(ctx); err != nil {
		return err
	}
	defer s.Free()
	_, err := b.puts.Attempt(ctx, p)
	return err
}

// tryParts completes an upload of one part over an existing object, under the condition that there is none.
func (m *Mirror) tryParts(ctx context.Context, name string) error {
	u, err := m.begin(ctx, name)
	if err != nil {
		return err
	}
	defer u.discard(ctx)
	content := []byte(name)
	o := u.o
	o.size, o.crc = int64(len(content)), crc64nvme.Checksum(content)
	u.done = make([]types.CompletedPart, 1)
	o.content, err = blob.Bytes(content).Open()
	if err != nil {
		return err
	}
	s := m.bucket.slots.Slot()
	if err := s.Take(ctx); err != nil {
		return err
	}
	err = u.sendPart(ctx, checksum.Part{Number: 1, Size: o.size, CRC: o.crc}, &s)
	s.Free()
	if err != nil {
		return m.bucket.failed(writing, o.key, err)
	}
	_, err = u.complete(ctx, mirror.Absent)
	switch {
	case err == nil && m.bucket.unconditional():
		return nil
	case err == nil:
		return m.bucket.failed(writing, o.key, &mirror.ConditionError{Header: ifNoneMatch})
	case reason(err) == refused || reason(err) == inTheWay:
		return nil
	}
	return m.bucket.failed(writing, o.key, err)
}

// begin starts a multipart upload of an object.
func (m *Mirror) begin(ctx context.Context, name string) (*upload, error) {
	o := &object{Upload: mirror.Upload{Name: name, Type: "text/plain"}, key: m.key(name)}
	u := &upload{b: m.bucket, o: o}
	if err := u.begin(ctx); err != nil {
		return nil, m.bucket.failed(writing, o.key, err)
	}
	return u, nil
}

func (m *Mirror) tryUnfinished(ctx context.Context, prefix, name string) error {
	u, err := m.begin(ctx, name)
	if err != nil {
		return err
	}
	defer u.discard(ctx)
	for _, under := range []string{name, prefix} {
		found := false
		for l, err := range m.Leftovers(ctx, under) {
			if err != nil {
				return err
			}
			found = found || l.Name == name && l.ID == u.id
		}
		if !found {
			return mirror.Faultf("it does not list an unfinished upload of %q below %q", name, under)
		}
	}
	if _, err := m.bucket.uploads.Parts(ctx, u.o.key, u.id); err != nil {
		return m.bucket.failed(listingParts, u.o.key, err)
	}
	return nil
}

func (m *Mirror) tryLabel(ctx context.Context, name, caching string) error {
	key := m.key(name)
	out, err := m.bucket.head(ctx, key)
	if err != nil {
		return m.bucket.failed(looking, key, err)
	}
	if got := aws.ToString(out.CacheControl); got != caching {
		return fmt.Errorf("it keeps %s of what was sent as Cache-Control", answer.Quoted(got))
	}
	return nil
}
