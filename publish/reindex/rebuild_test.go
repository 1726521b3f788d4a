package reindex_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
)

// An index made anew is the one that Spack made, for every layout below one root.
func TestRebuildIsWhatSpackMade(t *testing.T) {
	for _, damage := range []func(s publishtest.Subject){
		func(publishtest.Subject) {},
		func(s publishtest.Subject) {
			s.Uproot(layout.V3Index)
			s.Uproot(layout.V2Index)
			s.Uproot(layout.V2IndexHash)
		},
		func(s publishtest.Subject) { s.Cut(layout.V3Index); s.Cut(layout.V2Index) },
		func(s publishtest.Subject) { s.Uproot(layout.V3KeyIndex); s.Uproot(layout.V2KeyIndex) },
		func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) { in.Remove("slurm") })
		},
		func(s publishtest.Subject) {
			s.Reindex(layout.V2Index, func(in publishtest.Installs) { in.Remove("slurm") })
		},
	} {
		m := publishtest.Planted(t, "v3-signed", "v2-signed")
		damage(publishtest.SubjectOf(t, m))
		got, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{RequireSigned: true, Keys: publishtest.VerifyRing(t, "one")})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || got[0].Layout != "v3" || got[0].After != 11 || got[1].Layout != "v2" || got[1].After != 9 {
			t.Errorf("rebuilt: %+v", got)
		}
		for _, l := range []string{"v3", "v2"} {
			spack := publishtest.ContentOf(t, publishtest.Original(l+"-signed"))
			publishtest.WantIndex(t, m.Snapshot(), l, publishtest.IndexOf(t, spack, l))
			for _, name := range []string{layout.V3KeyIndex, layout.V2KeyIndex} {
				if want := spack[name]; want != nil && string(m.Snapshot()[name]) != string(want) {
					t.Errorf("%s is %q", name, m.Snapshot()[name])
				}
			}
		}
		m.Forget()
		again, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{})
		if err != nil || len(m.Mutations()) != 0 {
			t.Errorf("the second time: %v, %v", err, m.Mutations())
		}
		for _, r := range again {
			if r.Changed || len(r.Stale) != 0 || r.Before != r.After {
				t.Errorf("the second time: %+v", r)
			}
		}
	}
}

// A package that cannot be read fails the command; it never silently disappears.
func TestRebuildNeverLosesWhatItCannotRead(t *testing.T) {
	for _, row := range []struct {
		name, fixture string
		trust         buildcache.Trust
		damage        func(s publishtest.Subject)
	}{
		{"spec gone", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Uproot(s.Blob(s.Find("munge"), manifest.Spec)) }},
		{"spec damaged", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Flip(s.Blob(s.Find("munge"), manifest.Spec)) }},
		{"tarball gone", "v3-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Uproot(s.Tarball("munge")) }},
		{"untrusted", "v3-signed", buildcache.Trust{Keys: publishtest.VerifyRing(t, "two")}, func(publishtest.Subject) {}},
		{"unsigned", "v3-unsigned", buildcache.Trust{RequireSigned: true}, func(publishtest.Subject) {}},
		{"v2 tarball gone", "v2-signed", buildcache.Trust{}, func(s publishtest.Subject) { s.Uproot(s.Tarball("munge")) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := publishtest.Planted(t, row.fixture)
			s := publishtest.SubjectOf(t, m)
			row.damage(s)
			s.Reindex(publishtest.PointerOf(publishtest.LayoutOf(row.fixture)), func(in publishtest.Installs) {
				_, r := in.Of("slurm") // so that there is something to write
				r["in_buildcache"] = false
			})
			before := m.Snapshot()
			_, err := reindex.Rebuild(t.Context(), m, row.trust)
			var found *buildcache.FindingsError
			if !errors.As(err, &found) || !slices.ContainsFunc(found.Findings, func(f buildcache.Finding) bool { return strings.Contains(f.File, "munge") }) {
				t.Errorf("error is %v", err)
			}
			if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
				t.Errorf("it was changed:\n%s", diff)
			}
		})
	}
}

// A document that was read whole, and that no reader can use, stops nothing: its package is left out with a warning.
func TestRebuildLeavesOutWhatNobodyCanRead(t *testing.T) {
	for name, row := range map[string]struct {
		fixture string
		damage  func(s publishtest.Subject)
	}{
		"manifest truncated":          {"v3-unsigned", func(s publishtest.Subject) { s.Cut(s.Find("munge")) }},
		"manifest empty":              {"v3-signed", func(s publishtest.Subject) { s.Plant(s.Find("munge"), nil) }},
		"manifest of another package": {"v3-signed", func(s publishtest.Subject) { s.Plant(s.Find("munge"), s.Read(s.Find("hwloc"))) }},
		"v2 document truncated":       {"v2-unsigned", func(s publishtest.Subject) { s.Cut(s.Find("munge")) }},
		"v2 document of HTML":         {"v2-unsigned", func(s publishtest.Subject) { s.Plant(s.Find("munge"), []byte("<html>")) }},
		"v2 document of no tarball": {"v2-unsigned", func(s publishtest.Subject) {
			s.Plant(s.Find("munge"), bytes.Replace(s.Read(s.Find("munge")), []byte(`"binary_cache_checksum"`), []byte(`"was"`), 1))
		}},
	} {
		m := publishtest.Planted(t, row.fixture)
		s := publishtest.SubjectOf(t, m)
		file := s.Find("munge")
		row.damage(s)
		got, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{})
		if err != nil || len(got) != 1 || len(got[0].Findings) != 1 || got[0].Findings[0].Severity != buildcache.Warning || got[0].Findings[0].File != file {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		if got[0].After != got[0].Before-1 {
			t.Errorf("%s: %d packages of %d", name, got[0].After, got[0].Before)
		}
	}
}

