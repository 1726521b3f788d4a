package publish_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec/spectest"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// An oracle is a mirror that holds a good package and every variant of a spec, each with a hash of its own.
type oracle struct {
	layout   string
	files    publishtest.Tree
	variants map[spec.Hash]spectest.Variant
	file     map[spec.Hash]string // of each document
}

func newOracle(t testing.TB, l string) oracle {
	t.Helper()
	o := oracle{l, publishtest.Tree{}, map[spec.Hash]spectest.Variant{}, map[spec.Hash]string{}}
	file, format := "v5.jsonl.gz", spec.Format5
	if l == "v2" {
		file, format = "v4.jsonl.gz", spec.Format4
		o.files.V2("good", "1", publishtest.GoodHash, publishtest.Good(format))
	} else {
		o.files.V3("good", "1", publishtest.GoodHash, publishtest.SpecType, publishtest.Good(format))
		o.files[layout.V3Layout] = []byte(`{"signing": "gpg"}`)
	}
	all := spectest.Read(t, publishtest.Original("reader/"+file))
	unchanged, err := spec.Parse([]byte(all[len(all)-1].Document), format)
	if err != nil {
		t.Fatal(err)
	}
	root := unchanged.Root()
	for i, v := range all {
		h := spec.Hash(strings.Map(func(r rune) rune { return 'a' + r - '0' }, fmt.Sprintf("%032d", i)))
		v.Document = strings.ReplaceAll(v.Document, string(root.Hash), string(h))
		o.variants[h] = v
		if l == "v2" {
			text := v.Document
			if at := strings.Index(text, `"binary_cache_checksum"`); at >= 0 {
				text = text[:at] + `"was` + text[at+1:]
			}
			o.file[h] = o.files.V2(root.Name, root.Version, h, text)
		} else {
			o.file[h] = o.files.V3(root.Name, root.Version, h, publishtest.SpecType, v.Document)
		}
	}
	return o
}

// wantOffered compares what an index offers with what Spack reads.
func (o oracle) wantOffered(t *testing.T, s map[string][]byte) {
	t.Helper()
	x, err := publishtest.NewReader().Index(s, o.layout)
	if err != nil {
		t.Fatal(err)
	}
	if !x[publishtest.GoodHash].InBuildcache {
		t.Error("the good package is not offered")
	}
	for h, v := range o.variants {
		another := slices.ContainsFunc([]string{"name = ", "version = ", "root last"}, func(c string) bool { return strings.HasPrefix(v.Change, c) })
		if o.layout == "v2" { // whose documents are named by what they were built for as well
			another = another || strings.Contains(v.Change, "arch")
		}
		switch offered := x[h].InBuildcache; {
		case offered && !v.Readable():
			t.Errorf("%s: offered, and Spack says %v", v.Change, v.Spack)
		case !offered && v.Readable() && !v.Unusual() && !another:
			t.Errorf("%s: not offered, and Spack reads it", v.Change)
		}
	}
}

// What Spack cannot read is refused, and the rest is published.
func TestPublishRefusesWhatSpackCannotRead(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		o := newOracle(t, l)
		m := publishtest.EmptyMirror(t)
		out, err := publishtest.PublishTo(t, m, o.files.Dir(t), publish.Options{KeepGoing: true})
		wantRefusals(t, err)
		o.wantOffered(t, m.Snapshot())
		for h, v := range o.variants {
			refused := slices.ContainsFunc(out.Findings, func(f buildcache.Finding) bool { return f.Severity == buildcache.Error && f.File == o.file[h] })
			if _, stored := m.Snapshot()[o.file[h]]; stored == refused {
				t.Errorf("%s: stored %v, refused %v", v.Change, stored, refused)
			}
		}
	}
}

func wantRefusals(t testing.TB, err error) {
	t.Helper()
	if _, ok := err.(*buildcache.FindingsError); !ok {
		t.Fatalf("the error is %v", err)
	}
}

// A package in the mirror that Spack cannot read stays out of the index, which every writer keeps to: the next
// publish of another package, a rebuild, an indexer. Everything else is indexed.
func TestWhatSpackCannotReadStaysOutOfTheIndex(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		o := newOracle(t, l)
		other := publishtest.Tree{}
		if l == "v2" {
			other.V2("good", "1", publishtest.GoodHash, publishtest.Good(spec.Format4))
		} else {
			other.V3("good", "1", publishtest.GoodHash, publishtest.SpecType, publishtest.Good(spec.Format5))
		}
		for by, act := range map[string]func(*mirrortest.Mem){
			"publish": func(m *mirrortest.Mem) { publishtest.MustPublish(t, m, other.Dir(t), publish.Options{}) },
			"an indexer": func(m *mirrortest.Mem) {
				if _, err := reindex.Heal(t.Context(), m, buildcache.Trust{}, reindex.Changes{Names: slices.Collect(maps.Keys(o.files))}); err != nil {
					t.Error(err)
				}
			},
			"a rebuild": func(m *mirrortest.Mem) {
				if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
					t.Error(err)
				}
			},
		} {
			t.Run(l+" "+by, func(t *testing.T) {
				m := o.files.Mem(t)
				act(m)
				o.wantOffered(t, m.Snapshot())
			})
		}
	}
}

