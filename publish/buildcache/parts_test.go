package buildcache

import "testing"

// An index is sent in few parts, each of which is a request.
func TestAnIndexIsSentInFewParts(t *testing.T) {
	for size, want := range map[int64]int64{13e6: 2, 113e6: 5, 160e6: 5, 1.1e9: 33} {
		part := indexUpload(Object{Name: "index", Size: size}).PartSize
		if got := (size + part - 1) / part; got != want {
			t.Errorf("%d bytes: %d parts, want %d", size, got, want)
		}
	}
}
