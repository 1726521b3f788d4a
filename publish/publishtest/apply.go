package publishtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
)

// Settled returns a mirror without the index documents that no pointer names any more. Which of those exist depends
// on which publisher was faster.
func Settled(t testing.TB, s map[string][]byte) map[string][]byte {
	t.Helper()
	kept := WithoutIndex(t, s)
	for _, l := range []string{"v3", "v2"} {
		var lines []string
		for h, rec := range IndexOf(t, s, l) {
			lines = append(lines, fmt.Sprintf("%s %v %d %t", h, rec.Spec, rec.RefCount, rec.InBuildcache))
		}
		slices.Sort(lines)
		kept["the "+l+" index"] = []byte(strings.Join(lines, "\n"))
	}
	if hash, ok := s[layout.V2IndexHash]; ok && string(hash) != blob.DigestOf(s[layout.V2Index]).String() {
		kept["the wrong hash"] = hash
	} else if ok != (s[layout.V2Index] != nil) {
		kept["no hash"] = nil
	}
	return kept
}

// A Scene is a publish to be disturbed: into a mirror that has an index, with a package that the index lacks.
func Scene(t testing.TB, l string) (*mirrortest.Mem, string, publish.Options) {
	t.Helper()
	m := EmptyMirror(t)
	fixture := Original(l + "-signed")
	MustPublish(t, m, fixture, Only("gcc-runtime"))
	lost := Only("munge")
	lost.Index = publish.IndexNone
	MustPublish(t, m, fixture, lost)
	m.Uproot(map[string]string{"v3": layout.V3KeyIndex, "v2": layout.V2KeyIndex}[l])
	m.Uproot(layout.V3Layout)
	m.Forget()
	return m, fixture, Only("zlib", "openssl")
}

// Fixed are the objects that clients would see change.
func Fixed(m *mirrortest.Mem) []string {
	return slices.DeleteFunc(m.Stored(), func(name string) bool {
		return strings.HasPrefix(name, layout.V3Blobs) || strings.HasSuffix(name, ".spack")
	})
}

// ContentFile is the file in a mirror that holds what a package installs.
func ContentFile(t testing.TB, dir, pkg string) string {
	t.Helper()
	s := ContentOf(t, dir)
	for name := range s {
		if id, ok := layout.ParseV3Spec(name); ok && id.Package == pkg {
			return filepath.Join(dir, PointsAt(t, s, name)[0])
		}
		if strings.HasSuffix(name, ".spack") && strings.HasPrefix(filepath.Base(filepath.Dir(name)), pkg+"-") {
			return filepath.Join(dir, name)
		}
	}
	t.Fatalf("no content of %s", pkg)
	return ""
}

func FlipFile(t testing.TB, name string) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Statuses returns the statuses of packages.
func Statuses(p *publish.Outcome) map[string]publish.Status {
	got := map[string]publish.Status{}
	for _, m := range p.Mirrors {
		for _, k := range m.Packages {
			id, _, _ := strings.Cut(k.ID(), "@")
			got[id] = k.Status
		}
	}
	return got
}
