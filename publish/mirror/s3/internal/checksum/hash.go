// Package checksum computes, in one pass over content, its digest and the checksums that S3 uses.
package checksum

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/minio/crc64nvme"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/sha256x2"
)

// BlockSize is how many bytes are read and hashed at a time. A block stays in the L2 cache.
const BlockSize = 256 << 10

// Buffers are *[BlockSize]byte.
var Buffers = sync.Pool{New: func() any { return new([BlockSize]byte) }}

// Sums are the checksums of the whole content.
type Sums struct {
	Digest blob.Digest
	CRC    uint64
}

// EncodeDigest encodes a digest as S3 does.
func EncodeDigest(d blob.Digest) string { return base64.StdEncoding.EncodeToString(d[:]) }

// A Part is a piece of content and its checksums. Parts are numbered from 1.
type Part struct {
	Number    int32
	Off, Size int64
	CRC       uint64
}

// A Hasher hashes as many objects at once as the processors hash best. More would delay each of them.
type Hasher struct {
	turns turns
	pairs sha256x2.Pairs // hashes two contents in the time of one
}

// New returns a Hasher for the processors of this machine.
func New() *Hasher {
	return &Hasher{turns: turns{free: sha256x2.PerProcessor() * runtime.GOMAXPROCS(0)}}
}

// Parts reads content once, from start to end, and calls done for each part as soon as its checksum is known.
func (h *Hasher) Parts(ctx context.Context, content io.ReaderAt, size, partSize int64, done func(Part)) (Sums, error) {
	whole := uint64(0)
	digest, err := h.scanning(ctx, size, func(digest *sha256x2.Hash, buf []byte) error {
		for number := int32(1); int64(number-1)*partSize < size; number++ {
			p := Part{Number: number, Off: int64(number-1) * partSize}
			p.Size = min(partSize, size-p.Off)
			err := scan(ctx, content, p.Off, p.Size, buf, func(piece []byte) {
				if Checked {
					digest.Write(piece)
				}
				p.CRC = crc64nvme.Update(p.CRC, piece)
			})
			if err != nil {
				return err
			}
			whole = Combine(whole, p.CRC, p.Size)
			done(p)
		}
		return nil
	})
	return Sums{Digest: digest, CRC: whole}, err
}

// Digest returns the digest alone, which suffices for content that is sent in one request: S3 then checks the
// digest.
func (h *Hasher) Digest(ctx context.Context, content io.ReaderAt, size int64) (blob.Digest, error) {
	return h.scanning(ctx, size, func(digest *sha256x2.Hash, buf []byte) error {
		return scan(ctx, content, 0, size, buf, func(piece []byte) {
			if Checked {
				digest.Write(piece)
			}
		})
	})
}

// scanning waits for a free processor, calls read with a digest and a buffer, and returns the digest.
func (h *Hasher) scanning(ctx context.Context, size int64, read func(digest *sha256x2.Hash, buf []byte) error) (blob.Digest, error) {
	if err := h.turns.take(ctx, size); err != nil {
		return blob.Digest{}, err
	}
	defer h.turns.giveBack()
	buf := Buffers.Get().(*[BlockSize]byte)
	defer Buffers.Put(buf)
	digest := h.pairs.New()
	defer digest.Close()
	err := read(digest, buf[:])
	return digest.Sum(), err
}

// scan reads size bytes of content into buf, piece by piece, and passes each piece to see.
func scan(ctx context.Context, content io.ReaderAt, off, size int64, buf []byte, see func([]byte)) error {
	for end := off + size; off < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := buf[:min(int64(len(buf)), end-off)]
		if err := ReadFull(content, piece, off); err != nil {
			return err
		}
		see(piece)
		off += int64(len(piece))
	}
	return nil
}

// ReadFull fills p. Content that ends early has changed, which is an error.
func ReadFull(content io.ReaderAt, p []byte, off int64) error {
	n, err := content.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || err == io.EOF:
		return fmt.Errorf("%w: %w", blob.ErrChanged, io.ErrUnexpectedEOF)
	}
	return err
}
