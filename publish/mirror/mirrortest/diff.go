package mirrortest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Snapshot reads a whole mirror.
func Snapshot(ctx context.Context, m interface {
	mirror.Reader
	mirror.Lister
}) (map[string][]byte, error) {
	s := map[string][]byte{}
	for info, err := range m.List(ctx, mirror.Range{}) {
		if err != nil {
			return nil, err
		}
		o, err := m.Open(ctx, info.Name)
		if err != nil {
			return nil, err
		}
		s[info.Name], err = io.ReadAll(o.Body)
		o.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Diff returns a line for each name in which two snapshots differ: "-" for a name that only want has, "+" for a
// name that only got has, "!" for other content. It is empty if they are equal.
func Diff(want, got map[string][]byte) string {
	names := maps.Clone(want)
	maps.Copy(names, got)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(names)) {
		w, wanted := want[name]
		g, there := got[name]
		switch {
		case !there:
			fmt.Fprintf(&b, "- %s\n", name)
		case !wanted:
			fmt.Fprintf(&b, "+ %s\n", name)
		case !bytes.Equal(w, g):
			fmt.Fprintf(&b, "! %s: %s\n", name, where(w, g))
		}
	}
	return b.String()
}

// where returns the first difference of two contents.
func where(want, got []byte) string {
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	from := max(0, i-20)
	around := func(b []byte) []byte { return b[min(from, len(b)):min(i+20, len(b))] }
	return fmt.Sprintf("at byte %d: %q, want %q", i, around(got), around(want))
}
