package s3test

import "math/bits"

// nvmePolynomial is the polynomial of CRC64NVME, in the notation of hash/crc64.
const nvmePolynomial = 0x9a6c9329ac4bc9b5

// A matrix is the effect of a number of zero bits on a checksum: column i is the effect on bit i.
type matrix [64]uint64

func (m *matrix) times(v uint64) uint64 {
	sum := uint64(0)
	for ; v != 0; v &= v - 1 {
		sum ^= m[bits.TrailingZeros64(v)]
	}
	return sum
}

func (m *matrix) square() *matrix {
	var s matrix
	for i := range s {
		s[i] = m.times(m[i])
	}
	return &s
}

// join returns the checksum of two pieces of content, the second of size bytes.
func join(a, b uint64, size int64) uint64 {
	bit := &matrix{0: nvmePolynomial}
	for i := 1; i < 64; i++ {
		bit[i] = 1 << (i - 1)
	}
	for n := 8 * size; n > 0; n >>= 1 {
		if n&1 != 0 {
			a = bit.times(a)
		}
		bit = bit.square()
	}
	return a ^ b
}
