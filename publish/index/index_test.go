package index_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

const testdata = "../../test/testdata/"

func read(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// v3Blob reads the blob that the manifest name of a fixture mirror points at.
func v3Blob(t testing.TB, mirror, name string, family manifest.Family) []byte {
	t.Helper()
	text, err := key.Text(read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	r, err := m.Record(family)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	sum := r.Digest.String()
	content := read(t, testdata+mirror+"/blobs/sha256/"+sum[:2]+"/"+sum)
	if r.Compression != "gzip" {
		return content
	}
	zr, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	content, err = io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// A fixture is what real Spack pushed, and the index that it made of it.
type fixture struct {
	specs   []*spec.Spec
	index   []byte
	version int
}

func fixtures(t testing.TB) map[string]fixture {
	t.Helper()
	all := make(map[string]fixture)
	for _, mirror := range []string{"v3-signed", "v3-unsigned", "v3-migrated"} {
		f := fixture{version: index.V3}
		names, _ := filepath.Glob(testdata + mirror + "/v3/manifests/spec/*/*.json")
		for _, name := range names {
			f.specs = append(f.specs, parse(t, v3Blob(t, mirror, name, manifest.Spec), spec.Format5))
		}
		f.index = v3Blob(t, mirror, testdata+mirror+"/v3/manifests/index/index.manifest.json", manifest.Index)
		all[mirror] = f
	}
	for _, mirror := range []string{"v2-signed", "v2-unsigned"} {
		f := fixture{version: index.V2, index: read(t, testdata+mirror+"/build_cache/index.json")}
		names, _ := filepath.Glob(testdata + mirror + "/build_cache/*.spec.json*")
		for _, name := range names {
			text, err := key.Text(read(t, name))
			if err != nil {
				t.Fatal(err)
			}
			f.specs = append(f.specs, parse(t, text, spec.Format4))
		}
		all[mirror] = f
	}
	for mirror, f := range all {
		if len(f.specs) < 9 {
			t.Fatalf("%s: %d specs", mirror, len(f.specs))
		}
	}
	return all
}

func parse(t testing.TB, text []byte, format int) *spec.Spec {
	t.Helper()
	s, err := spec.Parse(text, format)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustParse(t testing.TB, raw []byte, version int) *index.Index {
	t.Helper()
	x, err := index.Parse(raw, version)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func content(t testing.TB, x *index.Index) []byte {
	t.Helper()
	raw, err := blob.ReadAll(x.Content())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// decoded compares documents as a client would see them.
func decoded(t testing.TB, raw []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return v
}

// What we build of the specs equals what Spack's update-index built of the same mirror.
func TestEqualsSpack(t *testing.T) {
	for mirror, f := range fixtures(t) {
		x := index.New(f.version)
		for _, s := range f.specs {
			x.Add(s)
		}
		if diff := cmp.Diff(decoded(t, f.index), decoded(t, content(t, x))); diff != "" {
			t.Errorf("%s (-spack +ours):\n%s", mirror, diff)
		}
	}
}

// Whatever part Spack's index has already, adding all comes to the same.
func TestMergeIntoAPart(t *testing.T) {
	for mirror, f := range fixtures(t) {
		want := decoded(t, f.index)
		whole := index.New(f.version)
		for _, s := range f.specs {
			whole.Add(s)
		}
		for n := range f.specs {
			part := index.New(f.version)
			for _, s := range f.specs[:n] {
				part.Add(s)
			}
			x := mustParse(t, content(t, part), f.version)
			for _, s := range f.specs {
				x.Add(s)
			}
			if diff := cmp.Diff(want, decoded(t, content(t, x))); diff != "" {
				t.Fatalf("%s after %d (-spack +ours):\n%s", mirror, n, diff)
			}
			if !bytes.Equal(content(t, x), content(t, whole)) {
				t.Fatalf("%s after %d: other bytes than when all come at once", mirror, n)
			}
		}
	}
}

func TestAddingWhatIsThereChangesNothing(t *testing.T) {
	for mirror, f := range fixtures(t) {
		x := mustParse(t, f.index, f.version)
		for _, s := range f.specs {
			x.Add(s)
			if !x.Has(s.Root().Hash) {
				t.Errorf("%s: %s is not offered", mirror, s.Root().ID())
			}
		}
		if x.Changed() {
			t.Errorf("%s: changed", mirror)
		}
		if !bytes.Equal(content(t, x), f.index) {
			t.Errorf("%s: other bytes", mirror)
		}
		if x.Offered() != len(f.specs) {
			t.Errorf("%s: offers %d of %d", mirror, x.Offered(), len(f.specs))
		}
	}
}

// An index that somebody has formatted, and one without the members that default.
func TestForeignForms(t *testing.T) {
	f := fixtures(t)["v3-signed"]
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, f.index, "", "\t"); err != nil {
		t.Fatal(err)
	}
	half := index.New(f.version)
	for _, s := range f.specs[:5] {
		half.Add(s)
	}
	var bare map[string]map[string]any
	if err := json.Unmarshal(content(t, half), &bare); err != nil {
		t.Fatal(err)
	}
	for _, r := range bare["database"]["installs"].(map[string]any) {
		delete(r.(map[string]any), "in_buildcache")
	}
	stripped, err := json.MarshalIndent(bare, " ", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"pretty": pretty.Bytes(), "without in_buildcache": stripped} {
		x := mustParse(t, raw, f.version)
		for _, s := range f.specs {
			x.Add(s)
		}
		got := decoded(t, content(t, x)).(map[string]any)["database"].(map[string]any)["installs"].(map[string]any)
		for hash, r := range decoded(t, f.index).(map[string]any)["database"].(map[string]any)["installs"].(map[string]any) {
			want, have := r.(map[string]any), got[hash].(map[string]any)
			if want["in_buildcache"] == true && have["in_buildcache"] != true || !cmp.Equal(want["ref_count"], have["ref_count"]) {
				t.Errorf("%s: %s has %v, want %v", name, hash, have, want)
			}
		}
	}
}

func TestUnknownMembersSurvive(t *testing.T) {
	x := mustParse(t, []byte(`{"a":[1],"database":{"x":{"y":2},"version":"8","installs":{ },"z":3},"b":null}`), index.V3)
	x.Add(fixtures(t)["v3-signed"].specs[0])
	got := decoded(t, content(t, x)).(map[string]any)
	db := got["database"].(map[string]any)
	if len(got) != 3 || len(db) != 4 || len(db["installs"].(map[string]any)) == 0 {
		t.Errorf("got %v", got)
	}
}

func TestVersions(t *testing.T) {
	for version, newer := range map[int]bool{6: false, 7: false, 9: true, 12: true} {
		_, err := index.Parse(fmt.Appendf(nil, `{"database":{"version":"%d","installs":{}}}`, version), index.V3)
		var v *index.VersionError
		if !errors.As(err, &v) || v.Newer() != newer {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	h := strings.Repeat("a", 32)
	good := `"` + h + `":{"spec":{"name":"a"},"ref_count":0,"in_buildcache":true}`
	if _, err := index.Parse([]byte(`{"database":{"version":8,"installs":{`+good+`}}}`), index.V3); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for name, raw := range map[string]string{
		"nothing":            ``,
		"a truncated one":    `{"database":{"version":"8","installs":{` + good,
		"no installs":        `{"database":{"version":"8"}}`,
		"no database":        `{}`,
		"no version":         `{"database":{"installs":{}}}`,
		"a list":             `[]`,
		"a version in words": `{"database":{"version":"eight","installs":{}}}`,
		"something behind":   `{"database":{"version":"8","installs":{}}} {}`,
		"a hash twice":       `{"database":{"version":"8","installs":{` + good + `,` + good + `}}}`,
		"a foreign hash":     `{"database":{"version":"8","installs":{"x":{}}}}`,
		"no spec":            `{"database":{"version":"8","installs":{"` + h + `":{"ref_count":0}}}}`,
		"a record in words":  `{"database":{"version":"8","installs":{"` + h + `":"x"}}}`,
		"a spec in words":    `{"database":{"version":"8","installs":{"` + h + `":{"spec":"x"}}}}`,
		"half a reference":   `{"database":{"version":"8","installs":{"` + h + `":{"spec":{"name":"a"},"ref_count":0.5}}}}`,
	} {
		if _, err := index.Parse([]byte(raw), index.V3); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// specs draws packages whose dependencies are earlier ones.
func specs(t *rapid.T) []*spec.Spec {
	n := rapid.IntRange(1, 12).Draw(t, "packages")
	nodes := make([]string, n)
	needs := make([]map[int]bool, n)
	var all []*spec.Spec
	for i := range n {
		needs[i] = map[int]bool{i: true}
		var edges []string
		for j := range i {
			if rapid.Bool().Draw(t, "depends") {
				edges = append(edges, `{"name":"p","hash":"`+hashOf(j)+`","parameters":{}}`)
				for k := range needs[j] {
					needs[i][k] = true
				}
			}
		}
		nodes[i] = `{"name":"p` + fmt.Sprint(i%3) + `","version":"` + fmt.Sprint(i) + `","dependencies":[` + strings.Join(edges, ",") + `],"hash":"` + hashOf(i) + `"}`
		text := nodes[i]
		for k := range i {
			if needs[i][k] {
				text += "," + nodes[k]
			}
		}
		s, err := spec.Parse([]byte(`{"spec":{"_meta":{"version":5},"nodes":[`+text+`]}}`), spec.Format5)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func hashOf(i int) string { return strings.Repeat("a", 31) + string(rune('a'+i)) }

// model is what an index must come to: the rule in words, over typed data.
func model(pushed []*spec.Spec) map[string][2]any {
	nodes := make(map[spec.Hash]spec.Node)
	offered := make(map[spec.Hash]bool)
	for _, s := range pushed {
		offered[s.Root().Hash] = true
		for _, n := range s.Nodes {
			nodes[n.Hash] = n
		}
	}
	want := make(map[string][2]any)
	for h := range nodes {
		count := 0
		for _, n := range nodes {
			for _, d := range n.Dependencies {
				if d == h {
					count++
				}
			}
		}
		want[string(h)] = [2]any{count, offered[h]}
	}
	return want
}

func entries(x *index.Index) map[string][2]any {
	got := make(map[string][2]any)
	for e := range x.All() {
		got[string(e.Hash)] = [2]any{e.RefCount, e.InBuildcache}
	}
	return got
}

// Merging is commutative and idempotent, loses no in_buildcache and counts references
// exactly, in any order, in any number of rounds through the document; and the bytes do
// not tell which order it was.
func TestMergeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := specs(t)
		subset := rapid.SliceOfN(rapid.SampledFrom(all), 0, 20).Draw(t, "pushed")
		x := index.New(index.V3)
		for i, s := range subset {
			x.Add(s)
			if rapid.Bool().Draw(t, "written") {
				raw := text(t, x)
				var err error
				if x, err = index.Parse(raw, index.V3); err != nil {
					t.Fatalf("after %d: %v in %s", i, err, raw)
				}
			}
		}
		if diff := cmp.Diff(model(subset), entries(x)); diff != "" {
			t.Fatalf("(-model +index):\n%s", diff)
		}
		coverage := make(index.Coverage)
		seen := make(map[spec.Hash]bool)
		other := index.New(index.V3)
		for _, s := range rapid.Permutation(subset).Draw(t, "other order") {
			other.Add(s)
			if r := s.Root(); !seen[r.Hash] {
				seen[r.Hash] = true
				coverage.Add(r.Name, r.Hash)
			}
		}
		if diff := cmp.Diff(coverage, x.Coverage()); diff != "" {
			t.Fatalf("coverage (-listed +index):\n%s", diff)
		}
		if got, want := text(t, x), text(t, other); !bytes.Equal(got, want) {
			t.Fatalf("in another order:\n%s\n%s", got, want)
		}
	})
}

func text(t *rapid.T, x *index.Index) []byte {
	raw, err := blob.ReadAll(x.Content())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestCoverageText(t *testing.T) {
	want := index.Sum{Count: 3, Total: 0xfe}
	text, err := want.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var got index.Sum
	if err := got.UnmarshalText(text); err != nil || got != want {
		t.Errorf("%s reads back as %+v, %v", text, got, err)
	}
	if err := got.UnmarshalText([]byte("x")); err == nil {
		t.Error("x accepted")
	}
}

func FuzzParse(f *testing.F) {
	all := fixtures(f)
	for _, fixture := range all {
		f.Add(fixture.index, fixture.version == index.V3)
	}
	f.Add([]byte(`{"database":{"version":"8","installs":{"`+strings.Repeat("a", 32)+`":{"spec":{"name":"a"}}}}}`), true)
	add := all["v3-signed"].specs[0]
	f.Fuzz(func(t *testing.T, raw []byte, v3 bool) {
		version := index.V2
		if v3 {
			version = index.V3
		}
		x, err := index.Parse(raw, version)
		if err != nil {
			return
		}
		before := entries(x)
		x.Add(add)
		again, err := index.Parse(content(t, x), version)
		if err != nil {
			t.Fatalf("%v after adding to %q", err, raw)
		}
		after := entries(again)
		for h, was := range before {
			now, ok := after[h]
			if !ok || was[1] == true && now[1] != true {
				t.Errorf("%s was %v, is %v", h, was, now)
			}
		}
		if !again.Has(add.Root().Hash) {
			t.Error("what was added is not there")
		}
	})
}

// However a node is written, its name is that which a decoder reads.
func TestNames(t *testing.T) {
	for node, want := range map[string]string{
		`{"name":"zlib","version":"1"}`:          "zlib",
		`{"name": "zlib"}`:                       "zlib",
		`{ "version":"1" , "name" : "zlib" }`:    "zlib",
		`{"version":{"name":"x"},"name":"zlib"}`: "zlib",
		`{"name":"\u007alib"}`:                   "zlib",
		`{"name":"a\"b"}`:                        `a"b`,
		`{"name":"","name":"zlib"}`:              "",
		`{"version":"1"}`:                        "",
	} {
		raw := `{"database":{"version":"8","installs":{"` + strings.Repeat("a", 32) + `":{"spec":` + node + `,"ref_count":0,"in_buildcache":true}}}}`
		x, err := index.Parse([]byte(raw), index.V3)
		if want == "" {
			if err == nil {
				t.Errorf("%s is taken for a node", node)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", node, err)
			continue
		}
		for e := range x.All() {
			if e.Name != want {
				t.Errorf("%s: got %q, want %q", node, e.Name, want)
			}
		}
	}
}
