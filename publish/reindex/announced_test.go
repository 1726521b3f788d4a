package reindex_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
)

// A publisher that was taken along has not read what the index offers, and says how many packages that are.
func TestWhoWasTakenAlongSaysHowManyPackagesThereAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "v3")
		c.said = make(chan int, 2)
		c.begin([]mirror.Store{c.far(publishtest.Summed{Store: c.mem, Mem: c.mem}), c.far(publishtest.Summed{Store: c.mem, Mem: c.mem})},
			[][]string{{"zlib"}, {"munge"}})
		if one, two := <-c.said, <-c.said; one != 3 || two != 3 {
			t.Errorf("there are 3 packages, and they say %d and %d", one, two)
		}
	})
}

// Who leads reads no package of the others.
func TestALeaderReadsNoPackageThatWasAnnounced(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, l)
			c.sent.Store(0)
			var broken []*mirrortest.Broken
			var stores []mirror.Store
			for range 8 {
				b := mirrortest.Break(c.mem)
				broken, stores = append(broken, b), append(stores, c.far(publishtest.Summed{Store: b, Mem: c.mem}))
			}
			c.begin(stores, shares(8))
			if c.sent.Load() > 3 {
				t.Fatalf("%s: %d indices: they take no turns", l, c.sent.Load())
			}
			for i, b := range broken {
				for _, call := range b.Calls() {
					if _, ok := layoutOf(l).ParsePackageName(call.Name); ok && call.Op == mirrortest.Open {
						t.Errorf("%s: publisher %d has read %s", l, i, call.Name)
					}
				}
			}
		})
	}
}

// A publisher that has lost a race looks whether its packages are still there, unless all that has changed the index since are
// publishers, which only add.
func TestWhoHasLostLooksAgainOnlyWhereSomethingMayBeGone(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		for _, foreign := range []bool{false, true} {
			c := newCrowd(t, l)
			b := mirrortest.Break(c.mem)
			planned := 0
			overtake := sync.OnceFunc(func() {
				planned = len(b.Calls())
				if _, err := c.publish(c.mem, "munge"); err != nil {
					t.Error(err)
				}
				for name := range c.mem.Snapshot() {
					if foreign && strings.HasPrefix(name, lead.Dir) {
						c.mem.Uproot(name) // a program that leaves no receipt
					}
				}
			})
			if _, err := c.publish(&claimed{b, overtake}, "zlib"); err != nil || !c.offers("zlib") || !c.offers("munge") {
				t.Fatalf("%s: %v, or the index lacks zlib or munge", l, err)
			}
			again := slices.ContainsFunc(b.Calls()[planned:], func(call mirrortest.Call) bool {
				return call.Op == mirrortest.List && !strings.HasPrefix(call.Name, lead.Dir)
			})
			if again != foreign {
				t.Errorf("%s: overtaken by a program without receipts %t: it has listed again %t", l, foreign, again)
			}
		}
	}
}

func layoutOf(name string) buildcache.Layout {
	if name == "v2" {
		return buildcache.V2
	}
	return buildcache.V3
}

// A claimed store calls before whenever somebody claims to lead.
type claimed struct {
	mirror.Store
	before func()
}

func (c *claimed) Unwrap() any { return c.Store }

func (c *claimed) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	if strings.HasPrefix(u.Name, lead.Dir) {
		c.before()
	}
	return c.Store.Swap(ctx, u, was)
}

// What is announced is believed only if it is what the mirror holds.
func TestAnnouncementsAreNotBelieved(t *testing.T) {
	whole := newCrowd(t, "v3")
	if _, err := whole.publish(whole.mem, "munge"); err != nil {
		t.Fatal(err)
	}
	objects, contents := make(map[string][]byte), make(map[string][]byte)
	var document, spec string
	before := newCrowd(t, "v3").mem.Snapshot()
	for name, content := range whole.mem.Snapshot() {
		id, isPackage := buildcache.V3.ParsePackageName(name)
		switch {
		case before[name] != nil || strings.HasPrefix(name, lead.Dir) || strings.HasPrefix(name, layout.V3Indices) || bytes.HasPrefix(content, []byte(`{"database"`)):
			continue
		case isPackage && id.Package == "munge":
			document = name
		case bytes.HasPrefix(content, []byte{0x1f, 0x8b}) && (spec == "" || len(content) < len(objects[spec])):
			spec = name // the tarball is larger
		}
		objects[name] = content
	}
	contents[document], contents[spec] = objects[document], objects[spec]
	without := func(name string) map[string][]byte {
		some := maps.Clone(objects)
		delete(some, name)
		return some
	}
	with := func(name string, content []byte) map[string][]byte {
		other := maps.Clone(contents)
		other[name] = content
		return other
	}
	for _, tt := range []struct {
		what              string
		stored, announced map[string][]byte
		offered           bool
	}{
		{"what is stored", objects, contents, true},
		{"names alone", objects, nil, true},
		{"a document that is not stored", without(document), contents, false},
		{"another document than is stored", objects, with(document, bytes.Replace(objects[document], []byte("tar"), []byte("raw"), 1)), true},
		{"a longer document than is stored", objects, with(document, append(bytes.Clone(objects[document]), ' ')), true},
		{"another spec than the document names", objects, with(spec, []byte("{}")), false},
		{"a document, and nothing of its spec", objects, map[string][]byte{document: objects[document]}, true},
		{"something else beside it", objects, with("other", []byte("x")), true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			c := newCrowd(t, "v3")
			p, err := buildcache.V3.ReadPointer(t.Context(), c.mem)
			if err != nil {
				t.Fatal(err)
			}
			// After it has looked what is there, or it would find the package by itself.
			announce := sync.OnceFunc(func() {
				for name, content := range tt.stored {
					c.mem.Plant(name, content)
				}
				other := lead.New(c.mem, buildcache.V3.IndexID(), []string{document}, tt.announced)
				if err := other.Announce(t.Context(), p.Version); err != nil {
					t.Error(err)
				}
			})
			if _, err := c.publish(&claimed{publishtest.Summed{Store: c.mem, Mem: c.mem}, announce}, "zlib"); err != nil || !c.offers("zlib") {
				t.Fatalf("%v, or the index lacks zlib", err)
			}
			if c.offers("munge") != tt.offered {
				t.Errorf("munge is offered: %t", !tt.offered)
			}
		})
	}
}
