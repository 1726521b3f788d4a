package manifest_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
)

func fixtures(t testing.TB) map[string][]byte {
	t.Helper()
	texts := make(map[string][]byte)
	for _, pattern := range []string{"v3-unsigned/v3/manifests/*/*/*.json", "v3-view/v3/manifests/*/*.json", "v3-view/v3/manifests/index/site/login/*.json"} {
		names, _ := filepath.Glob("../../test/testdata/" + pattern)
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if text[0] == '{' {
				texts[name] = text
			}
		}
	}
	if len(texts) < 15 {
		t.Fatalf("found %d fixture manifests", len(texts))
	}
	return texts
}

func TestEncodeWritesWhatSpackWrote(t *testing.T) {
	for name, text := range fixtures(t) {
		m, err := manifest.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(text), string(got)); diff != "" {
			t.Errorf("%s (-spack +ours):\n%s", name, diff)
		}
	}
}

func TestExtraMembersSurvive(t *testing.T) {
	m := &manifest.Manifest{Extra: map[string]jsontext.Value{"b": jsontext.Value(`{"x":1}`), "a": jsontext.Value(`"y"`)}}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := manifest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if string(again.Extra["a"]) != `"y"` || !bytes.Contains(again.Extra["b"], []byte(`"x"`)) {
		t.Errorf("read back %s", again.Extra)
	}
}

