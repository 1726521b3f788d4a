package spec_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

const testdata = "../../test/testdata"

// fixtureSpecs returns the text of every spec that real Spack wrote into our fixtures.
func fixtureSpecs(t testing.TB) map[string][]byte {
	t.Helper()
	specs := make(map[string][]byte)
	blobs, _ := filepath.Glob(testdata + "/v3-unsigned/blobs/sha256/*/*")
	for _, name := range blobs {
		zr, err := gzip.NewReader(bytes.NewReader(read(t, name)))
		if err != nil {
			continue
		}
		if text, _ := io.ReadAll(zr); bytes.HasPrefix(text, []byte(`{"spec":`)) {
			specs[name] = text
		}
	}
	v2, _ := filepath.Glob(testdata + "/v2-unsigned/build_cache/*.spec.json")
	for _, name := range v2 {
		specs[name] = read(t, name)
	}
	if len(specs) < 20 {
		t.Fatalf("found %d fixture specs", len(specs))
	}
	return specs
}

func formatOf(text []byte) int {
	if bytes.HasPrefix(text, []byte("{\n")) {
		return spec.Format4 // Spack 0.23 puts every token on a line
	}
	return spec.Format5
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Spack's DAG hash is the SHA-1 of a node without its hash, in the order that
// Spack wrote: so the hash tells whether a record kept every byte.
func TestRecordsKeepWhatTheHashCovers(t *testing.T) {
	for name, text := range fixtureSpecs(t) {
		s, err := spec.Parse(text, formatOf(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, n := range s.Nodes {
			covered, found := bytes.CutSuffix(n.Record, []byte(`,"hash":"`+string(n.Hash)+`"}`))
			if !found {
				t.Fatalf("%s: %s does not end in its hash: %s", name, n.ID(), n.Record)
			}
			sum := sha1.Sum(append(bytes.Clone(covered), '}'))
			if got := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])); got != string(n.Hash) {
				t.Errorf("%s: %s: record hashes to %s", name, n.ID(), got)
			}
		}
	}
}

func TestParseReadsWhatPublishingNeeds(t *testing.T) {
	names, _ := filepath.Glob(testdata + "/v2-unsigned/build_cache/*-slurm-*.spec.json")
	s, err := spec.Parse(read(t, names[0]), spec.Format4)
	if err != nil {
		t.Fatal(err)
	}
	root := s.Root()
	if root.Name != "slurm" || root.Version != "24-11-6-1" || root.OS != "ubuntu22.04" || root.Target != "x86_64_v3" {
		t.Errorf("root is %+v", root)
	}
	if !s.Tarball.Known() || len(root.Dependencies) == 0 || root.External {
		t.Errorf("tarball %s, %d dependencies, external %v", s.Tarball, len(root.Dependencies), root.External)
	}
	if !strings.HasSuffix(names[0], string(root.Hash)+".spec.json") {
		t.Errorf("hash is %s, the file is %s", root.Hash, names[0])
	}
}

func TestParseUpgradesFormat4(t *testing.T) {
	names, _ := filepath.Glob(testdata + "/v2-unsigned/build_cache/*-zlib-*.spec.json")
	s, err := spec.Parse(read(t, names[0]), spec.Format5)
	if err != nil {
		t.Fatal(err)
	}
	root := string(s.Root().Record)
	if strings.Contains(root, `"compiler":{`) || !strings.HasSuffix(root, `,"annotations":{"original_specfile_version":4,"compiler":"gcc@=13.4.0"},"hash":"`+string(s.Root().Hash)+`"}`) {
		t.Errorf("record is %s", root)
	}
}

const hashA, hashB = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

