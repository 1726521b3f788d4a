package reindex_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// chain is the whole history of an index, newest first, and checks that each generation follows from the one before.
func chain(t testing.TB, s mirror.Store, f buildcache.Layout) []history.Entry {
	t.Helper()
	p, err := f.ReadPointer(t.Context(), s)
	publishtest.Must(t, err)
	var all []history.Entry
	publishtest.Must(t, history.Chain(t.Context(), s, p.Head(f), func(e history.Entry) bool {
		all = append(all, e)
		return true
	}))
	offered := make(map[string]bool)
	for i, e := range slices.Backward(all) {
		if e.Foreign || e.Lost {
			return all
		}
		if want := len(all) - i; e.Generation != want {
			t.Errorf("generation %d stands for %d", e.Generation, want)
		}
		for _, name := range e.Added {
			if offered[name] {
				t.Errorf("generation %d adds %s, which is there", e.Generation, name)
			}
			offered[name] = true
		}
		for _, name := range e.Removed {
			if !offered[name] {
				t.Errorf("generation %d removes %s, which is not there", e.Generation, name)
			}
			delete(offered, name)
		}
		if len(offered) != e.Packages {
			t.Errorf("generation %d: %d packages, of which records tell of %d", e.Generation, e.Packages, len(offered))
		}
	}
	if len(all) > 0 && (all[0].Digest != p.Digest() || all[0].ID != p.Record) {
		t.Errorf("the newest record is %+v, the pointer is %+v", all[0], p)
	}
	return all
}

func packagesOf(of []string) []string {
	var names []string
	for _, name := range of {
		names = append(names, name[:strings.IndexByte(name, '@')])
	}
	return names
}

// Every switch of an index leaves one record, in one small write, and a run that changes nothing writes nothing.
func TestEverySwitchLeavesARecord(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		t.Run(fixture, func(t *testing.T) {
			l := publishtest.LayoutOf(fixture)
			f, _ := buildcache.LayoutNamed(l)
			m := publishtest.EmptyMirror(t)
			ctx := history.By(t.Context(), history.Author{Command: "publish", By: "tester", Run: "https://ci/1"})
			publishOne := func(names ...string) {
				plan := publishtest.MustPlan(t, m, publishtest.Original(fixture), publishtest.Only(names...))
				_, err := plan.Apply(ctx, publishtest.Ignored{})
				publishtest.Must(t, err)
			}
			publishOne("zlib")
			publishOne("zlib", "gcc-runtime", "openssl", "munge")
			m.Forget()
			publishOne("zlib", "gcc-runtime", "openssl", "munge")
			if len(m.Mutations()) > 0 {
				t.Errorf("a run that changes nothing did %v", m.Mutations())
			}
			m.Uproot(publishtest.SubjectOf(t, m).Find("munge"))
			m.Forget()
			_, err := reindex.Rebuild(ctx, m, buildcache.Trust{})
			publishtest.Must(t, err)
			if n := len(slices.DeleteFunc(m.Mutations(), func(c mirrortest.Call) bool { return !strings.HasPrefix(c.Name, history.Dir) })); n != 1 {
				t.Errorf("%d writes of a record", n)
			}
			all := chain(t, m, f)
			if len(all) != 3 {
				t.Fatalf("%d generations: %+v", len(all), all)
			}
			if got := packagesOf(all[0].Removed); !slices.Equal(got, []string{"munge"}) || len(all[0].Added) != 0 {
				t.Errorf("the rebuild: %+v", all[0])
			}
			if got := packagesOf(all[1].Added); !slices.Equal(got, []string{"gcc-runtime", "munge", "openssl"}) {
				t.Errorf("the second publish added %v", got)
			}
			if e := all[2]; e.Parent != nil || e.Author != (history.Author{Command: "publish", By: "tester", Run: "https://ci/1"}) || e.Time.IsZero() {
				t.Errorf("the first record: %+v", e)
			}
		})
	}
}

// Of publishers that race, one replaces the pointer: the history is the line of what the pointer was, and has no other
// record reachable from it.
func TestHistoryNeverForks(t *testing.T) {
	for _, what := range []string{"race", "turns", "race for an index of Spack"} {
		t.Run(what, func(t *testing.T) {
			if what == "turns" {
				t.Cleanup(reindex.AlwaysTakeTurns())
			}
			const publishers = 48
			m := publishtest.EmptyMirror(t)
			if strings.Contains(what, "Spack") {
				publishtest.PlantIndex(t, m, `{"database":{"version":"8","installs":{}}}`)
			}
			var group sync.WaitGroup
			for i := range publishers {
				src := publishtest.Tree{}
				h := strings.Repeat("a", 30) + string("abcdefgh"[i/8]) + string("abcdefgh"[i%8])
				src.V3(fmt.Sprintf("p%02d", i), "1", spec.Hash(h), publishtest.SpecType, publishtest.Document(5, publishtest.Node(fmt.Sprintf("p%02d", i), "1", spec.Hash(h), "")))
				dir := src.Dir(t)
				group.Go(func() {
					if _, err := publishtest.PublishTo(t, m, dir, publish.Options{}); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			all := chain(t, m, buildcache.V3)
			var added []string
			for _, e := range all {
				added = append(added, e.Added...)
			}
			if len(added) != publishers {
				t.Errorf("%d of %d packages in the history", len(added), publishers)
			}
			// Those that lost have no record of a generation that comes later: else the pointer would pass for one that was put back.
			if newest, _, err := history.Newest(t.Context(), m, "v3"); err != nil || newest > all[0].Generation+1 || all[0].Generation != len(all) {
				t.Errorf("it is of generation %d of %d, and there is a record of generation %d: %v", all[0].Generation, len(all), newest, err)
			}
			written := map[string]bool{}
			for _, e := range all {
				if e.Parent != nil && written[e.Parent.ID] {
					t.Errorf("two children of %s", e.Parent.ID)
				}
				if e.Parent != nil {
					written[e.Parent.ID] = true
				}
			}
		})
	}
}

// A publisher that dies at any request, or loses an answer, leaves a history with one record for each index that there was.
func TestACrashLeavesTheHistoryInOrder(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		f, _ := buildcache.LayoutNamed(publishtest.LayoutOf(fixture))
		for k, done := 1, false; !done; k++ {
			m := publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("zlib"))
			b := mirrortest.Break(m, mirrortest.Kill(k))
			_, err := publishtest.PublishTo(t, b, publishtest.Original(fixture), publishtest.Only("zlib", "gcc-runtime", "openssl"))
			done = err == nil
			chain(t, m, f)
			publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("zlib", "gcc-runtime", "openssl", "munge"))
			all := chain(t, m, f)
			if n := len(all); n != 2 && n != 3 || all[n-1].Packages != 1 || all[0].Packages != 4 {
				t.Errorf("%s, killed at request %d: %+v", fixture, k, all)
			}
		}
	}
}

