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
		f := fixture{version: index.V8}
		names, _ := filepath.Glob(testdata + mirror + "/v3/manifests/spec/*/*.json")
		for _, name := range names {
			f.specs = append(f.specs, parse(t, v3Blob(t, mirror, name, manifest.Spec), spec.Format5))
		}
		f.index = v3Blob(t, mirror, testdata+mirror+"/v3/manifests/index/index.manifest.json", manifest.Index)
		all[mirror] = f
	}
	for _, mirror := range []string{"v2-signed", "v2-unsigned"} {
		f := fixture{version: index.V7, index: read(t, testdata+mirror+"/build_cache/index.json")}
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

// An index that is written has no member beside those that Spack writes: as Spack's own update-index, and so
// that its bytes follow from what it offers. One that is not written anew keeps them.
func TestUnknownMembersAreNotWritten(t *testing.T) {
	raw := []byte(`{"a":[1],"database":{"x":{"y":2},"version":"8","installs":{ },"z":3},"b":null}`)
	x := mustParse(t, raw, index.V8)
	if got := content(t, x); !bytes.Equal(got, raw) {
		t.Errorf("unchanged, it is %s", got)
	}
	x.Add(fixtures(t)["v3-signed"].specs[0])
	fresh := index.New(index.V8)
	fresh.Add(fixtures(t)["v3-signed"].specs[0])
	if got, want := content(t, x), content(t, fresh); !bytes.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What Spack's reader fails on is found, record by record.
func TestCheckFindsWhatSpackCannotRead(t *testing.T) {
	h, other := strings.Repeat("a", 32), strings.Repeat("b", 32)
	node := func(hash, edges string) string {
		return `{"name":"a","version":"1","dependencies":[` + edges + `],"hash":"` + hash + `"}`
	}
	edge := func(hash, types string) string {
		return `{"name":"a","hash":"` + hash + `","parameters":{"deptypes":[` + types + `],"virtuals":[]}}`
	}
	for name, c := range map[string]struct {
		record string
		good   bool
	}{
		"a good one":                     {`{"spec":` + node(h, "") + `,"ref_count":0,"in_buildcache":true}`, true},
		"one of a database":              {`{"spec":` + node(h, "") + `,"path":null,"installed":false,"explicit":true,"installation_time":1.5,"ref_count":0}`, true},
		"a missing dependency":           {`{"spec":` + node(h, edge(strings.Repeat("c", 32), `"link"`)) + `,"ref_count":0}`, true},
		"two edges that may be":          {`{"spec":` + node(h, edge(other, `"link"`)+","+edge(other, `"build"`)) + `,"ref_count":0}`, true},
		"two edges that exclude":         {`{"spec":` + node(h, edge(other, `"link"`)+","+edge(other, `"link","run"`)) + `,"ref_count":0}`, false},
		"an unknown member":              {`{"spec":` + node(h, "") + `,"ref_count":0,"in_buildcache":true,"sum":"x"}`, false},
		"installed":                      {`{"spec":` + node(h, "") + `,"ref_count":0,"installed":true}`, false},
		"in_buildcache in words":         {`{"spec":` + node(h, "") + `,"ref_count":0,"in_buildcache":"yes"}`, false},
		"another package":                {`{"spec":` + node(other, "") + `,"ref_count":0}`, false},
		"an edge without virtuals":       {`{"spec":` + node(h, `{"name":"a","hash":"`+other+`","parameters":{"deptypes":[]}}`) + `,"ref_count":0}`, false},
		"a spec in words":                {`{"spec":"x","ref_count":0}`, false},
		"an integer that is too large":   {`{"spec":{"x":` + strings.Repeat("9", 4301) + `,"name":"a","version":"1","hash":"` + h + `"},"ref_count":0}`, false},
		"an integer that is large":       {`{"spec":{"x":` + strings.Repeat("9", 4300) + `,"name":"a","version":"1","hash":"` + h + `"},"ref_count":0}`, true},
		"nesting that is too deep":       {`{"spec":{"x":` + strings.Repeat("[", 1500) + strings.Repeat("]", 1500) + `,"name":"a","version":"1","hash":"` + h + `"},"ref_count":0}`, false},
		"a time that Python cannot read": {`{"spec":` + node(h, "") + `,"ref_count":0,"installation_time":` + strings.Repeat("9", 4301) + `}`, false},
	} {
		raw := `{"database":{"version":"8","installs":{"` + h + `":` + c.record + `,"` + other + `":{"spec":` + node(other, "") + `,"ref_count":0}}}}`
		bad := mustParse(t, []byte(raw), index.V8).Check()
		if good := len(bad) == 0; good != c.good || !good && bad[0].Hash != spec.Hash(h) {
			t.Errorf("%s: %v", name, bad)
		}
	}
}

// What Spack makes of real packages is not objected to.
func TestCheckAcceptsSpacksIndices(t *testing.T) {
	for name, f := range fixtures(t) {
		if bad := mustParse(t, f.index, f.version).Check(); len(bad) > 0 {
			t.Errorf("%s: %v", name, bad)
		}
	}
}

// A dependent's copy gives way to what the package's own document says; what only the copy depended on goes.
func TestOwnDocumentReplacesACopy(t *testing.T) {
	a, b, c := strings.Repeat("a", 32), strings.Repeat("b", 32), strings.Repeat("c", 32)
	edge := func(name, hash string) string {
		return `{"name":"` + name + `","hash":"` + hash + `","parameters":{"deptypes":["link"],"virtuals":[]}}`
	}
	doc := func(nodes ...string) *spec.Spec {
		return parse(t, []byte(`{"spec":{"_meta":{"version":5},"nodes":[`+strings.Join(nodes, ",")+`]}}`), spec.Format5)
	}
	leaf := `{"name":"c","version":"1","hash":"` + c + `"}`
	stale := `{"name":"b","version":"1","dependencies":[` + edge("c", c) + `],"hash":"` + b + `"}`
	own := `{"name":"b","version":"2","hash":"` + b + `"}`
	dependent := doc(`{"name":"a","version":"1","dependencies":[`+edge("b", b)+`],"hash":"`+a+`"}`, stale, leaf)
	x := index.New(index.V8)
	x.Add(dependent)
	x = mustParse(t, content(t, x), index.V8)
	x.Add(doc(own))
	reverse := index.New(index.V8)
	reverse.Add(doc(own))
	reverse.Add(doc(`{"name":"a","version":"1","dependencies":[`+edge("b", b)+`],"hash":"`+a+`"}`, own))
	if got, want := content(t, x), content(t, reverse); !bytes.Equal(got, want) {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestVersions(t *testing.T) {
	for version, newer := range map[int]bool{6: false, 7: false, 9: true, 12: true} {
		_, err := index.Parse(fmt.Appendf(nil, `{"database":{"version":"%d","installs":{}}}`, version), index.V8)
		var v *index.VersionError
		if !errors.As(err, &v) || v.Newer() != newer {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	h := strings.Repeat("a", 32)
	good := `"` + h + `":{"spec":{"name":"a"},"ref_count":0,"in_buildcache":true}`
	if _, err := index.Parse([]byte(`{"database":{"version":"8","installs":{`+good+`}}}`), index.V8); err != nil {
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
		"a bare version":     `{"database":{"version":8,"installs":{}}}`,
		"half a reference":   `{"database":{"version":"8","installs":{"` + h + `":{"spec":{"name":"a"},"ref_count":0.5}}}}`,
	} {
		if _, err := index.Parse([]byte(raw), index.V8); err == nil {
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
		names := make(map[int]bool) // Spack depends once on packages of one name
		for j := range i {
			if !names[j%3] && rapid.Bool().Draw(t, "depends") {
				names[j%3] = true
				edges = append(edges, `{"name":"p`+fmt.Sprint(j%3)+`","hash":"`+hashOf(j)+`","parameters":{"deptypes":["link"],"virtuals":[]}}`)
				for k := range needs[j] {
					needs[i][k] = true
				}
			}
		}
		nodes[i] = `{"name":"p` + fmt.Sprint(i%3) + `","version":"` + fmt.Sprint(i) + `","dependencies":[` + strings.Join(edges, ",") + `],"hash":"` + hashOf(i) + `"}`
		text := nodes[i]
		for k := range i {
			if needs[i][k] {
				text += "," + aged(nodes[k], rapid.IntRange(0, 2).Draw(t, "age of the copy"))
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

// aged is an older copy of a package, as a document may hold it that depends on it.
func aged(node string, age int) string {
	if age == 0 {
		return node
	}
	return strings.Replace(node, `"version"`, fmt.Sprintf(`"namespace":"%d","version"`, age), 1)
}

func hashOf(i int) string { return strings.Repeat("a", 31) + string(rune('a'+i)) }

// model is what an index must come to: the rule in words, over typed data.
func model(pushed []*spec.Spec) map[string][3]any {
	nodes := make(map[spec.Hash]*spec.Node)
	offered := make(map[spec.Hash]bool)
	for _, s := range pushed {
		for i, n := range s.Nodes {
			known := nodes[n.Hash]
			if i == 0 || known == nil || !offered[n.Hash] && string(n.Record) < string(known.Record) {
				nodes[n.Hash] = n
			}
		}
		offered[s.Root().Hash] = true
	}
	want := make(map[string][3]any)
	for h, n := range nodes {
		count := 0
		for _, n := range nodes {
			for _, d := range n.Dependencies {
				if d == h {
					count++
				}
			}
		}
		want[string(h)] = [3]any{count, offered[h], string(n.Record)}
	}
	return want
}

func entries(x *index.Index) map[string][3]any {
	got := make(map[string][3]any)
	for e := range x.All() {
		got[string(e.Hash)] = [3]any{e.RefCount, e.InBuildcache, string(e.Node)}
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
		x := index.New(index.V8)
		for i, s := range subset {
			x.Add(s)
			if rapid.Bool().Draw(t, "written") {
				raw := text(t, x)
				var err error
				if x, err = index.Parse(raw, index.V8); err != nil {
					t.Fatalf("after %d: %v in %s", i, err, raw)
				}
			}
		}
		if diff := cmp.Diff(model(subset), entries(x)); diff != "" {
			t.Fatalf("(-model +index):\n%s", diff)
		}
		coverage := make(index.Coverage)
		seen := make(map[spec.Hash]bool)
		other := index.New(index.V8)
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

func FuzzParse(f *testing.F) {
	all := fixtures(f)
	for _, fixture := range all {
		f.Add(fixture.index, fixture.version == index.V8)
	}
	f.Add([]byte(`{"database":{"version":"8","installs":{"`+strings.Repeat("a", 32)+`":{"spec":{"name":"a"}}}}}`), true)
	add := all["v3-signed"].specs[0]
	f.Fuzz(func(t *testing.T, raw []byte, v3 bool) {
		version := index.V7
		if v3 {
			version = index.V8
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
			if was[1] == true && (!ok || now[1] != true) {
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
		x, err := index.Parse([]byte(raw), index.V8)
		if err != nil {
			t.Errorf("%s: %v", node, err)
			continue
		}
		if want == "" {
			if bad := x.Check(); len(bad) != 1 {
				t.Errorf("%s is taken for a node", node)
			}
			continue
		}
		for e := range x.All() {
			if e.Name != want {
				t.Errorf("%s: got %q, want %q", node, e.Name, want)
			}
		}
	}
}
