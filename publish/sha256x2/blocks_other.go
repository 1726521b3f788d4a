//go:build !amd64

package sha256x2

const interleaves = false

func blocks(a, b *[8]uint32, p, q *byte, n int) { panic("not on this processor") }
