package reader_test

import (
	"bytes"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/reader"
)

const fixtures = "../testdata/"

// What real Spack wrote is in order, and the oracle understands all of it.
func TestFixtures(t *testing.T) {
	for _, row := range []struct {
		name                 string
		read                 func(reader.Source) *reader.Mirror
		records, specs, keys int
	}{
		{"v3-signed", reader.V3, 15, 11, 1},
		{"v3-unsigned", reader.V3, 15, 11, 0},
		{"v3-view", reader.V3, 15, 11, 1},
		{"v3-view", func(s reader.Source) *reader.Mirror { return reader.View(s, "site/login") }, 14, 3, 1},
		{"v2-signed", reader.V2, 11, 9, 1},
		{"v2-unsigned", reader.V2, 11, 9, 0},
	} {
		dir := fixtures + row.name
		site := httptest.NewServer(http.FileServer(http.Dir(dir)))
		defer site.Close()
		for where, src := range map[string]reader.Source{"directory": reader.Dir(dir), "http": reader.HTTP(http.DefaultClient, site.URL)} {
			m := row.read(src)
			if !m.Works() || len(m.Odd) > 0 || len(m.Index) != row.records || len(m.Specs) != row.specs || len(m.Keys) != row.keys {
				t.Errorf("%s in a %s: %v, want %+v", row.name, where, m, row)
			}
		}
	}
}

func TestNoIndexWorks(t *testing.T) {
	empty := reader.Dir(t.TempDir())
	for _, m := range []*reader.Mirror{reader.V3(empty), reader.V2(empty)} {
		if !m.Works() || len(m.Specs) != 0 || m.Index != nil {
			t.Errorf("empty mirror: %v", m)
		}
	}
}

// An oracle that cannot say no is worth nothing.
func TestDamageIsFound(t *testing.T) {
	const (
		indexV3 = "v3/manifests/index/index.manifest.json"
		specV3  = "v3/manifests/spec/zlib/zlib-1.3.1-hyibvwkwwrofa62pgbz2cra6xzfh7vst.spec.manifest.json"
		tarV3   = "blobs/sha256/69/69c1a3c1d53a54135d8e8fdedb79959d8b1ffbbd262f1ca9fd2a0834d2321cc5"
		blobV3  = "blobs/sha256/f7/f77a25ec75e87123ea5388ed5698a4e41fedf53926cce53897d30596201accd9"
		stemV2  = "linux-ubuntu22.04-x86_64_v3-gcc-13.4.0-zlib-1.3.1-w5l2qjculftzqdfqcd7v7n7f7gwxtyvx"
		tarV2   = "build_cache/linux-ubuntu22.04-x86_64_v3/gcc-13.4.0/zlib-1.3.1/" + stemV2 + ".spack"
	)
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	half := func(b []byte) []byte { return b[:len(b)/2] }
	replace := func(was, is string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(was), []byte(is), 1) }
	}
	for _, row := range []struct {
		mirror, name string
		change       func([]byte) []byte // nil removes the object
		finding      string
	}{
		{"v3-signed", tarV3, nil, "no such file"},
		{"v3-signed", tarV3, flip, "hashes to"},
		{"v3-signed", tarV3, half, "hashes to"},
		{"v3-signed", blobV3, flip, "hashes to"},
		{"v3-signed", specV3, nil, "no such file"},
		{"v3-unsigned", specV3, half, "JSON"},
		{"v3-signed", specV3, replace("Hash: SHA512\n", ""), "header"},
		{"v3-signed", specV3, replace("Hash: SHA512", "Hash: SHA512, SHA1"), "header"},
		{"v3-signed", specV3, replace(`"contentLength":4304`, `"contentLength":4305`), "4304 bytes"},
		{"v3-signed", specV3, replace(`"version":3`, `"version":4`), "version 4"},
		{"v3-signed", specV3, replace("vnd.spack.install", "vnd.spack.other"), "no install"},
		{"v3-signed", specV3, replace(`"checksumAlgorithm":"sha256",`, ""), "incomplete"},
		{"v3-signed", indexV3, half, "JSON"},
		{"v3-signed", "v3/manifests/key/E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5.key.manifest.json", nil, "key index"},
		{"v3-signed", "blobs/sha256/33/33352e99ed937f8472f3cb02df7c9e57f74a31b7aed60158f6a3f916767f1713", nil, "no such file"},
		{"v3-unsigned", "blobs/sha256/98/98bab2cf3f58e0e8aa46f92128d4d4daa964a4bc8b308f9b5f9ee69b4b01fba0", nil, "no such file"},
		{"v2-unsigned", tarV2, nil, "no such file"},
		{"v2-unsigned", tarV2, flip, "hashes to"},
		{"v2-unsigned", "build_cache/" + stemV2 + ".spec.json", nil, "no such file"},
		{"v2-unsigned", "build_cache/" + stemV2 + ".spec.json", replace(`"version":"1.3.1"`, `"version":"1.3.2"`), "carries the spec"},
		{"v2-unsigned", "build_cache/index.json", half, "JSON"},
		{"v2-unsigned", "build_cache/index.json", replace(`"version":"7"`, `"version":"9"`), `version "9"`},
		{"v2-unsigned", "build_cache/index.json", replace(`"ref_count"`, `"refs"`), "unknown field"},
		{"v2-signed", "build_cache/_pgp/E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5.pub", nil, "no such file"},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(fixtures+row.mirror)); err != nil {
			t.Fatal(err)
		}
		edit(t, filepath.Join(dir, row.name), row.change)
		read := reader.V3
		if strings.HasPrefix(row.mirror, "v2") {
			read = reader.V2
		}
		m := read(reader.Dir(dir))
		if m.Works() || !strings.Contains(m.Broken[0].String(), row.finding) {
			t.Errorf("%s: %s: want %q, found %v", row.mirror, row.name, row.finding, m.Broken)
		}
	}
}

