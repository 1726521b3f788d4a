package nofile

import "testing"

// With the usual limits nothing is bounded, with low ones what is open at once stays below them, and something is
// always done.
func TestWhatIsDoneAtOnceFitsTheLimit(t *testing.T) {
	for _, row := range []struct{ limit, most, each, want int }{
		{1 << 20, 160, 4, 160}, {1 << 20, 128, 1, 128}, {1024, 128, 1, 128}, {1024, 160, 4, 123},
		{256, 128, 1, 108}, {128, 128, 1, 44}, {128, 160, 4, 11}, {64, 160, 4, 3}, {20, 160, 4, 1}, {0, 160, 4, 1},
	} {
		if got := atOnce(row.limit, row.most, row.each); got != row.want {
			t.Errorf("of %d files, %d things with %d each: %d at once, want %d", row.limit, row.most, row.each, got, row.want)
		}
	}
	if Limit() < 3 {
		t.Errorf("a limit of %d files", Limit())
	}
}
