package mirrortest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// oddNames make listing hard: bytes around the slash, characters that must be encoded in URLs and in XML, names
// that look encoded already, and directories that sort differently with and without a slash.
var oddNames = []string{
	"p/Z", "p/a", "p/a+1/c", "p/a-b", "p/ab.c", "p/ab/c", "p/ab/c+1", "p/ab/d", "p/ab0",
	"p/100%", "p/%41", "p/%2F", "p/me@home", "p/~tmp", "p/with space", "p/with+plus", "p/a&b<c>'d\"", "p/q?x=y#z",
	"p/semi;colon,comma", "p/b[1]{2}*", "p/back\\slash", "p/ümlaut", "p/日本/x", "p/\U0001F600",
	"p/deep/er/and/deeper/x", "p/deep.er", "p/...", "p/.hidden", "q", "p0", "P/x",
}

func listRanges(t *testing.T, m Store) {
	if got := list(t, m, mirror.Range{}); len(got) != 0 {
		t.Errorf("an empty mirror lists %v", names(got))
	}
	for _, name := range oddNames {
		mustCreate(t, m, text(name, name))
	}
	for _, name := range oddNames {
		wantContent(t, m, name, []byte(name))
	}
	all := slices.Sorted(slices.Values(oddNames))
	bounds := []string{"", "P", "p/a", "p/ab", "p/ab.c", "p/ab/", "p/ab/c", "p/deep/er/and", "p/with", "p/\u00fc", "p/日本/x", "p0", "z"}
	for _, prefix := range []string{"", "p", "p/", "p/a", "p/ab", "p/ab/", "p/deep/e", "p/日", "p/nothing", "q"} {
		for _, after := range bounds {
			for _, until := range bounds {
				r := mirror.Range{Prefix: prefix, After: after, Until: until}
				want := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !contains(r, name) })
				if got := names(list(t, m, r)); !slices.Equal(got, want) {
					t.Errorf("list %+v: got %q, want %q", r, got, want)
				}
			}
		}
	}
}

func listMany(t *testing.T, m Store) {
	const many, writers = 1050, 16 // more than one page of S3
	var want []string
	for n := range many {
		want = append(want, fmt.Sprintf("many/%02x/%04d", n%7, n))
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := w; n < many; n += writers {
				if err := m.Create(t.Context(), text(want[n], "x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(want)
	if got := names(list(t, m, mirror.Range{Prefix: "many/"})); !slices.Equal(got, want) {
		t.Errorf("listed %d names, want %d in byte order", len(got), len(want))
	}
	middle := mirror.Range{After: want[10], Until: want[1040]}
	if got := names(list(t, m, middle)); !slices.Equal(got, want[11:1040]) {
		t.Errorf("listed %d names in the middle, want %d", len(got), 1040-11)
	}
}

func listStops(t *testing.T, m Store) {
	for _, name := range []string{"a", "b/x", "b/y", "c"} {
		mustCreate(t, m, text(name, name))
	}
	var got []string
	for info, err := range m.List(t.Context(), mirror.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Name)
		if len(got) == 2 {
			break
		}
	}
	if want := []string{"a", "b/x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
