package spackmirror

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/reader"
)

var reads = map[Layout]func(reader.Source) *reader.Mirror{V2: reader.V2, V3: reader.V3}

func TestMirrorsWork(t *testing.T) {
	for layout, read := range reads {
		u := New(layout, 40)
		u.Tarball = Kilobytes(100)
		dir := t.TempDir()
		members := u.Range(5, 30)
		if err := u.Write(dir, members); err != nil {
			t.Fatal(err)
		}
		m := read(reader.Dir(dir))
		if !m.Works() || len(m.Odd) > 0 || len(m.Specs) != len(members) {
			t.Errorf("%v: %v", layout, m)
		}
		for _, i := range members {
			if !m.Specs[u.Hash(i)] {
				t.Errorf("%v: no %s", layout, u.Hash(i))
			}
		}
		if len(m.Index) < len(members)+2 {
			t.Errorf("%v: %d records: nothing is there for a dependency alone", layout, len(m.Index))
		}
	}
}

func TestAlwaysTheSame(t *testing.T) {
	for layout := range reads {
		dirs := [2]string{t.TempDir(), t.TempDir()}
		for _, dir := range dirs {
			if err := New(layout, 30).Write(dir, New(layout, 30).Range(3, 20)); err != nil {
				t.Fatal(err)
			}
		}
		names, err := reader.Dir(dirs[0]).List()
		if err != nil || len(names) < 30 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			a, _ := os.ReadFile(filepath.Join(dirs[0], name))
			b, _ := os.ReadFile(filepath.Join(dirs[1], name))
			if !bytes.Equal(a, b) {
				t.Errorf("%v: %s differs", layout, name)
			}
		}
	}
}

// Our nodes, hashed by our rule, get the hashes that Spack gave; and our spelling of
// manifests and gzip is Spack's.
func TestAsSpackWrites(t *testing.T) {
	const fixture = "../testdata/v3-unsigned/"
	paths, _ := filepath.Glob(fixture + "v3/manifests/spec/*/*.json")
	if len(paths) == 0 {
		t.Fatal("no fixture")
	}
	for _, path := range paths {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ Data []manifestRecord }
		if err := json.Unmarshal(want, &doc); err != nil {
			t.Fatal(err)
		}
		if got := manifest(doc.Data...); !bytes.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", path, got, want)
		}
		sum := doc.Data[1].Checksum
		packed, err := os.ReadFile(fixture + "blobs/sha256/" + sum[:2] + "/" + sum)
		if err != nil {
			t.Fatal(err)
		}
		checkNodes(t, packed)
	}
}

func checkNodes(t *testing.T, packed []byte) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var ours bytes.Buffer
	gzip.NewWriter(&ours).Close()
	if !bytes.Equal(packed[:10], ours.Bytes()[:10]) {
		t.Errorf("gzip header %x, want %x", ours.Bytes()[:10], packed[:10])
	}
	var doc struct {
		Spec struct{ Nodes []json.RawMessage }
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		t.Fatal(err)
	}
	for _, raw := range doc.Spec.Nodes {
		var theirs node
		if err := json.Unmarshal(raw, &theirs); err != nil {
			t.Fatal(err)
		}
		// Other parameters than ours are lost in our struct, so hash their text.
		text := bytes.TrimSuffix(raw, []byte(`,"hash":"`+theirs.Hash+`"}`))
		if got := hashOf(append(bytes.Clone(text), '}')); got != theirs.Hash {
			t.Errorf("%s: hash %s, want %s", theirs.Name, got, theirs.Hash)
		}
	}
}
