package work

import (
	"io/fs"
	"math"
	"path/filepath"
	"testing"
)

func TestSpread(t *testing.T) {
	sizes := spread(300, 20e3, 200e6, 3e9)
	sum := 0
	for i, n := range sizes {
		sum += n
		if i > 0 && n < sizes[i-1] {
			t.Fatalf("size %d is %d after %d", i, n, sizes[i-1])
		}
	}
	if math.Abs(float64(sum)-3e9) > 1e7 || sizes[0] < 20e3 || sizes[0] > 21e3 || sizes[299] > 200e6 || sizes[299] < 150e6 {
		t.Errorf("%d bytes in all, from %d to %d", sum, sizes[0], sizes[299])
	}
}

func TestEveryWorkloadIsMadeOnce(t *testing.T) {
	base := t.TempDir()
	for name := range makers {
		if err := Make(base, name, Tiny); err != nil {
			t.Error(err)
		}
		files := 0
		filepath.WalkDir(Dir(base, name, Tiny), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files++
			}
			return err
		})
		if files < 6 {
			t.Errorf("%s has %d files", name, files)
		}
		makers[name] = func(string, Scale) error { t.Errorf("%s is made again", name); return nil }
		if err := Make(base, name, Tiny); err != nil {
			t.Error(err)
		}
	}
	if Make(base, "none", Tiny) == nil {
		t.Error("a workload that does not exist was made")
	}
}