// Spack rewrites a pointer without our member. The history goes on behind it.
func TestHistoryGoesOnAfterAnotherProgram(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		f, _ := buildcache.LayoutNamed(l)
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib", "gcc-runtime"))
		clobber(publishtest.SubjectOf(t, m), l)
		if all := chain(t, m, f); len(all) != 3 || !all[0].Foreign || all[0].Generation != 3 || all[1].Generation != 2 {
			t.Errorf("%s, by Spack: %+v", l, all)
		}
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publish.Options{})
		all := chain(t, m, f)
		if len(all) != 4 || all[0].Generation != 4 || all[1].Generation != 3 || !all[1].Foreign || all[2].Generation != 2 || all[3].Generation != 1 {
			t.Errorf("%s: %+v", l, all)
		}
	}
}

// An index that came back to earlier content is another document: a client that holds the ETag of the earlier pointer would lose
// its copy.
func TestNoTwoPointersNameTheSameIndex(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		f, _ := buildcache.LayoutNamed(l)
		m := publishtest.EmptyMirror(t)
		seen := make(map[string]string)
		look := func(what string) {
			t.Helper()
			p, err := f.ReadPointer(t.Context(), m)
			publishtest.Must(t, err)
			if before, ok := seen[p.Digest()]; ok {
				t.Errorf("%s: the index %s is that of %s", l, what, before)
			}
			seen[p.Digest()] = what
		}
		all := publish.Options{}
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), all)
		look("of the first publish")
		document := publishtest.SubjectOf(t, m).Find("munge")
		content := m.Snapshot()[document]
		for round := range 3 {
			m.Uproot(document)
			_, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{})
			publishtest.Must(t, err)
			look(fmt.Sprintf("without munge, round %d", round))
			m.Plant(document, content)
			publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), all)
			look(fmt.Sprintf("with munge again, round %d", round))
			clobber(publishtest.SubjectOf(t, m), l)
			publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), all)
			look(fmt.Sprintf("after Spack, round %d", round))
		}
	}
}

// A publisher that read no pointer, and lists a history that is newer, does not count on from it: what it makes comes too late.
func TestAHistoryThatIsNewerThanThePointer(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		f, _ := buildcache.LayoutNamed(l)
		for when, op := range map[string]mirrortest.Op{"before it is listed": mirrortest.Open, "after it was listed": mirrortest.List} {
			m := publishtest.EmptyMirror(t)
			others := sync.OnceFunc(func() {
				for _, names := range [][]string{{"zlib"}, {"zlib", "gcc-runtime"}, {"zlib", "gcc-runtime", "openssl"}} {
					publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only(names...))
				}
			})
			b := mirrortest.Break(m)
			b.AfterEach(func(c mirrortest.Call) {
				if c.Op == op {
					others()
				}
			})
			p, err := buildcache.PointerForUpdate(t.Context(), f, b)
			publishtest.Must(t, err)
			publishtest.Must(t, p.Recall(t.Context(), f, m, m)) // as before it is replaced
			if p.Version != mirror.Absent || p.Generation != 0 {
				t.Errorf("%s, %s: %q, generation %d", l, when, p.Version, p.Generation)
			}
		}
	}
}

// A publisher that may write packages and no history publishes all the same, and names no record that is not there.
func TestPublishersThatMayNotWriteHistory(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		f, _ := buildcache.LayoutNamed(l)
		m := publishtest.EmptyMirror(t)
		denied := mirrortest.Break(m, mirrortest.Fail(history.Dir, &mirror.DeniedError{Action: "s3:PutObject", Name: history.Dir}))
		publishtest.MustPublish(t, denied, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
		p, err := f.ReadPointer(t.Context(), m)
		publishtest.Must(t, err)
		if p.Record != "" || p.Generation != 1 {
			t.Errorf("the pointer names the record %q of generation %d", p.Record, p.Generation)
		}
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publish.Options{})
		if all := chain(t, m, f); len(all) != 2 || all[0].Generation != 2 || !all[1].Foreign {
			t.Errorf("%s: %+v", l, all)
		}
		broken := mirrortest.Break(m, mirrortest.Fail(history.Dir, errors.New("disk on fire")))
		m.Uproot(publishtest.SubjectOf(t, m).Find("munge"))
		if _, err := reindex.Rebuild(t.Context(), broken, buildcache.Trust{}); err == nil {
			t.Error("an index was replaced without a record")
		}
	}
}
