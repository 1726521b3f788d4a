package alike_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
)

func TestFindingsThatSayTheSameAreOneLine(t *testing.T) {
	document := func(dir, id string) string {
		return dir + "v3/manifests/spec/" + id[:4] + "/" + id + "-" + strings.Repeat("h", 32) + ".spec.manifest.json"
	}
	var some []buildcache.Finding
	for _, id := range []string{"zlib-1.3", "gcc-13.4.0", "hwloc-2"} {
		some = append(some, buildcache.Error.In(document("", id), "it is not signed, and signatures are required"))
	}
	some = append(some, buildcache.Error.In(document("noble/", "pmix-5"), "it is not signed, and signatures are required"),
		buildcache.Error.In("blobs/a", "gone"), buildcache.Error.In("blobs/b", "gone"), buildcache.Warning.In("blobs/c", "gone"),
		buildcache.Error.In(document("", "slurm-25"), "it depends on zlib@1.3, which is refused"),
		buildcache.Error.In(document("", "munge-1"), "it depends on zlib@1.3, which is refused"),
		buildcache.Error.In(document("", "openssl-3"), "it depends on zlib@1.3, which is refused"),
	)
	for i := range 7 {
		some = append(some, buildcache.Error.In(fmt.Sprintf("x%d", i), "what it names is not there"))
	}
	want := []string{
		"4 packages are not signed, and signatures are required: zlib-1.3-hhhhhhh, gcc-13.4.0-hhhhhhh, hwloc-2-hhhhhhh, noble/pmix-5-hhhhhhh",
		`"blobs/a": gone`, `"blobs/b": gone`, `"blobs/c": gone`,
		"3 packages depend on zlib@1.3, which is refused: slurm-25-hhhhhhh, munge-1-hhhhhhh, openssl-3-hhhhhhh",
		`7 objects: what it names is not there: "x0", "x1", "x2", "x3", "x4" and 2 more`,
	}
	if diff := cmp.Diff(want, alike.Lines(some, false)); diff != "" {
		t.Error(diff)
	}
	for _, whole := range []bool{false, true} {
		said := (&buildcache.FindingsError{Findings: some, Whole: whole}).Error()
		if lines := strings.Count(said, "\n"); !strings.HasPrefix(said, "16 problems:\n  ") || whole != (lines == 16) {
			t.Errorf("whole %v: %d lines:\n%s", whole, lines, said)
		}
	}
}

// What is missing of many packages is one line, though each lacks a blob of its own, and names each package once.
func TestMissingContentIsOneLine(t *testing.T) {
	var some []buildcache.Finding
	for i, id := range []string{"zlib-1.3", "zlib-1.3", "gcc-13.4.0", "hwloc-2"} {
		some = append(some, buildcache.Error.In("v3/manifests/spec/x/"+id+"-"+strings.Repeat("h", 32)+".spec.manifest.json", fmt.Sprintf("blobs/sha256/aa/%064x is not there", i)))
	}
	want := []string{"3 packages: its content is not there: zlib-1.3-hhhhhhh, gcc-13.4.0-hhhhhhh, hwloc-2-hhhhhhh"}
	if diff := cmp.Diff(want, alike.Lines(some, false)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{some[0].String(), some[1].String()}, alike.Lines(some[:2], false)); diff != "" {
		t.Error(diff)
	}
}

// However many findings there are, and whatever is in them, what is shown is bounded and on lines of its own.
func TestGroupedFindingsAreBounded(t *testing.T) {
	var many []buildcache.Finding
	for i := range 10000 {
		many = append(many, buildcache.Error.In(fmt.Sprintf("file\n%d", i), fmt.Sprintf("reason\n%d", i)))
	}
	lines := alike.Lines(many, false)
	if len(lines) != 51 || lines[50] != "and 9950 more" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	for _, l := range append(lines, alike.Lines([]buildcache.Finding{buildcache.Error.In("a\n.spec.json", "x\n"), buildcache.Error.In("b\n.spec.json", "x\n"), buildcache.Error.In("c\n.spec.json", "x\n")}, false)...) {
		if strings.Contains(l, "\n") {
			t.Errorf("%q", l)
		}
	}
}
