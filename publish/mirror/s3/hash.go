package s3

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"sync"

	"github.com/minio/crc64nvme"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/sha256x2"
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
}

// hash reads content once, from start to end, and tells done of each part as soon as it
// is known. The pass yields both what the content is named by and what S3 will check.
func (b *Bucket) hash(ctx context.Context, content io.ReaderAt, size, partSize int64, done func(part)) (sums, error) {
	whole := uint64(0)
	digest, err := b.scanning(ctx, func(digest *sha256x2.Hash, buf []byte) error {
		for number := int32(1); int64(number-1)*partSize < size; number++ {
			p := part{number: number, off: int64(number-1) * partSize}
			p.size = min(partSize, size-p.off)
			err := scan(ctx, content, p.off, p.size, buf, func(piece []byte) {
				if checked {
					digest.Write(piece)
				}
				p.crc = crc64nvme.Update(p.crc, piece)
			})
			if err != nil {
				return err
			}
			whole = combine(whole, p.crc, p.size)
			done(p)
		}
		return nil
	})
	return sums{digest: digest, crc: whole}, err
}

// digest is hash for content that is sent in one request: S3 checks its digest then,
// and needs nothing else.
func (b *Bucket) digest(ctx context.Context, content io.ReaderAt, size int64) (blob.Digest, error) {
	return b.scanning(ctx, func(digest *sha256x2.Hash, buf []byte) error {
		return scan(ctx, content, 0, size, buf, func(piece []byte) {
			if checked {
				digest.Write(piece)
			}
		})
	})
}

// scanning calls read with a digest and a buffer when a processor is free for it, and returns
// the digest.
func (b *Bucket) scanning(ctx context.Context, read func(digest *sha256x2.Hash, buf []byte) error) (blob.Digest, error) {
	if err := b.hashers.Acquire(ctx, 1); err != nil {
		return blob.Digest{}, err
	}
	defer b.hashers.Release(1)
	buf := readBuffers.Get().(*[readSize]byte)
	defer readBuffers.Put(buf)
	digest := b.pairs.New()
	defer digest.Close()
	err := read(digest, buf[:])
	return digest.Sum(), err
}

// scan shows size bytes of content to see, piece by piece, as they are read into buf.
func scan(ctx context.Context, content io.ReaderAt, off, size int64, buf []byte, see func([]byte)) error {
	for end := off + size; off < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := buf[:min(int64(len(buf)), end-off)]
		if err := readFull(content, piece, off); err != nil {
			return err
		}
		see(piece)
		off += int64(len(piece))
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
