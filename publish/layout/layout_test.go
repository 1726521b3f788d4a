package layout_test

import (
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

const testdata = "../../test/testdata/"

// names lists the files of a fixture mirror.
func names(t testing.TB, mirror string) []string {
	t.Helper()
	var all []string
	err := fs.WalkDir(os.DirFS(testdata+mirror), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, name)
		}
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %d files, %v", mirror, len(all), err)
	}
	return all
}

// Every name that Spack gave to a file of layout v3 is recognised as exactly one thing.
func TestNamesOfSpackV3(t *testing.T) {
	for _, name := range names(t, "v3-view") {
		var is []string
		if s, ok := layout.ParseV3Spec(name); ok {
			n := &spec.Node{Name: s.Package, Version: s.Version, Hash: s.Hash}
			if got := layout.V3Spec(n); got != name {
				t.Errorf("%s: built again as %s", name, got)
			}
			is = append(is, "spec")
		}
		if f, ok := layout.ParseV3Key(name); ok {
			if got := layout.V3Key(f); got != name {
				t.Errorf("%s: built again as %s", name, got)
			}
			is = append(is, "key")
		}
		if view, ok := layout.ParseV3View(name); ok {
			if view != "site/login" {
				t.Errorf("%s: view %q", name, view)
			}
			is = append(is, "view")
		}
		if sum, ok := strings.CutPrefix(name, layout.V3Blobs); ok {
			d, err := blob.ParseDigest(sum[3:])
			if err != nil || layout.V3Blob(d) != name {
				t.Errorf("%s: built again as %s, %v", name, layout.V3Blob(d), err)
			}
			is = append(is, "blob")
		}
		switch name {
		case layout.V3Layout, layout.V3Index, layout.V3KeyIndex:
			is = append(is, "fixed")
		}
		if len(is) != 1 {
			t.Errorf("%s is taken for %v", name, is)
		}
	}
}

