package manifest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

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
		"another algorithm": `{"version":3,"data":[` + strings.Replace(record, "sha256", "md5", 1) + `]}`,
		"a short checksum":  `{"version":3,"data":[` + strings.Replace(record, "0000", "", 1) + `]}`,
		"upper case":        `{"version":3,"data":[` + strings.Replace(record, "0000", "ABCD", 1) + `]}`,
	} {
		if m, err := manifest.Parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
	}
}

func TestRecordOfAFamilyIsTheFirst(t *testing.T) {
	m := &manifest.Manifest{Records: []manifest.Record{
		{MediaType: manifest.IndexType, Digest: blob.DigestOf([]byte("1"))},
		{MediaType: "application/vnd.spack.db.v9+json", Digest: blob.DigestOf([]byte("2"))},
	}}
	if r, err := m.Record(manifest.Index); err != nil || r.Digest != m.Records[0].Digest {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := m.Record(manifest.Spec); err == nil {
		t.Error("found a spec record where there is none")
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
		if diff := cmp.Diff(m.Records, again.Records); diff != "" {
			t.Error(diff)
		}
	})
}