func TestRecordDropsDirectFromEdgesOnly(t *testing.T) {
	raw := []byte(`{"name":"a","version":"1","arch":{"platform":"p","platform_os":"o","target":{"name":"custom"}},
		"parameters":{"direct":true,"s":"caf\u00e9"},"dependencies":[{"name":"b","hash":"` + hashB + `",
		"parameters":{"deptypes":["link"],"virtuals":["c"],"direct":true}}],"hash":"` + hashA + `"}`)
	record, err := spec.Normalize(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"a","version":"1","arch":{"platform":"p","platform_os":"o","target":{"name":"custom"}},"parameters":{"direct":true,"s":"caf\u00e9"},` +
		`"dependencies":[{"name":"b","hash":"` + hashB + `","parameters":{"deptypes":["link"],"virtuals":["c"]}}],"hash":"` + hashA + `"}`
	if string(record) != want {
		t.Errorf("record\n%s, want\n%s", record, want)
	}
	n, err := spec.ParseNode(record, spec.Format5)
	if err != nil {
		t.Fatal(err)
	}
	if n.Target != "custom" {
		t.Errorf("target %q", n.Target)
	}
}

func edge(hash, deptypes string) string {
	return `{"name":"b","hash":"` + hash + `","parameters":{"deptypes":["` + deptypes + `"],"virtuals":[]}}`
}

func depends(edges ...string) string {
	return `{"name":"a","version":"1","dependencies":[` + strings.Join(edges, ",") + `],"hash":"` + hashA + `"}`
}

const other = `{"name":"b","version":"1","hash":"` + hashB + `"}`

// A package may be needed to build and, apart from that, to run: Spack writes that as two edges.
func TestParseAcceptsEdgesThatDoNotOverlap(t *testing.T) {
	text := `{"spec":{"_meta":{"version":5},"nodes":[` + depends(edge(hashB, "build"), edge(hashB, "link")) + `,` + other + `]}}`
	s, err := spec.Parse([]byte(text), spec.Format5)
	if err != nil || len(s.Root().Dependencies) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A node that a spec has in common with another is kept once, and all together have a limit.
func TestReaderHoldsEachNodeOnce(t *testing.T) {
	text := []byte(`{"spec":{"_meta":{"version":5},"nodes":[` + depends(edge(hashB, "link")) + `,` + other + `]}}`)
	r := spec.NewReader(int64(len(text)))
	a, err := r.Parse(text, spec.Format5)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Parse(text, spec.Format5)
	if err != nil || a.Nodes[1] != b.Nodes[1] {
		t.Errorf("%v; the nodes are two", err)
	}
	var size *spec.SizeError
	if _, err := r.Parse(bytes.ReplaceAll(text, []byte(`"version":"1"`), []byte(`"version":"2"`)), spec.Format5); !errors.As(err, &size) {
		t.Errorf("what is too much together: %v", err)
	}
}

func TestFormatsOfAnotherSpackAreNamed(t *testing.T) {
	for _, c := range []struct{ version, format int }{{3, spec.Format5}, {1, spec.Format4}, {5, spec.Format4}} {
		text := fmt.Sprintf(`{"spec":{"_meta":{"version":%d},"nodes":[%s]}}`, c.version, other)
		var format *spec.FormatError
		if _, err := spec.Parse([]byte(text), c.format); !errors.As(err, &format) || format.Got != c.version {
			t.Errorf("format %d for an index of format %d: %v", c.version, c.format, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	node := `{"name":"a","version":"1","hash":"` + hashA + `"}`
	for name, text := range map[string]string{
		"nothing":          ``,
		"no JSON":          `{"spec"`,
		"trailing data":    `{"spec":{"_meta":{"version":5},"nodes":[` + node + `]}} x`,
		"no nodes":         `{"spec":{"_meta":{"version":5},"nodes":[]}}`,
		"no name":          `{"spec":{"_meta":{"version":5},"nodes":[{"version":"1","hash":"` + hashA + `"}]}}`,
		"a short hash":     `{"spec":{"_meta":{"version":5},"nodes":[{"name":"a","version":"1","hash":"abc"}]}}`,
		"a foreign hash":   `{"spec":{"_meta":{"version":5},"nodes":[{"name":"a","version":"1","hash":"` + strings.Repeat("1", 32) + `"}]}}`,
		"a bad dependency": `{"spec":{"_meta":{"version":5},"nodes":[` + depends(edge("x", "link")) + `]}}`,
		"an open end":      `{"spec":{"_meta":{"version":5},"nodes":[` + depends(edge(hashB, "link")) + `]}}`,
		"an edge twice":    `{"spec":{"_meta":{"version":5},"nodes":[` + depends(edge(hashB, "link"), edge(hashB, "build\",\"link")) + `,` + other + `]}}`,
		"no format":        `{"spec":{"nodes":[` + node + `]}}`,
		"a textual format": `{"spec":{"_meta":{"version":"5"},"nodes":[` + node + `]}}`,
		"an old format":    `{"spec":{"_meta":{"version":3},"nodes":[` + node + `]}}`,
		"a newer layout":   `{"spec":{"_meta":{"version":5},"nodes":[` + node + `]},"buildcache_layout_version":4}`,
		"another checksum": `{"spec":{"_meta":{"version":5},"nodes":[` + node + `]},"binary_cache_checksum":{"hash_algorithm":"md5","hash":"00"}}`,
		"a name twice":     `{"spec":{"_meta":{"version":5},"nodes":[{"name":"a","name":"b","version":"1","hash":"` + hashA + `"}]}}`,
	} {
		if s, err := spec.Parse([]byte(text), spec.Format5); err == nil {
			t.Errorf("%s: accepted as %+v", name, s)
		}
	}
}

// A name, version, os or target goes into names of objects, messages and logs, so what nobody sees, or
// what changes how the rest is read, has no place there.
func TestControlCharactersAreRefused(t *testing.T) {
	const node = `{"name":"a%s","version":"1%s","arch":{"platform":"p","platform_os":"o%s","target":%s},"hash":"` + hashA + `"}`
	for _, bad := range []string{`\n`, `\r`, `\t`, `\u0000`, `\u001b[31m`, `\u007f`, "\u0085", "\u009b31m", "\u202e", "\u2066", "\u200b", "\u2028", "\u2029", "\ufeff"} {
		for at, values := range [][]any{
			{bad, "", "", `"t"`}, {"", bad, "", `"t"`}, {"", "", bad, `"t"`}, {"", "", "", `"t` + bad + `"`}, {"", "", "", `{"name":"t` + bad + `"}`},
		} {
			n, err := spec.ParseNode(fmt.Appendf(nil, node, values...), spec.Format5)
			if err == nil {
				t.Errorf("%q in place %d: accepted as %+v", bad, at, n)
			} else if !spec.Readable(err.Error()) {
				t.Errorf("%q in place %d: the error cannot be read: %q", bad, at, err)
			}
		}
	}
	for _, good := range []string{"", "é", "日本", "=git.feature/x", " "} {
		if _, err := spec.ParseNode(fmt.Appendf(nil, node, good, "", good, `"t`+good+`"`), spec.Format5); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range fixtureSpecs(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := spec.Parse(text, spec.Format5)
		if err != nil {
			return
		}
		for _, n := range s.Nodes {
			if !json.Valid(n.Record) {
				t.Errorf("record of %s is not JSON: %q", n.ID(), n.Record)
			}
			if _, err := spec.ParseNode(n.Record, spec.Format5); err != nil {
				t.Errorf("record of %s does not read back: %v", n.ID(), err)
			}
			if again, err := spec.Normalize(n.Record); err != nil || !bytes.Equal(again, n.Record) {
				t.Errorf("record of %s is not in its final form: %s, %v", n.ID(), again, err)
			}
		}
	})
}
