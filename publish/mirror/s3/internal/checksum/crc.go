package checksum

import (
	"encoding/base64"
	"encoding/binary"
)

// CRC64NVME is the only checksum that S3 keeps of a whole object and that can be computed part by part: the
// checksum of two pieces follows from the checksums of each. It is reflected: bit 63 stands for x^0, bit 0 for
// x^63.

// nvme is the polynomial without its x^64.
const nvme = 0x9a6c9329ac4bc9b5

// one is the polynomial 1.
const one = 1 << 63

// multiply returns a*b modulo the polynomial.
func multiply(a, b uint64) uint64 {
	product := uint64(0)
	for ; a != 0; a <<= 1 {
		if a&one != 0 {
			product ^= b
		}
		// b *= x: what leaves as x^64 comes back as the rest of the polynomial.
		if b&1 != 0 {
			b = b>>1 ^ nvme
		} else {
			b >>= 1
		}
	}
	return product
}

// zeroes returns x^(8n) modulo the polynomial: the effect of n more bytes on a checksum.
func zeroes(n int64) uint64 {
	power := uint64(one)
	for square := uint64(one >> 8); n > 0; n >>= 1 {
		if n&1 != 0 {
			power = multiply(power, square)
		}
		square = multiply(square, square)
	}
	return power
}

// Combine returns the checksum of content with the checksum a followed by size bytes with the checksum b.
func Combine(a, b uint64, size int64) uint64 {
	return multiply(a, zeroes(size)) ^ b
}

// EncodeCRC encodes a checksum as S3 does.
func EncodeCRC(crc uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc))
}