// A manifest under another package's name is found although all digests are right.
func TestRenamedManifestIsFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(fixtures+"v3-signed")); err != nil {
		t.Fatal(err)
	}
	zlib, _ := filepath.Glob(dir + "/v3/manifests/spec/zlib/*")
	slurm, _ := filepath.Glob(dir + "/v3/manifests/spec/slurm/*")
	if err := os.Rename(zlib[0], slurm[0]); err != nil {
		t.Fatal(err)
	}
	if m := reader.V3(reader.Dir(dir)); len(m.Broken) != 2 || len(m.Specs) != 9 {
		t.Errorf("found %v", m)
	}
}

func TestHashFileThatDiffersIsOddOnly(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(fixtures+"v2-unsigned")); err != nil {
		t.Fatal(err)
	}
	edit(t, dir+"/build_cache/index.json.hash", func(b []byte) []byte { b[0] ^= 1; return b })
	if m := reader.V2(reader.Dir(dir)); !m.Works() || len(m.Odd) != 1 {
		t.Errorf("found %v", m)
	}
}

// The rule for a merge, on what Spack itself wrote for the parts and the whole.
func TestUnion(t *testing.T) {
	whole := reader.V3(reader.Dir(fixtures + "v3-view")).Index
	part := reader.View(reader.Dir(fixtures+"v3-view"), "site/login").Index
	if diff := reader.Union(part, whole).Diff(whole); len(diff) > 0 {
		t.Error(diff)
	}
	if diff := part.Diff(whole); len(diff) == 0 {
		t.Error("a part is as good as the whole")
	}
	if diff := whole.Diff(part); len(diff) == 0 {
		t.Error("the whole is as little as a part")
	}
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if change == nil {
		err = os.Remove(path)
	} else {
		changed := change(bytes.Clone(content))
		if bytes.Equal(changed, content) {
			t.Fatalf("%s: nothing changed", path)
		}
		err = os.WriteFile(path, changed, fs.FileMode(0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
}