// A mirror that cannot be read for a moment is not an empty one.
func TestRebuildFailsAtEveryFault(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		damaged := func() *mirrortest.Mem {
			m := publishtest.Planted(t, l+"-signed")
			publishtest.SubjectOf(t, m).Reindex(publishtest.PointerOf(l), func(in publishtest.Installs) {
				_, r := in.Of("slurm")
				r["in_buildcache"] = false
			})
			return m
		}
		b := mirrortest.Break(damaged())
		if _, err := reindex.Rebuild(t.Context(), b, buildcache.Trust{}); err != nil {
			t.Fatal(err)
		}
		client := publishtest.NewReader()
		whole := publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original(l+"-signed")), l)
		for k := 1; k <= len(b.Calls()); k++ {
			for _, fault := range []mirrortest.Fault{
				mirrortest.Nth(k, mirrortest.Fail("", mirrortest.Refusals[1])), mirrortest.Nth(k, mirrortest.Cut("", 1)),
				mirrortest.Nth(k, mirrortest.Drop("")), mirrortest.Nth(k, mirrortest.Lie("")),
				mirrortest.Nth(k, mirrortest.Conflict("")), mirrortest.Kill(k - 1),
			} {
				m := damaged()
				had, err := publishtest.NewReader().Index(m.Snapshot(), l)
				if err != nil {
					t.Fatal(err)
				}
				b := mirrortest.Break(m, fault)
				b.AfterEach(func(c mirrortest.Call) {
					if !c.Op.Mutates() {
						return
					}
					if err := client.Look(m.Snapshot()); err != nil {
						t.Errorf("%s, fault %d, after %s: %v", l, k, c, err)
					}
				})
				_, err = reindex.Rebuild(t.Context(), b, buildcache.Trust{})
				got := publishtest.IndexOf(t, m.Snapshot(), l)
				if !reflect.DeepEqual(whole, got) && (err == nil || !reflect.DeepEqual(had, got)) {
					t.Errorf("%s, fault %d: %v, and the index offers %q", l, k, err, got.Offered())
				}
			}
		}
	}
}

// Whoever publishes while an index is made anew loses nothing.
func TestPublishDuringRebuildLosesNothing(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		for k := 1; k <= 20; k++ {
			m := publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("gcc-runtime", "zlib"))
			m.Uproot(publishtest.PointerOf(l))
			b := mirrortest.Break(m)
			n := 0
			b.AfterEach(func(mirrortest.Call) {
				if n++; n == k {
					publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("munge", "hwloc"))
				}
			})
			if _, err := reindex.Rebuild(t.Context(), b, buildcache.Trust{}); err != nil {
				t.Fatal(err)
			}
			if n < k {
				break
			}
			var got []string
			for _, o := range publishtest.IndexOf(t, m.Snapshot(), l).Offered() {
				name, _, _ := strings.Cut(o, "/")
				got = append(got, name)
			}
			if !slices.Equal(got, []string{"gcc-runtime", "hwloc", "munge", "zlib"}) {
				t.Errorf("%s, published after call %d: the index offers %q", l, k, got)
			}
		}
	}
}

// A betweenLists lets something happen whenever the blobs have been listed and the documents
// have not.
type betweenLists struct {
	*mirrortest.Mem
	happens  func()
	happened chan struct{}
}

func (b *betweenLists) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		if r.Prefix == path.Dir(layout.V3Layout)+"/" {
			<-b.happened
		}
		b.Mem.List(ctx, r)(yield)
		if r.Prefix == layout.V3Blobs {
			b.happens()
			b.happened <- struct{}{}
		}
	}
}

// A package that comes while the mirror is listed, of which the document is seen and the
// content is not, is whole.
func TestRebuildSeesWhatComesBetweenLists(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publishtest.Only("gcc-runtime", "zlib"))
	m.Uproot(layout.V3Index)
	come := []string{"munge", "hwloc"}
	b := &betweenLists{m, func() {
		o := publishtest.Only(come[0])
		o.Index = publish.IndexNone // with an index of theirs the rebuild would begin again
		publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), o)
		come = come[1:]
	}, make(chan struct{})}
	if _, err := reindex.Rebuild(t.Context(), b, buildcache.Trust{}); err != nil {
		t.Fatal(err)
	}
	if got := publishtest.IndexOf(t, m.Snapshot(), "v3").Offered(); len(got) != 4 || len(come) > 0 {
		t.Errorf("the index offers %q, and %q did not come", got, come)
	}
}

// There is nothing to rebuild where there is no mirror.
func TestRebuildOfNothing(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); !errors.Is(err, buildcache.ErrNoMirror) {
		t.Errorf("error is %v", err)
	}
	if len(m.Mutations()) != 0 {
		t.Errorf("it did %v", m.Mutations())
	}
}

// Publishing with --index rebuild gives what a rebuild gives.
func TestPublishCanRebuild(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.EmptyMirror(t)
		none := publishtest.Only("munge")
		none.Index = publish.IndexNone
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), none)
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publish.Options{Index: publish.IndexRebuild})
		publishtest.WantIndex(t, m.Snapshot(), l, publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original(l+"-signed")), l))
	}
}
