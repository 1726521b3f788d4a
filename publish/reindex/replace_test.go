package reindex_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

func viewOf(t *testing.T, name string) buildcache.Layout {
	t.Helper()
	l, ok := buildcache.V3.View(name)
	if !ok {
		t.Fatal("layout v3 has no views")
	}
	return l
}

// theIndex returns the indices of the whole mirror.
func theIndex(t *testing.T, m *mirrortest.Mem) *indices.Set {
	t.Helper()
	p, err := buildcache.V3.ReadPointer(t.Context(), m)
	publishtest.Must(t, err)
	x, err := buildcache.V3.ReadIndex(t.Context(), m, p)
	publishtest.Must(t, err)
	return x
}

// hashOf returns the hash of a package that is offered.
func hashOf(t *testing.T, x *indices.Set, name string) spec.Hash {
	t.Helper()
	for r := range x.Records() {
		if r.Name == name && r.InBuildcache {
			return r.Hash
		}
	}
	t.Fatalf("no %s", name)
	return ""
}

// A named index is written by the protocol of the index of the whole mirror, and no other object of the mirror is touched.
func TestANamedIndexIsReplacedLikeAnyOther(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	all := theIndex(t, m)
	before := m.Snapshot()
	f := viewOf(t, "2026-11/login")
	only := func(names ...string) reindex.Make {
		return func(context.Context, *buildcache.Pointer, *indices.Set) (*indices.Set, error) {
			x := indices.New(f.Generations())
			x.Part(index.V8)
			for _, name := range names {
				x.Keep(all, hashOf(t, all, name))
			}
			return x, nil
		}
	}
	steps := []struct {
		name    string
		make    reindex.Make
		before  int
		after   int
		written bool
	}{
		{"empty", only(), 0, 0, true},
		{"empty again", only(), 0, 0, false},
		{"one", only("zlib"), 0, 1, true},
		{"the same", only("zlib"), 1, 1, false},
		{"another", only("munge"), 1, 1, true},
		{"left alone", func(context.Context, *buildcache.Pointer, *indices.Set) (*indices.Set, error) {
			return nil, nil
		}, 1, 1, false},
		{"empty at last", only(), 1, 0, true},
	}
	for _, step := range steps {
		was := string(m.Snapshot()[layout.V3View("2026-11/login")])
		out, err := reindex.Replace(t.Context(), f, m, step.make)
		publishtest.Must(t, err)
		if out.Before != step.before || out.After != step.after || out.Written != step.written {
			t.Errorf("%s: %d to %d packages, written %t", step.name, out.Before, out.After, out.Written)
		}
		if now := string(m.Snapshot()[layout.V3View("2026-11/login")]); (now != was) != step.written {
			t.Errorf("%s: the pointer is %s", step.name, now)
		}
	}
	for name, content := range before {
		if string(m.Snapshot()[name]) != string(content) {
			t.Errorf("%s has changed", name)
		}
	}
}

// A replacement that loses a race is made again, of what the other publisher has written.
func TestAReplacementThatLosesARaceIsMadeAgain(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	all := theIndex(t, m)
	f := viewOf(t, "site")
	adding := func(name string) reindex.Make {
		return func(_ context.Context, _ *buildcache.Pointer, now *indices.Set) (*indices.Set, error) {
			x := indices.New(f.Generations())
			for r := range all.Records() {
				if r.InBuildcache && (r.Name == name || now != nil && now.Has(r.Hash)) {
					x.Keep(all, r.Hash)
				}
			}
			return x, nil
		}
	}
	b := mirrortest.Break(m)
	others := []string{"munge", "hwloc"}
	b.AfterEach(func(c mirrortest.Call) {
		if c.Op == mirrortest.Open && c.Name == layout.V3View("site") && len(others) > 0 {
			next := others[0]
			others = others[1:]
			_, err := reindex.Replace(t.Context(), f, m, adding(next))
			publishtest.Must(t, err)
		}
	})
	out, err := reindex.Replace(t.Context(), f, b, adding("zlib"))
	publishtest.Must(t, err)
	if out.After != 3 || !out.Written {
		t.Errorf("%d packages, written %t", out.After, out.Written)
	}
}

// A writer of an index that always takes too long to be sure that no prune has begun gives up. One that offers only what is young may
// take any time.
func TestAnIndexThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := publishtest.EmptyMirror(t)
		dir := publishtest.Original("v3-unsigned")
		publishtest.MustPublish(t, m, dir, publishtest.Only("zlib", "munge"))
		without := func(name string) reindex.Make {
			return func(_ context.Context, _ *buildcache.Pointer, now *indices.Set) (*indices.Set, error) {
				return now.Without(map[spec.Hash]bool{hashOf(t, now, name): true})
			}
		}
		_, err := reindex.Replace(t.Context(), buildcache.V3, m, without("munge"))
		publishtest.Must(t, err)
		time.Sleep(30 * 24 * time.Hour)
		slow := &slowHistory{Mem: m}
		for what, write := range map[string]func() error{
			"replace": func() error {
				_, err := reindex.Replace(t.Context(), buildcache.V3, slow, without("zlib"))
				return err
			},
			"heal": func() error {
				_, err := reindex.Heal(t.Context(), slow, buildcache.Trust{}, reindex.Changes{Names: publishtest.NamesOf(m.Snapshot())})
				return err
			},
		} {
			slow.records = 0
			if err := write(); !errors.Is(err, notice.ErrLate) || slow.records != 3 {
				t.Errorf("%s: %v after %d attempts", what, err, slow.records)
			}
		}
		m.Uproot(publishtest.SubjectOf(t, m).Find("munge"))
		slow.records = 0
		publishtest.MustPublish(t, slow, dir, publishtest.Only("hwloc"))
		if n := theIndex(t, m).Offered(); n != 2 || slow.records != 1 {
			t.Errorf("%d packages are offered after %d attempts", n, slow.records)
		}
	})
}

// slowHistory is a mirror in which a record of the history takes longer than a writer may rely on having seen no notice.
type slowHistory struct {
	*mirrortest.Mem
	records int
}

func (s *slowHistory) Create(ctx context.Context, u mirror.Upload) error {
	if strings.HasPrefix(u.Name, history.Dir) {
		s.records++
		time.Sleep(notice.Fresh + time.Minute)
	}
	return s.Mem.Create(ctx, u)
}
