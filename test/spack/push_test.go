//go:build spack

package spack

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Spack refuses to push a package onto its tombstone. With --force it replaces the tombstone, and its index offers the package: the next publish takes
// it out of the index and says so, verify names the document, and withdrawing it again buries that.
func TestSpackPushesOntoATombstone(t *testing.T) {
	probe := newSpack(t)
	if !probe.v3() {
		t.Skip("in layout v2 a tombstone is apart")
	}
	m := published(t, probe.fixtures()[0])
	munge := hashOf(t, probe, m, "munge")
	s := client(t, served(t, m))
	s.run(t, "buildcache", "install", "--otherarch", "/"+munge)
	publish(t, "withdraw", "file://"+m, "munge", "--reason", "CVE-2026-1")
	push := func(flags ...string) []string {
		return slices.Concat([]string{"buildcache", "push", "--unsigned", "--only", "package"}, flags, []string{"file://" + m, "/" + munge})
	}
	if out, err := s.try(push()...); err == nil {
		t.Errorf("pushed onto a tombstone:\n%s", out)
	}
	publish(t, "verify", "--deep", "file://"+m)
	s.run(t, push("--force", "--update-index")...)
	if names := s.listed(t); !slices.Contains(names, "munge") {
		t.Errorf("listed are %v", names)
	}
	if out := publish(t, testdata+probe.fixtures()[0], "file://"+m); !strings.Contains(out, "it was withdrawn on") {
		t.Errorf("published: %s", out)
	}
	if names := s.listed(t); slices.Contains(names, "munge") {
		t.Errorf("after a publish: listed are %v", names)
	}
	out, err := exec.Command(bin(t), "verify", "--deep", "file://"+m).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "it can be installed by its hash: run publish withdraw again") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	publish(t, "withdraw", "file://"+m, "munge", "--reason", "CVE-2026-1")
	publish(t, "verify", "--deep", "file://"+m)
}
