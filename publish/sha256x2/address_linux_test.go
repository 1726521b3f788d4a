package sha256x2

import (
	"crypto/sha256"
	"hash"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// guarded returns memory that ends where a page begins that must not be touched.
func guarded(t *testing.T, pages int) []byte {
	t.Helper()
	size := os.Getpagesize()
	all, err := unix.Mmap(-1, 0, (pages+1)*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(all) })
	if err := unix.Mprotect(all[pages*size:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return all[:pages*size]
}

// Content may begin at any address and end where nothing may be read any more, in either of two that are hashed
// together.
func TestContentAtOddAddressesAndTheEndOfAPage(t *testing.T) {
	if !interleaves {
		t.Log("not on this processor")
		return
	}
	one, two := guarded(t, 2), guarded(t, 2)
	copy(one, noise(1, len(one)))
	copy(two, noise(2, len(two)))
	for _, size := range []int{64, 128, 192, 640, 4096, 4096 + 64, len(one) - 64} {
		for odd := range 65 {
			for _, contents := range [][2][]byte{
				{one[odd : odd+size][:size:size], two[len(two)-size:]}, // an odd address; the end of a page
				{one[len(one)-size:], two[odd : odd+size]},
				{one[max(len(one)-size-odd, 0) : len(one)-odd], two[odd/2 : odd/2+size]},
			} {
				if odd+size > len(one) {
					continue
				}
				hashes := [2]hash.Hash{sha256.New(), sha256.New()}
				states := [2]*state{stateOf(hashes[0]), stateOf(hashes[1])}
				blocks(&states[0].words, &states[1].words, &contents[0][0], &contents[1][0], size/sha256.BlockSize)
				for i, h := range hashes {
					states[i].give(h, size)
					if [sha256.Size]byte(h.Sum(nil)) != sha256.Sum256(contents[i]) {
						t.Fatalf("%d bytes, %d bytes off: content %d has another sum", size, odd, i)
					}
				}
			}
		}
	}
}
