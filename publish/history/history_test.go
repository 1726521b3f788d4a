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

// A record that is gone or damaged is reported, and the history goes on behind it where its name tells which record is the one before.
func TestALostRecordIsPassedOver(t *testing.T) {
	for what, content := range map[string]string{"gone": "", "cut": "{", "of another form": "[]", "about another": `{"generation":1,"id":"x"}`} {
		m, head := grown(t, "v3", 5)
		var second history.Entry
		all := 0
		history.Chain(t.Context(), m, head, func(e history.Entry) bool { second = e; all++; return all < 2 })
		name := history.Name("v3", second.Generation, second.ID)
		if m.Uproot(name); content != "" {
			m.Plant(name, []byte(content))
		}
		var got []history.Entry
		note := func(e history.Entry) bool { got = append(got, e); return true }
		if err := history.Chain(t.Context(), m, head, note); err != nil || len(got) != 5 {
			t.Fatalf("%s: %+v, %v", what, got, err)
		}
		for i, e := range got {
			lost := i == 1
			if want := fmt.Sprintf("index-%d", 5-i); e.Digest != want || e.Lost != lost || (e.Damaged != "") != (lost && content != "") {
				t.Errorf("%s: generation %d is %+v, want %s", what, e.Generation, e, want)
			}
		}
		// A web server cannot be asked which records there are.
		got = nil
		if err := history.Chain(t.Context(), struct{ mirror.Reader }{m}, head, note); err != nil || len(got) != 2 || !got[1].Lost {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}

// Records of publishers that lost a race are not taken for what was before one that is lost.
func TestWhatWasBeforeALostRecordIsNotGuessed(t *testing.T) {
	m, head := grown(t, "v3", 5)
	var second, third history.Entry
	history.Chain(t.Context(), m, head, func(e history.Entry) bool {
		if e.Generation == 4 {
			second = e
		}
		if third = e; e.Generation == 3 {
			return false
		}
		return true
	})
	m.Uproot(history.Name("v3", 4, second.ID))
	m.Uproot(history.Name("v3", 3, third.ID)) // the one that lost is left
	var last history.Entry
	if err := history.Chain(t.Context(), m, head, func(e history.Entry) bool { last = e; return true }); err != nil || !last.Lost || last.Generation != 4 {
		t.Errorf("%+v, %v", last, err)
	}
}

// The newest record may be damaged: the one before says what is kept out, and the numbers go on.
func TestTheNewestRecordIsDamaged(t *testing.T) {
	m, head := grown(t, "v3", 5)
	for name := range m.Snapshot() {
		if g, _, ok := history.ParseName("v3", name); ok && g == 5 {
			m.Plant(name, []byte("{"))
		}
	}
	records, newest, err := history.Latest(t.Context(), m, m, head.Index, "")
	if err != nil || newest != 5 || len(records) != 2 || records[0].Generation != 4 {
		t.Errorf("%d, %+v, %v", newest, records, err)
	}
}

// What publishers are about to replace one index with does not count as a generation of another.
func TestAttemptsAreNoGenerations(t *testing.T) {
	m, head := grown(t, "v3", 5)
	r := history.Record{Generation: 7, Parent: &history.Parent{Generation: 6, Digest: "sha256:spacks"}}
	r.ID = history.NewID(r.Generation, r.Parent, "x")
	if err := history.Write(t.Context(), m, head.Index, &r); err != nil {
		t.Fatal(err)
	}
	for digest, want := range map[string]int{"sha256:spacks": 5, "sha256:another": 7} {
		records, newest, err := history.Latest(t.Context(), m, m, head.Index, digest)
		if err != nil || newest != want || records[0].Generation != 7 {
			t.Errorf("beside %s: %d, %+v, %v", digest, newest, records, err)
		}
	}
}
