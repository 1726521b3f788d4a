//go:build spack

package spack

import (
	"fmt"
	"os"
	"os/exec"
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

// munge is the hash of that package in an index.
func munge(t *testing.T, x index) string {
	t.Helper()
	for hash, r := range x {
		if r.Spec.(map[string]any)["name"] == "munge" {
			return hash
		}
	}
	t.Fatal("munge is not in the index")
	return ""
}

// installs makes sure that Spack, which cannot reach the internet, installs munge and what it needs from the mirrors that are
// configured, with signatures checked.
func (s *spack) installs(t *testing.T, what, hash string) {
	t.Helper()
	for _, name := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:9") // where nothing listens
	}
	s.run(t, "buildcache", "keys", "--install", "--trust")
	s.run(t, "buildcache", "install", "--otherarch", "/"+hash)
	out := s.run(t, "find", "--format", "{name}")
	for _, name := range []string{"munge", "openssl", "zlib", "gcc-runtime"} {
		if !strings.Contains(out, name) {
			t.Errorf("%s: installed are %s", what, out)
		}
	}
}

// A file that was carried over an air gap becomes a mirror from which packages install, with their signatures checked: the
// whole, and one file after the other. Unpacked, the file is such a mirror itself.
func TestSpackInstallsFromAnImport(t *testing.T) {
	s := newSpack(t)
	from := published(t, s.fixtures()[0])
	dir := t.TempDir()
	base, rest := filepath.Join(dir, "base.tar"), filepath.Join(dir, "rest.tar")
	publish(t, "export", "file://"+from, base, "openssl")
	publish(t, "export", "--base", base, "file://"+from, rest, "munge")
	m := filepath.Join(dir, "imported")
	publish(t, "import", base, "file://"+m)
	publish(t, "import", "--require-signed", rest, "file://"+m)
	publish(t, "verify", "--deep", "--require-signed", "file://"+m)
	s.reading(t, m, true)
	ours := indexOf(t, m, s.v3())
	s.installs(t, "an import", munge(t, ours))
	s.updateIndex(t, m)
	if diff := cmp.Diff(indexOf(t, m, s.v3()), ours); diff != "" {
		t.Errorf("the index of an import (-spack +ours):\n%s", diff)
	}

	whole, unpacked := filepath.Join(dir, "whole.tar"), filepath.Join(dir, "unpacked")
	publish(t, "export", "file://"+from, whole, "munge")
	if err := os.Mkdir(unpacked, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", unpacked, "-xf", whole).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s = newSpack(t)
	s.reading(t, unpacked, true)
	s.installs(t, "a file that was unpacked", munge(t, indexOf(t, unpacked, s.v3())))
}

// What one mirror lacks because another one has it installs from both.
func TestSpackInstallsFromTwoMirrors(t *testing.T) {
	s := newSpack(t)
	fixture := testdata + s.fixtures()[0]
	dir := t.TempDir()
	upstream, m := filepath.Join(dir, "upstream"), filepath.Join(dir, "ours")
	// By its name only where layout v3 tells it before the document is read.
	publish(t, "copy", "file://"+published(t, s.fixtures()[0]), "file://"+upstream, "openssl")
	publish(t, "--upstream", "file://"+upstream, fixture, "file://"+m)
	publish(t, "verify", "--upstream", "file://"+upstream, "file://"+m)
	ours := indexOf(t, m, s.v3())
	for hash, r := range ours {
		if name := r.Spec.(map[string]any)["name"]; r.InBuildcache && (name == "openssl" || name == "zlib") && indexOf(t, upstream, s.v3())[hash].InBuildcache {
			t.Errorf("%s is published, and the upstream mirror has it", name)
		}
	}
	s.write(t, "conf/mirrors.yaml", fmt.Sprintf("mirrors:\n  ours: {url: \"file://%s\", signed: true}\n  upstream: {url: \"file://%s\", signed: true}\n", m, upstream))
	s.installs(t, "two mirrors", munge(t, ours))
}

// Spack's update of an index leaves the evidence of a promotion alone, and so does its prune.
func TestSpackLeavesEvidenceAlone(t *testing.T) {
	s := newSpack(t)
	m := filepath.Join(t.TempDir(), "promoted")
	publish(t, "copy", "--require-signed", "file://"+published(t, s.fixtures()[0]), "file://"+m, "munge")
	records := func() []string {
		names, err := filepath.Glob(filepath.Join(m, ".promotions", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	before := records()
	if len(before) != 1 {
		t.Fatalf("records: %q", before)
	}
	s.reading(t, m, true)
	s.updateIndex(t, m)
	if s.v3() {
		s.run(t, "buildcache", "prune", "ours")
	}
	if after := records(); !slices.Equal(after, before) {
		t.Errorf("records: %q, were %q", after, before)
	}
	if out := publish(t, "show", "file://"+m, "munge"); !strings.Contains(out, "rules:") {
		t.Errorf("show: %s", out)
	}
}
