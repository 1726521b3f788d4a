//go:build spack

package spack

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A view that we make of an environment is the one that Spack makes of it, and Spack's clients that choose it find its packages
// and no others.
func TestSpackMakesTheSameView(t *testing.T) {
	s := newSpack(t)
	if !s.v3() {
		t.Log("this Spack has no views")
		return
	}
	lock, err := os.ReadFile("../../publish/lockfile/testdata/v6.lock")
	if err != nil {
		t.Fatal(err)
	}
	env := filepath.Join(s.home, "environment")
	writeFile(t, filepath.Join(env, "spack.yaml"), []byte("spack:\n  specs: [munge, openssl]\n  concretizer: {unify: true}\n"))
	writeFile(t, filepath.Join(env, "spack.lock"), lock)

	m := published(t, "v3-signed")
	s.reading(t, m, true)
	s.run(t, "buildcache", "update-index", "--name", "theirs/login", "--force", "--yes-to-all", "file://"+m, env)
	theirs := viewOf(t, m, "theirs/login")
	publish(t, "view", "set", "file://"+m, "ours/login", filepath.Join(env, "spack.lock"))
	if diff := cmp.Diff(theirs, viewOf(t, m, "ours/login")); diff != "" {
		t.Errorf("of a lock file (-spack +ours):\n%s", diff)
	}
	publish(t, "view", "set", "file://"+m, "of/packages", "munge", "openssl")
	if diff := cmp.Diff(theirs, viewOf(t, m, "of/packages")); diff != "" {
		t.Errorf("of packages (-spack +ours):\n%s", diff)
	}
	publish(t, "--view", "published", "--include", "@"+filepath.Join(env, "spack.lock"), testdata+"v3-signed", "file://"+m)
	if diff := cmp.Diff(theirs, viewOf(t, m, "published")); diff != "" {
		t.Errorf("of a publish (-spack +ours):\n%s", diff)
	}
	publish(t, "verify", "--view", "ours/login", "--view", "theirs/login", "file://"+m)
	publish(t, "view", "set", "file://"+m, "current", "--from", "theirs/login")

	for _, view := range []string{"ours/login", "published", "current"} {
		s := newSpack(t)
		s.write(t, "conf/mirrors.yaml", fmt.Sprintf("mirrors:\n  ours: {url: \"file://%s\", signed: true, view: %q}\n", m, view))
		s.run(t, "buildcache", "keys", "--install", "--trust")
		// External packages are listed as well.
		listed := slices.Compact(slices.DeleteFunc(s.listed(t), func(name string) bool { return name == "glibc" }))
		if !slices.Equal(listed, []string{"compiler-wrapper", "gcc", "gcc-runtime", "munge", "openssl", "zlib"}) {
			t.Errorf("%s: Spack lists %v", view, listed)
		}
	}
	// What Spack's clients hold of a view is followed by what it becomes, also when that is what it was.
	s.write(t, "conf/mirrors.yaml", fmt.Sprintf("mirrors:\n  ours: {url: \"file://%s\", signed: true, view: current}\n", m))
	for _, step := range []struct {
		from string
		n    int
	}{{"theirs/login", 6}, {"empty", 0}, {"theirs/login", 6}, {"theirs/login", 6}} {
		if step.from == "empty" {
			publish(t, "view", "set", "file://"+m, "current", "--empty")
		} else {
			publish(t, "view", "set", "file://"+m, "current", "--from", step.from)
		}
		for range 2 {
			listed := slices.Compact(slices.DeleteFunc(s.listed(t), func(name string) bool { return name == "glibc" }))
			if len(listed) != step.n {
				t.Errorf("current is %s: Spack lists %v", step.from, listed)
			}
		}
	}
	if diff := cmp.Diff(theirs, viewOf(t, m, "current")); diff != "" {
		t.Errorf("an alias (-spack +ours):\n%s", diff)
	}
}