func TestFamilies(t *testing.T) {
	for mediaType, want := range map[string]manifest.Family{
		"application/vnd.spack.install.v2.tar+gzip": manifest.Tarball,
		"application/vnd.spack.spec.v5+json":        manifest.Spec,
		"application/vnd.spack.spec.v12+json":       manifest.Spec,
		"application/vnd.spack.db.v8+json":          manifest.Index,
		"application/vnd.spack.keyindex.v1+json":    manifest.KeyIndex,
		"application/pgp-keys":                      manifest.Key,
		"application/vnd.spack.spec":                manifest.Spec,
		"application/vnd.spack.specv5":              "application/vnd.spack.specv5",
	} {
		if got := manifest.FamilyOf(mediaType); got != want {
			t.Errorf("FamilyOf(%q) = %q, want %q", mediaType, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	record := `{"contentLength":1,"mediaType":"m","compression":"none","checksumAlgorithm":"sha256","checksum":"` + strings.Repeat("0", 64) + `"}`
	if _, err := manifest.Parse([]byte(`{"version":3,"data":[` + record + `]}`)); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for name, text := range map[string]string{
		"nothing":           ``,
		"a truncated one":   `{"version":3,"data":[` + record,
		"another version":   `{"version":4,"data":[` + record + `]}`,
		"no version":        `{"data":[` + record + `]}`,
		"a missing field":   `{"version":3,"data":[` + strings.Replace(record, `"compression":"none",`, "", 1) + `]}`,
		"a negative length": `{"version":3,"data":[` + strings.Replace(record, `:1,`, ":-1,", 1) + `]}`,
	} {
		if m, err := manifest.Parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
	}
}

// A record whose blob cannot be found is of no use to us, and may be to another version of Spack.
func TestRecordsWithoutASHA256AreUnusable(t *testing.T) {
	record := `{"contentLength":1,"mediaType":"` + manifest.KeyType + `","compression":"none","checksumAlgorithm":"sha256","checksum":"` + strings.Repeat("0", 64) + `"}`
	for name, text := range map[string]string{
		"another algorithm": strings.Replace(record, `"sha256"`, `"md5"`, 1),
		"a short checksum":  strings.Replace(record, "0000", "", 1),
		"upper case":        strings.Replace(record, "0000", "ABCD", 1),
	} {
		m, err := manifest.Parse([]byte(`{"version":3,"data":[` + text + `]}`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r, err := m.Record(manifest.Key); err == nil || m.Records[0].Unusable() == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Spack's schema takes 3.0 for an integer, and Python the last of two members.
func TestParseReadsWhatSpackReads(t *testing.T) {
	record := `{"contentLength":1.0,"mediaType":"m","compression":"none","checksumAlgorithm":"sha256","checksum":"` + strings.Repeat("0", 64) + `"}`
	m, err := manifest.Parse([]byte(`{"version":2,"version":3.0,"data":[` + record + `],"more":1,"more":2}`))
	if err != nil || len(m.Records) != 1 || m.Records[0].Size != 1 {
		t.Errorf("%+v, %v", m, err)
	}
}

// Of two records of one kind, Spack takes the one whose media type it knows, which may be either.
func TestRecordOfAFamilyIsTheOnlyOne(t *testing.T) {
	m := &manifest.Manifest{Records: []manifest.Record{
		{MediaType: manifest.IndexType(8), Digest: blob.DigestOf([]byte("1"))},
		{MediaType: manifest.IndexType(9), Digest: blob.DigestOf([]byte("2"))},
		{MediaType: manifest.KeyType},
	}}
	if r, err := m.Record(manifest.Key); err != nil || r.MediaType != manifest.KeyType {
		t.Errorf("%+v, %v", r, err)
	}
	for _, family := range []manifest.Family{manifest.Index, manifest.Spec} {
		if r, err := m.Record(family); err == nil {
			t.Errorf("of type %s: %+v", family, r)
		}
	}
	if r, ok := m.Typed(manifest.IndexType(9)); !ok || r.Digest != m.Records[1].Digest {
		t.Errorf("of version 9: %+v", r)
	}
	if r, ok := m.Typed(manifest.IndexType(7)); ok {
		t.Errorf("of version 7: %+v", r)
	}
}

// A writer replaces the record of its own media type. The others stay as they are, with members and algorithms
// that it does not know, and where they are.
func TestSetKeepsOtherRecords(t *testing.T) {
	record := func(mediaType, more string) string {
		return `{"contentLength":1,"mediaType":"` + mediaType + `","compression":"none",` + more + `}`
	}
	sum := `"checksumAlgorithm":"sha256","checksum":"` + strings.Repeat("0", 64) + `"`
	first, last := record("application/vnd.acme.sums.v1", `"checksumAlgorithm":"blake3","checksum":"x"`), record(manifest.IndexType(9), sum+`,"more":[1.0]`)
	text := `{"version":3,"data":[` + first + `,` + record(manifest.IndexType(8), sum) + `,` + last + `]}`
	m, err := manifest.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if m.Records[0].Unusable() == nil || m.Records[1].Unusable() != nil {
		t.Errorf("read as %+v", m.Records)
	}
	now := m.Clone()
	now.Set(manifest.Record{Size: 2, MediaType: manifest.IndexType(8), Compression: "none", Digest: blob.DigestOf([]byte("1"))})
	encoded, err := now.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(string(encoded), "\n", "")
	if !strings.HasPrefix(got, `{"version":3,"data":[`+first+`,{"contentLength":2,`) || !strings.HasSuffix(got, last+`]}`) {
		t.Errorf("got %s", got)
	}
	if m.Records[1].Size != 1 {
		t.Error("the manifest that was cloned has changed")
	}
}

func TestSpecFormats(t *testing.T) {
	for mediaType, want := range map[string]int{
		"application/vnd.spack.spec.v5+json": 5, "application/vnd.spack.spec.v12+json": 12, "application/vnd.spack.spec": 0,
		"application/vnd.spack.db.v8+json": 0, "application/vnd.spack.spec.v05+json": 0, "application/vnd.spack.spec.v5+json; charset=utf-8": 0, "application/vnd.spack.spec.v99999999999999999999+json": math.MaxInt,
	} {
		if got := manifest.SpecFormat(mediaType); got != want {
			t.Errorf("%s: %d, want %d", mediaType, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range fixtures(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := manifest.Parse(text)
		if err != nil {
			return
		}
		out, err := m.Encode()
		if err != nil {
			t.Fatalf("parsed but not encoded: %v", err)
		}
		again, err := manifest.Parse(out)
		if err != nil {
			t.Fatalf("%q does not read back: %v", out, err)
		}
		if diff := cmp.Diff(m.Records, again.Records, cmpopts.IgnoreUnexported(manifest.Record{})); diff != "" {
			t.Error(diff)
		}
	})
}
