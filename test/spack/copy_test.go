//go:build spack

package spack

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A copy of a package installs with all that it needs, its signatures checked, and its index is the one that Spack makes of it.
func TestSpackInstallsFromACopy(t *testing.T) {
	s := newSpack(t)
	fixture := s.fixtures()[0]
	lock := "../../publish/lockfile/testdata/v5.lock"
	if s.v3() {
		lock = "../../publish/lockfile/testdata/v6.lock"
	}
	from := published(t, fixture)
	for _, wanted := range []string{"munge", lock} {
		s := newSpack(t)
		m := filepath.Join(t.TempDir(), "copy")
		publish(t, "copy", "file://"+from, "file://"+m, wanted)
		publish(t, "verify", "--deep", "--require-signed", "file://"+m)
		s.reading(t, m, true)
		s.run(t, "buildcache", "keys", "--install", "--trust")
		// Newer ones list external packages as well.
		listed := slices.DeleteFunc(s.listed(t), func(name string) bool { return name == "gcc" || name == "glibc" })
		if !slices.Equal(listed, []string{"gcc-runtime", "munge", "openssl", "zlib"}) {
			t.Errorf("copy of %s: Spack lists %v", wanted, listed)
		}
		ours := indexOf(t, m, s.v3())
		for hash, r := range ours {
			if node := r.Spec.(map[string]any); node["name"] != "munge" {
				continue
			}
			s.run(t, "buildcache", "install", "--otherarch", "/"+hash)
			if out := s.run(t, "find", "--format", "{name}"); !strings.Contains(out, "munge") || !strings.Contains(out, "openssl") || !strings.Contains(out, "zlib") {
				t.Errorf("copy of %s: installed are %s", wanted, out)
			}
		}
		s.updateIndex(t, m)
		if diff := cmp.Diff(indexOf(t, m, s.v3()), ours); diff != "" {
			t.Errorf("copy of %s (-spack +ours):\n%s", wanted, diff)
		}
	}
}
