package prune

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/rollback"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// What is not offered takes no place from what is, among the newest versions: neither what was withdrawn nor what an index went back from.
func TestTheNewestVersionsAreThoseOnOffer(t *testing.T) {
	for _, test := range []struct {
		there string // versions that have documents: -: not offered, !: withdrawn
		n     int
		want  string
	}{
		{"1 2 3", 1, "3"},
		{"1 2 3", 2, "2 3"},
		{"1 2 3!", 1, "2"},
		{"1 2! 3!", 1, "1"},
		{"1 2 3-", 1, "2 3"},
		{"1 2- 3!", 1, "1 2"},
		{"1- 2 3", 2, "2 3"},
		{"1! 2!", 1, ""},
	} {
		s := &scan{graph: newGraph()}
		for i, v := range strings.Fields(test.there) {
			hash := spec.Hash(fmt.Sprintf("%032d", i))
			version := strings.TrimRight(v, "-!")
			s.graph.add(&spec.Node{Name: "a", Version: version, Hash: hash}, version == v)
			s.documents = append(s.documents, document{hash: hash, node: s.graph.at[hash], tombstone: strings.HasSuffix(v, "!")})
		}
		var got []string
		for _, at := range slices.Sorted(maps.Keys(s.newest(test.n))) {
			got = append(got, s.graph.nodes[at].version)
		}
		if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%d of %s (-want +got):\n%s", test.n, test.there, diff)
		}
	}
}

// With --keep-generations as a rule, the prune leaves what a rollback to any of these generations needs, and nothing that only older ones
// offered.
func TestGenerationsStayThatCanBeRolledBackTo(t *testing.T) {
	for keep, packages := range map[int]int{1: 2, 2: 2, 3: 3, 4: 4} {
		synctest.Test(t, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			dir := publishtest.Original("v3-unsigned")
			publishtest.MustPublish(t, m, dir, publishtest.Only("zlib", "gcc-runtime", "openssl", "munge"))
			for _, left := range []string{"munge", "openssl", "gcc-runtime"} { // one less each time
				replaceIndexWithout(t, m, left)
			}
			time.Sleep(30 * day)
			o := careful(Keep{Generations: keep, Offered: true})
			mustPrune(t, m, o)
			if got := packagesOf(m.Snapshot()); len(got) != packages {
				t.Errorf("%d generations: %v", keep, got)
			}
			for g := range keep {
				plan, err := rollback.NewPlan(t.Context(), rollback.Mirror{Layout: buildcache.V3, Store: m}, rollback.Target{Generation: 4 - g})
				if err != nil || len(plan.Missing) > 0 {
					t.Errorf("%d generations, to %d: %v, %+v", keep, 4-g, err, plan)
				}
			}
		})
	}
}

func replaceIndexWithout(t *testing.T, m *mirrortest.Mem, name string) {
	t.Helper()
	_, err := reindex.Edit(t.Context(), buildcache.V3, m, func(_ context.Context, was *buildcache.Pointer, x *indices.Set) error {
		for e := range x.Records() {
			if e.Name == name {
				was.Past = was.Withholding(e.Hash)
				x.Withhold(e.Hash)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Where a record of a generation that is to be kept is gone or damaged, no package goes: it is not known which are to be kept.
func TestWithoutARecordGenerationsKeepEverything(t *testing.T) {
	for gen := 2; gen <= 4; gen++ {
		for what, text := range map[string]string{"gone": "", "truncated": `{"generation": 4, "removed": ["a`, "empty": "{}"} {
			synctest.Test(t, func(t *testing.T) {
				m := publishtest.EmptyMirror(t)
				publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("zlib", "gcc-runtime", "openssl", "munge"))
				for _, left := range []string{"munge", "openssl", "gcc-runtime"} {
					replaceIndexWithout(t, m, left)
				}
				before := len(packagesOf(m.Snapshot()))
				for name := range m.Snapshot() {
					if g, _, ok := history.ParseName("v3", name); ok && g == gen {
						m.Uproot(name)
						if text != "" {
							m.Plant(name, []byte(text))
						}
					}
				}
				time.Sleep(30 * day)
				o := careful(Keep{Generations: 3, Offered: true})
				o.AllowEmpty = true
				p := mustPlan(t, m, o)
				goes, said := p.documents() > 0, buildcache.Failed(p.Findings)
				if want := gen == 2; goes != want || said == want {
					t.Errorf("generation %d %s: of %d packages %d go, %v", gen, what, before, p.documents(), p.Findings)
				}
			})
		}
	}
}
