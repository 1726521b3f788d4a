package publishtest

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// Planted is a mirror as real Spack wrote it: several fixtures are several layouts below one root.
func Planted(t testing.TB, fixtures ...string) *mirrortest.Mem {
	t.Helper()
	m := mirrortest.NewMem(t)
	for _, f := range fixtures {
		if err := m.PlantFS(os.DirFS(Testdata() + f)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func VerifyRing(t testing.TB, name string) *key.Ring {
	t.Helper()
	armored, err := os.ReadFile(Testdata() + "keys/" + name + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	r, err := key.ReadRing(armored)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func MustVerify(t testing.TB, r mirror.Reader, o verify.Options) *verify.Report {
	t.Helper()
	v, err := verify.Mirror(t.Context(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// VerifyRecord is the name of the blob of a family that a manifest points at.
func VerifyRecord(t testing.TB, document []byte, f manifest.Family) string {
	t.Helper()
	text, err := key.Text(document)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Record(f)
	if err != nil {
		t.Fatal(err)
	}
	return layout.V3Blob(r.Digest)
}

// A Subject is a mirror to be damaged.
type Subject struct {
	T testing.TB
	*mirrortest.Mem
}

// SubjectOf returns a mirror to be damaged.
func SubjectOf(t testing.TB, m *mirrortest.Mem) Subject { return Subject{t, m} }

// Find returns the one document of a package.
func (s Subject) Find(pkg string) string {
	s.T.Helper()
	for _, name := range slices.Sorted(maps.Keys(s.Snapshot())) {
		id, ok := layout.ParseV3Spec(name)
		_, v2 := layout.ParseV2Spec(name)
		if ok && id.Package == pkg || v2 && strings.Contains(name, "-gcc-13.4.0-"+pkg+"-") {
			return name
		}
	}
	s.T.Fatalf("no document of %s", pkg)
	return ""
}

func (s Subject) Read(name string) []byte {
	s.T.Helper()
	content, ok := s.Snapshot()[name]
	if !ok {
		s.T.Fatalf("%s is not there", name)
	}
	return content
}

func (s Subject) Blob(document string, f manifest.Family) string {
	s.T.Helper()
	return VerifyRecord(s.T, s.Read(document), f)
}

// Tarball is the content of a package in either layout.
func (s Subject) Tarball(pkg string) string {
	s.T.Helper()
	doc := s.Find(pkg)
	if strings.HasPrefix(doc, "v3/") {
		return s.Blob(doc, manifest.Tarball)
	}
	stem, _, _ := strings.Cut(path.Base(doc), ".spec.json")
	for name := range s.Snapshot() {
		if path.Base(name) == stem+".spack" {
			return name
		}
	}
	s.T.Fatalf("no tarball of %s", pkg)
	return ""
}

func (s Subject) Flip(name string) {
	content := bytes.Clone(s.Read(name))
	content[len(content)/2] ^= 1
	s.Plant(name, content)
}

func (s Subject) Cut(name string) { s.Plant(name, s.Read(name)[:len(s.Read(name))-10]) }

func (s Subject) Move(from, to string) {
	s.Plant(to, s.Read(from))
	s.Uproot(from)
}

type Installs map[string]map[string]any

// Of is the record of a package.
func (in Installs) Of(pkg string) (hash string, record map[string]any) {
	for _, h := range slices.Sorted(maps.Keys(in)) {
		if in[h]["spec"].(map[string]any)["name"] == pkg && (record == nil || in[h]["in_buildcache"] == true) {
			hash, record = h, in[h]
		}
	}
	return hash, record
}

// Remove takes out the record of a package that no other depends on, as if it had never been
// added.
func (in Installs) Remove(pkg string) {
	hash, record := in.Of(pkg)
	delete(in, hash)
	for _, d := range record["spec"].(map[string]any)["dependencies"].([]any) {
		r := in[d.(map[string]any)["hash"].(string)]
		r["ref_count"] = r["ref_count"].(float64) - 1
	}
}

// Reindex replaces the index that the manifest points at, or index.json itself.
func (s Subject) Reindex(pointer string, edit func(Installs)) {
	s.T.Helper()
	name := pointer
	if pointer != layout.V2Index {
		name = s.Blob(pointer, manifest.Index)
	}
	var doc struct {
		Database struct {
			Version  string   `json:"version"`
			Installs Installs `json:"installs"`
		} `json:"database"`
	}
	if err := json.Unmarshal(s.Read(name), &doc); err != nil {
		s.T.Fatal(err)
	}
	edit(doc.Database.Installs)
	content, err := json.Marshal(doc)
	if err != nil {
		s.T.Fatal(err)
	}
	if pointer == layout.V2Index {
		s.Plant(pointer, content)
		s.Plant(layout.V2IndexHash, []byte(blob.DigestOf(content).String()))
		return
	}
	s.Point(pointer, manifest.IndexType(index.V8), content)
}

func (s Subject) Point(pointer, mediaType string, content []byte) {
	s.T.Helper()
	digest := blob.DigestOf(content)
	m := manifest.Manifest{Records: []manifest.Record{{Size: int64(len(content)), MediaType: mediaType, Compression: "none", Digest: digest}}}
	text, err := m.Encode()
	if err != nil {
		s.T.Fatal(err)
	}
	s.Plant(layout.V3Blob(digest), content)
	s.Plant(pointer, text)
}

const VerifyView = "v3/manifests/index/site/login/index.manifest.json"