func TestNamesOfSpackV2(t *testing.T) {
	tarballs := make(map[string]bool)
	var specs, keys int
	for _, name := range names(t, "v2-signed") {
		if strings.HasSuffix(name, ".spack") {
			tarballs[name] = true
		}
		if f, ok := layout.ParseV2Key(name); ok {
			keys++
			if layout.V2Key(f) != name {
				t.Errorf("%s: built again as %s", name, layout.V2Key(f))
			}
		}
	}
	for _, name := range names(t, "v2-signed") {
		if _, ok := layout.ParseV2Spec(name); !ok {
			continue
		}
		specs++
		document, err := os.ReadFile(testdata + "v2-signed/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := key.Text(document)
		if err != nil {
			t.Fatal(err)
		}
		s, err := spec.Parse(text, spec.Format4)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := layout.V2Tarball(name, s.Root()); !ok || !tarballs[got] {
			t.Errorf("%s: tarball %q, %v", name, got, ok)
		}
	}
	if specs != len(tarballs) || specs == 0 || keys != 1 {
		t.Errorf("%d specs, %d tarballs, %d keys", specs, len(tarballs), keys)
	}
}

const hash = "hyibvwkwwrofa62pgbz2cra6xzfh7vst"

func TestParseV3Spec(t *testing.T) {
	for name, want := range map[string]layout.SpecName{
		"slurm/slurm-24-11-6-1-" + hash + ".spec.manifest.json":          {Package: "slurm", Version: "24-11-6-1", Hash: hash},
		"gcc-runtime/gcc-runtime-13.4.0-" + hash + ".spec.manifest.json": {Package: "gcc-runtime", Version: "13.4.0", Hash: hash},
		"a/a-git.abc_1.2-" + hash + ".spec.manifest.json":                {Package: "a", Version: "git.abc_1.2", Hash: hash},
		"a/a-1-" + hash + ".spec.manifest.json.tmp":                      {},
		"a/b-1-" + hash + ".spec.manifest.json":                          {},
		"a/a-" + hash + ".spec.manifest.json":                            {},
		"a/a-1-" + hash[1:] + ".spec.manifest.json":                      {},
		"a/a-1%2f-" + hash + ".spec.manifest.json":                       {},
		"a/a-1\n-" + hash + ".spec.manifest.json":                        {},
		"a/b/a-1-" + hash + ".spec.manifest.json":                        {},
		"/a-1-" + hash + ".spec.manifest.json":                           {},
		"a\n/a_-1-" + hash + ".spec.manifest.json":                       {},
		"a\x1b[m/a__m-1-" + hash + ".spec.manifest.json":                 {},
		"a\u202e/a_-1-" + hash + ".spec.manifest.json":                   {},
	} {
		got, ok := layout.ParseV3Spec(layout.V3Specs + name)
		if ok != (want != layout.SpecName{}) || ok && got != want {
			t.Errorf("%q: %+v, %v", name, got, ok)
		}
	}
}

func TestV3SpecFilters(t *testing.T) {
	n := &spec.Node{Name: "a", Version: "git.abc=1.2", Hash: hash}
	if got, want := layout.V3Spec(n), layout.V3Specs+"a/a-git.abc_1.2-"+hash+".spec.manifest.json"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzNames(f *testing.F) {
	for _, mirror := range []string{"v3-view", "v2-signed"} {
		for _, name := range names(f, mirror) {
			f.Add(name)
		}
	}
	f.Fuzz(func(t *testing.T, name string) {
		if s, ok := layout.ParseV3Spec(name); ok {
			if got := layout.V3Spec(&spec.Node{Name: s.Package, Version: s.Version, Hash: s.Hash}); got != name {
				t.Errorf("%q built again as %q", name, got)
			}
		}
		if f, ok := layout.ParseV3Key(name); ok && layout.V3Key(f) != name {
			t.Errorf("%q built again as %q", name, layout.V3Key(f))
		}
		if f, ok := layout.ParseV2Key(name); ok && layout.V2Key(f) != name {
			t.Errorf("%q built again as %q", name, layout.V2Key(f))
		}
	})
}

// Fixed names are those of documents, keys, what points at indices, and the tarballs of v2.
func TestFixed(t *testing.T) {
	for mirror, want := range map[string]int{"v3-signed": 11 + 1 + 2, "v3-view": 11 + 1 + 3, "v2-signed": 9 + 9 + 1 + 3} {
		n := 0
		for _, name := range names(t, mirror) {
			l, ok := layout.Fixed(name)
			if ok {
				n++
			}
			if ok && l != mirror[:2] || ok && (strings.HasPrefix(name, layout.V3Blobs) || name == layout.V3Layout) {
				t.Errorf("%s: fixed, of layout %s", name, l)
			}
		}
		if n != want {
			t.Errorf("%s: %d fixed names, want %d", mirror, n, want)
		}
	}
}

// The name of a tarball tells the hash of its package, as that of its document does; nothing else is one.
func TestParseV2Tarball(t *testing.T) {
	hashes := make(map[spec.Hash]int)
	for _, name := range names(t, "v2-signed") {
		if p, ok := layout.ParseV2Spec(name); ok {
			hashes[p.Hash]++
		}
		if h, ok := layout.ParseV2Tarball(name); ok {
			hashes[h]++
		} else if strings.HasSuffix(name, ".spack") {
			t.Errorf("%s is no tarball", name)
		}
	}
	for h, n := range hashes {
		if n != 2 {
			t.Errorf("%s: %d names", h, n)
		}
	}
	const file = "linux-ubuntu24.04-x86_64-gcc-13.2.0-zlib-1.3.1-hyibvwkwwrofa62pgbz2cra6xzfh7vst.spack"
	for name, want := range map[string]bool{
		"build_cache/linux-ubuntu24.04-x86_64/gcc-13.2.0/zlib-1.3.1/" + file: true,
		"build_cache/linux-ubuntu24.04-x86_64/gcc-13.2.0/" + file:            false,
		"build_cache/" + file:                      false,
		"build_cache/a/b/c/d/" + file:              false,
		"build_cache/a//c/" + file:                 false,
		"build_cache/a/b/c/" + file + ".sig":       false,
		"build_cache/a/b/c/zlib-1.3.1-short.spack": false,
		"blobs/a/b/c/" + file:                      false,
		"build_cache/a/b c/d/" + file:              false,
	} {
		if _, ok := layout.ParseV2Tarball(name); ok != want {
			t.Errorf("%s: %t", name, ok)
		}
	}
}

// An object belongs to the mirror above what is its name in it, wherever that is.
func TestSplit(t *testing.T) {
	for _, row := range []struct{ object, mirror, name string }{
		{"v3/manifests/index/index.manifest.json", "", layout.V3Index},
		{"noble/spack/v3/manifests/key/keys.manifest.json", "noble/spack", layout.V3KeyIndex},
		{"build_cache/index.json", "", layout.V2Index},
		{"slurm/25.11/13.4.0/buildcache/build_cache/index.json.hash", "slurm/25.11/13.4.0/buildcache", layout.V2IndexHash},
		{"build_cache/build_cache/index.json", "build_cache", layout.V2Index},
		{"v3/v3/manifests/index/index.manifest.json", "v3", layout.V3Index},
		{object: "slurm-25.11.tar.gz"}, {object: ""}, {object: "/"}, {object: "/build_cache/index.json"}, {object: "a//build_cache/index.json"},
		{object: "a/../build_cache/index.json"}, {object: "xbuild_cache/index.json"}, {object: "a/v3/layout.json"},
		{object: "a/blobs/sha256/84/8438163f63106cecc80947fe527ca3e80b4614f00f14ecda8443be9ee9c51c7f"},
	} {
		mirror, name, ok := layout.Split(row.object)
		if mirror != row.mirror || name != row.name || ok != (row.name != "") {
			t.Errorf("%s: %q, %q, %t", row.object, mirror, name, ok)
		}
	}
}

// Whatever the object is called, it has one place or none.
func FuzzSplit(f *testing.F) {
	for _, name := range names(f, "v3-view") {
		f.Add("noble/spack/" + name)
	}
	for _, name := range names(f, "v2-signed") {
		f.Add(name)
	}
	f.Add("a/v3/manifests/spec/v3/manifests/spec/x/x-1-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.spec.manifest.json")
	f.Fuzz(func(t *testing.T, object string) {
		mirror, name, ok := layout.Split(object)
		if !ok {
			if mirror != "" || name != "" {
				t.Errorf("%q has no place, but %q, %q", object, mirror, name)
			}
			return
		}
		if path.Join(mirror, name) != object || strings.HasPrefix(mirror, "/") || strings.Contains("/"+mirror+"/", "/../") {
			t.Errorf("%q is at %q, %q", object, mirror, name)
		}
		if _, ok := layout.Fixed(name); !ok {
			t.Errorf("%q: %q is no fixed name", object, name)
		}
		if m, n, ok := layout.Split("a/b/" + object); !ok || m != strings.TrimSuffix("a/b/"+mirror, "/") || n != name {
			t.Errorf("further down, %q is at %q, %q", object, m, n)
		}
	})
}
