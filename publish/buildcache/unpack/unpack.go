// Package unpack unpacks specs and bounds the memory used for it.
package unpack

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/semaphore"
)

// MaxSpec is the maximum size of a spec in bytes, packed or unpacked: far more than a spec of Spack has.
const MaxSpec = 16 << 20

// unpacking bounds how many bytes of specs are unpacked at once.
var unpacking = semaphore.NewWeighted(64 << 20)

// Reserve waits until n bytes of this bound are free, and reserves them until release is called.
func Reserve(ctx context.Context, n int64) (release func(), err error) {
	if err := unpacking.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { unpacking.Release(n) }, nil
}

// Limit returns the largest size to which stored bytes of a spec may unpack. Specs compress to about a tenth.
// A spec that unpacks to a hundred times its size was made to fill memory.
func Limit(stored int64) int64 { return min(MaxSpec, 64<<10+100*stored) }

// Gunzip unpacks a spec blob to at most limit bytes. Spack also accepts spec blobs that are not packed.
func Gunzip(stored []byte, limit int64) ([]byte, error) {
	if !bytes.HasPrefix(stored, []byte{0x1f, 0x8b}) {
		return stored, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(stored))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(zr, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("its %d bytes unpack to more than %d, which no spec of Spack does: push the package again", len(stored), limit)
	}
	return text, err
}
