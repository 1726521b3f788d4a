package bench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// What an index offers is found wherever it stands, also where it is cut by what is read at a time.
func TestPackagesOfAnIndexAreFound(t *testing.T) {
	for before := (1 << 20) - 60; before <= (1<<20)+1; before++ {
		there, absent := fmt.Sprintf("%032d", 1), fmt.Sprintf("%032d", 2)
		text := strings.Repeat("x", before) + `"` + there + `":{"spec":{}},"` + absent + `":{}` + strings.Repeat("y", 1<<20)
		lacks := map[string]int{there: 0, absent: 1}
		size, err := strike(lacks, strings.NewReader(text))
		if err != nil || size != int64(len(text)) {
			t.Fatalf("read %d of %d bytes: %v", size, len(text), err)
		}
		if left := slices.Collect(maps.Keys(lacks)); !slices.Equal(left, []string{absent}) {
			t.Fatalf("at %d: lacking are %q", before, left)
		}
	}
}
