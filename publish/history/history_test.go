package history_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
)

// grown is a mirror with a history of n generations, and beside each record one of a publisher that lost.
func grown(t testing.TB, index string, n int) (*mirrortest.Mem, history.Head) {
	t.Helper()
	m := mirrortest.NewMem(t)
	var parent *history.Parent
	for g := 1; g <= n; g++ {
		for _, digest := range []string{fmt.Sprintf("lost-%d", g), fmt.Sprintf("index-%d", g)} {
			r := history.Record{Generation: g, ID: history.NewID(g, parent, digest), Parent: parent, Digest: digest}
			if err := history.Write(t.Context(), m, index, &r); err != nil {
				t.Fatal(err)
			}
		}
		digest := fmt.Sprintf("index-%d", g)
		parent = &history.Parent{Generation: g, ID: history.NewID(g, parent, digest), Digest: digest}
	}
	return m, history.Head{Index: index, Place: history.Place{Generation: n, Record: parent.ID}, Digest: parent.Digest}
}

func generations(t *testing.T, r mirror.Reader, head history.Head, n int) []int {
	t.Helper()
	var got []int
	err := history.Chain(t.Context(), r, head, func(e history.Entry) bool {
		if want := fmt.Sprintf("index-%d", e.Generation); e.Digest != want {
			t.Errorf("generation %d is %s", e.Generation, e.Digest)
		}
		got = append(got, e.Generation)
		return len(got) < n
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// counting counts the names that were listed.
type counting struct {
	mirror.Store
	listed *int
}

func (c counting) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		c.Store.List(ctx, r)(func(i mirror.Info, err error) bool {
			*c.listed++
			return yield(i, err)
		})
	}
}

// The newest generations are found without listing the others, and records of publishers that lost are passed over.
func TestTheNewestAreFoundWithoutListingTheRest(t *testing.T) {
	m, head := grown(t, "v3", 500)
	listed := 0
	if got := generations(t, counting{m, &listed}, head, 5); !slices.Equal(got, []int{500, 499, 498, 497, 496}) {
		t.Errorf("got %v", got)
	}
	if listed > 100 {
		t.Errorf("%d names were listed", listed)
	}
	if got := generations(t, m, head, 1000); len(got) != 500 || got[499] != 1 {
		t.Errorf("%d generations", len(got))
	}
	// As a web server shows it: nothing can be listed.
	if got := generations(t, struct{ mirror.Reader }{m}, head, 1000); len(got) != 500 {
		t.Errorf("%d generations", len(got))
	}
}

// The records of one index are not below those of another, whatever it is called.
func TestIndicesHaveHistoriesOfTheirOwn(t *testing.T) {
	for _, other := range []string{"v3/a", "v3/a/b", "v2", "v3/9999999998-00000000000000000000000000000000.json"} {
		m, _ := grown(t, other, 3)
		var got []history.Entry
		if err := history.Chain(t.Context(), m, history.Head{Index: "v3", Digest: "x"}, func(e history.Entry) bool {
			got = append(got, e)
			return true
		}); err != nil || len(got) != 1 {
			t.Errorf("%s: %v %v", other, got, err)
		}
	}
}

// A pointer is text from outside: what it calls a record leads nowhere else.
func TestARecordThatIsNoneIsNotRead(t *testing.T) {
	m, head := grown(t, "v3", 3)
	for _, id := range []string{"../../../etc/passwd", "x", head.Record + "/"} {
		head.Record = id
		if err := history.Chain(t.Context(), struct{ mirror.Reader }{m}, head, func(history.Entry) bool { return true }); err == nil {
			t.Errorf("%q was read", id)
		}
	}
}

// A record that is gone ends what is known.
func TestALostRecordEndsTheHistory(t *testing.T) {
	m, head := grown(t, "v3", 5)
	var second history.Entry
	all := 0
	history.Chain(t.Context(), m, head, func(e history.Entry) bool { second = e; all++; return all < 2 })
	m.Uproot(history.Name("v3", second.Generation, second.ID))
	var last history.Entry
	if err := history.Chain(t.Context(), m, head, func(e history.Entry) bool { last = e; return true }); err != nil || !last.Lost || last.Generation != 4 {
		t.Errorf("%+v, %v", last, err)
	}
}
