package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"sync"

	"github.com/minio/crc64nvme"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// readSize is how much is read at a time to be hashed: it stays in the L2 cache.
const readSize = 256 << 10

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// sums are what was found of the whole content.
type sums struct {
	digest blob.Digest
	crc    uint64
}

func encodeDigest(d blob.Digest) string { return base64.StdEncoding.EncodeToString(d[:]) }

// A part is a piece of content as it was hashed. Parts are counted from 1.
type part struct {
	number    int32
	off, size int64
	crc       uint64
	held      *heldPart // where it is in memory; nil: it is read again
}

// content is where a part is read from, to be sent.
func (p part) content(whole io.ReaderAt) io.ReaderAt {
	if p.held != nil {
		return p.held
	}
	return whole
}

func (p part) free() {
	if p.held != nil {
		p.held.free()
	}
}

// nothing is held where nothing will be sent.
func nothing(off, size int64) *heldPart { return nil }

// hash reads content once, from start to end, and tells done of each part as soon as it
// is known. The pass yields both what the content is named by and what S3 will check. Parts
// for which hold has room are kept in it; done sees to it that they are freed.
func (b *Bucket) hash(ctx context.Context, content io.ReaderAt, size, partSize int64, hold func(off, size int64) *heldPart, done func(part)) (sums, error) {
	digest, whole := sha256.New(), uint64(0)
	err := b.scanning(ctx, func(buf []byte) error {
		for number := int32(1); int64(number-1)*partSize < size; number++ {
			p := part{number: number, off: int64(number-1) * partSize}
			p.size = min(partSize, size-p.off)
			p.held = hold(p.off, p.size)
			err := scan(ctx, content, p.off, p.size, p.held.room(buf), func(piece []byte) {
				if checked {
					digest.Write(piece)
				}
				p.crc = crc64nvme.Update(p.crc, piece)
			})
			if err != nil {
				p.free()
				return err
			}
			whole = combine(whole, p.crc, p.size)
			done(p)
		}
		return nil
	})
	return sums{digest: blob.Digest(digest.Sum(nil)), crc: whole}, err
}

// digest is hash for content that is sent in one request: S3 checks its digest then,
// and needs nothing else. The content is kept in held, unless that is nil.
func (b *Bucket) digest(ctx context.Context, content io.ReaderAt, size int64, held *heldPart) (blob.Digest, error) {
	digest := sha256.New()
	err := b.scanning(ctx, func(buf []byte) error {
		return scan(ctx, content, 0, size, held.room(buf), func(piece []byte) {
			if checked {
				digest.Write(piece)
			}
		})
	})
	return blob.Digest(digest.Sum(nil)), err
}

// scanning calls read with a buffer when a processor is free for it.
func (b *Bucket) scanning(ctx context.Context, read func(buf []byte) error) error {
	if err := b.hashers.Acquire(ctx, 1); err != nil {
		return err
	}
	defer b.hashers.Release(1)
	buf := readBuffers.Get().(*[readSize]byte)
	defer readBuffers.Put(buf)
	return read(buf[:])
}

// scan shows size bytes of content to see, piece by piece. They are read into room: one
// after the other if it has room for all, or each in place of the one before.
func scan(ctx context.Context, content io.ReaderAt, off, size int64, room []byte, see func([]byte)) error {
	for end := off + size; off < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := room[:min(readSize, end-off)]
		if err := readFull(content, piece, off); err != nil {
			return err
		}
		see(piece)
		off += int64(len(piece))
		if int64(len(room)) >= size {
			room, size = room[len(piece):], size-int64(len(piece))
		}
	}
	return nil
}

// readFull fills p or says why not: content that ends early has changed.
func readFull(content io.ReaderAt, p []byte, off int64) error {
	n, err := content.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || err == io.EOF:
		return fmt.Errorf("%w: %w", blob.ErrChanged, io.ErrUnexpectedEOF)
	}
	return err
}

// promised compares what was found with what the caller says the content is.
func promised(u mirror.Upload, found blob.Digest) error {
	if !checked || !u.Digest.Known() || found == u.Digest {
		return nil
	}
	size := u.Content.Size()
	return &blob.MismatchError{Name: u.Name, WantSize: size, GotSize: size, Want: u.Digest, Got: found}
}