// verify's verdict on a package is that of Spack.
func TestVerifyFindsWhatSpackCannotRead(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		o := newOracle(t, l)
		m := o.files.Mem(t)
		if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
			t.Fatal(err)
		}
		v, err := verify.Mirror(t.Context(), m, verify.Options{})
		if err != nil {
			t.Fatal(err)
		}
		damaged, noted := make(map[string]bool), make(map[string]bool)
		for _, f := range v.Findings {
			noted[f.File] = true
			damaged[f.File] = damaged[f.File] || f.Severity == buildcache.Error
		}
		x, err := publishtest.NewReader().Index(m.Snapshot(), l)
		if err != nil {
			t.Fatal(err)
		}
		for h, variant := range o.variants {
			switch offered := x[h].InBuildcache; {
			case offered && noted[o.file[h]]:
				t.Errorf("%s %s: offered, and something is wrong with it", l, variant.Change)
			case !offered && !noted[o.file[h]]:
				t.Errorf("%s %s: not offered, and nothing is wrong with it", l, variant.Change)
			case !variant.Readable() && !damaged[o.file[h]] && !strings.HasPrefix(variant.Change, "_meta.version"): // of another Spack
				t.Errorf("%s %s: Spack says %v, and it is not called damage", l, variant.Change, variant.Spack)
			}
		}
	}
}

// A document that was changed at random is in the index if and only if the contract accepts it and it still is about
// the package that its name says.
func TestRandomChangesAreIndexedOnlyIfTheContractAcceptsThem(t *testing.T) {
	all := spectest.Read(t, publishtest.Original("reader/v5.jsonl.gz"))
	unchanged := all[len(all)-1].Document
	s, err := spec.Parse([]byte(unchanged), spec.Format5)
	if err != nil {
		t.Fatal(err)
	}
	root := s.Root()
	random := rand.New(rand.NewPCG(3, 4))
	src := publishtest.Tree{}
	want := make(map[spec.Hash]bool)
	accepted := 0
	for i := range 600 {
		h := spec.Hash(strings.Map(func(r rune) rune { return 'a' + r - '0' }, fmt.Sprintf("%032d", i)))
		text := strings.ReplaceAll(spectest.Mutate(random, unchanged), string(root.Hash), string(h))
		file := src.V3(root.Name, root.Version, h, publishtest.SpecType, text)
		s, err := spec.Parse([]byte(text), spec.Format5)
		want[h] = err == nil && layout.V3Spec(s.Root()) == file
		if want[h] {
			accepted++
		}
	}
	if accepted < 50 {
		t.Fatalf("only %d of 600 are accepted", accepted)
	}
	m := src.Mem(t)
	if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
		t.Fatal(err)
	}
	x := publishtest.IndexAs(t, m.Snapshot(), 8)
	for h := range want {
		if x[h].InBuildcache != want[h] {
			t.Errorf("%s: offered %v, accepted %v", h, x[h].InBuildcache, want[h])
		}
	}
}

// An index that holds a record that Spack cannot read hides the whole mirror. The next publish mends it,
// even of something else, and so does a rebuild; verify calls it damage until then.
func TestPoisonedIndexIsMended(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		o := newOracle(t, l)
		tried := 0
		for _, h := range slices.Sorted(maps.Keys(o.variants)) {
			v := o.variants[h]
			if v.Readable() || v.Spack["1.2"].Index == "reads" {
				continue
			}
			version, pointer := index.V8, layout.V3Index
			if l == "v2" {
				version, pointer = index.V7, layout.V2Index
			}
			node, ok := firstNode(v.Document)
			if !ok {
				continue
			}
			content := fmt.Appendf(nil, `{"database":{"version":"%d","installs":{"%s":{"spec":%s,"ref_count":0,"in_buildcache":true}}}}`, version, h, node)
			if x, err := index.Parse(content, version); err == nil && len(x.Check()) == 0 {
				t.Errorf("%s %s: the record passes for one that Spack reads", l, v.Change)
			}
			if tried++; tried%20 != 1 { // what follows is the same for all that are found
				continue
			}
			for by, mend := range map[string]func(*mirrortest.Mem) error{
				"publish": func(m *mirrortest.Mem) error {
					_, err := publishtest.PublishTo(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
					return err
				},
				"rebuild": func(m *mirrortest.Mem) error {
					_, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{})
					return err
				},
			} {
				m := publishtest.Planted(t, l+"-signed")
				if l == "v2" {
					m.Plant(layout.V2Index, content)
				} else {
					publishtest.SubjectOf(t, m).Point(pointer, manifest.IndexType(version), content)
				}
				if got, err := verify.Mirror(t.Context(), m, verify.Options{}); err != nil || !got.Damaged() {
					t.Errorf("%s %s: not called damage: %v", l, v.Change, err)
				}
				if err := mend(m); err != nil {
					t.Errorf("%s %s, %s: %v", l, v.Change, by, err)
				}
				publishtest.WantIndex(t, m.Snapshot(), l, publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original(l+"-signed")), l))
			}
			if testing.Short() {
				break
			}
		}
	}
}

// firstNode is the JSON of the package that a spec document is about.
func firstNode(document string) (json.RawMessage, bool) {
	var doc struct {
		Spec struct {
			Nodes []json.RawMessage `json:"nodes"`
		} `json:"spec"`
	}
	if err := json.Unmarshal([]byte(document), &doc); err != nil || len(doc.Spec.Nodes) == 0 {
		return nil, false
	}
	return doc.Spec.Nodes[0], true
}
