//go:build spack

package spack

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is left after a prune installs, its signatures checked, for a client that has read the index before as well, and the index is
// the one that Spack makes of it.
func TestSpackInstallsFromAPrunedMirror(t *testing.T) {
	s := newSpack(t)
	m := published(t, s.fixtures()[0])
	s.reading(t, m, true)
	s.run(t, "buildcache", "keys", "--install", "--trust")
	if listed := s.listed(t); !slices.Contains(listed, "slurm") {
		t.Fatalf("before: Spack lists %v", listed)
	}
	publish(t, "prune", "--alone", "--yes", "--keep-root", "munge", "file://"+m)
	publish(t, "verify", "--deep", "--require-signed", "file://"+m)
	listed := s.listed(t)
	if slices.Contains(listed, "slurm") || !slices.Contains(listed, "munge") || !slices.Contains(listed, "openssl") {
		t.Errorf("after: Spack lists %v", listed)
	}
	ours := indexOf(t, m, s.v3())
	for hash, r := range ours {
		if node := r.Spec.(map[string]any); node["name"] == "munge" {
			s.run(t, "buildcache", "install", "--otherarch", "/"+hash)
		}
	}
	if out := s.run(t, "find", "--format", "{name}"); !strings.Contains(out, "munge") || !strings.Contains(out, "openssl") {
		t.Errorf("installed are %s", out)
	}
	s.updateIndex(t, m)
	if diff := cmp.Diff(indexOf(t, m, s.v3()), ours); diff != "" {
		t.Errorf("index (-spack +ours):\n%s", diff)
	}
}
