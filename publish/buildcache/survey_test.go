package buildcache_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
)

func layoutNamed(t rapid.TB, name string) buildcache.Layout {
	l, ok := buildcache.LayoutNamed(name)
	if !ok {
		t.Fatalf("no layout %s", name)
	}
	return l
}

// Three packages pushed to a large mirror do not list all of it.
func TestFewPackagesListLittle(t *testing.T) {
	const many = 20_000
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("gcc-runtime"))
	publishtest.PlantMany(t, m, many)

	c := publishtest.NewCounting(m)
	publishtest.MustPublish(t, c, publishtest.Original("v3-unsigned"), publishtest.Only("zlib", "openssl", "hwloc"))
	if c.Listed.Load() > many/10 || c.Lists.Load() > 20 {
		t.Errorf("%d lists yielded %d of %d names", c.Lists.Load(), c.Listed.Load(), 2*many)
	}
	if got := len(indexOfMany(t, m.Snapshot())); got != many+3 {
		t.Errorf("the index offers %d packages, want %d", got, many+3)
	}
	m.Forget()
	c = publishtest.NewCounting(m)
	publishtest.MustPublish(t, c, publishtest.Original("v3-unsigned"), publishtest.Only("zlib", "openssl", "hwloc"))
	if len(m.Mutations()) != 0 || c.Listed.Load() > many/10 {
		t.Errorf("the second run listed %d names and did %v", c.Listed.Load(), m.Mutations())
	}
	for _, call := range m.Calls() {
		if call.Op == "open" && strings.HasPrefix(call.Name, layout.V3Blobs) {
			t.Errorf("the second run read %s", call.Name)
		}
	}
}

// indexOfMany is what an index offers whose packages are not all there.
func indexOfMany(t *testing.T, s map[string][]byte) []string {
	t.Helper()
	x, err := publishtest.NewReader().Index(s, "v3")
	if err != nil {
		t.Fatal(err)
	}
	return x.Offered()
}

// An index names much that is not there. It does not make a small mirror large.
func TestASmallMirrorWithALargeIndexIsListedOnce(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publish.Options{})
	var pad strings.Builder
	for i := range 5000 {
		hash := strings.Map(func(r rune) rune { return 'a' + (r-'0')%26 }, blob.DigestOf(fmt.Appendf(nil, "%d", i)).String())[:32]
		fmt.Fprintf(&pad, `,"%s":{"spec":{"name":"p%d","version":"1","hash":"%s","pad":"%s"},"ref_count":0,"in_buildcache":false}`, hash, i%500, hash, strings.Repeat("x", 1000))
	}
	publishtest.PlantIndex(t, m, `{"database":{"version":"8","installs":{`+pad.String()[1:]+"}}}")
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publish.Options{}) // which says in the pointer how many there are
	c := publishtest.NewCounting(m)
	publishtest.MustPublish(t, c, publishtest.Original("v3-unsigned"), publish.Options{})
	if n := c.Lists.Load(); n > 3 {
		t.Errorf("%d lists of a mirror of a few packages", n)
	}
}

// What the pointer says of an index does not outgrow what we read of a pointer.
func TestAnIndexOfMoreNamesThanAPointerCanHold(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	var x strings.Builder
	for i := range 120_000 {
		hash := strings.Map(func(r rune) rune { return 'a' + (r-'0')%26 }, blob.DigestOf(fmt.Appendf(nil, "%d", i)).String())[:32]
		fmt.Fprintf(&x, `,"%s":{"spec":{"name":"p%d","version":"1","hash":"%s"},"ref_count":0,"in_buildcache":true}`, hash, i, hash)
	}
	publishtest.PlantIndex(t, m, `{"database":{"version":"8","installs":{`+x.String()[1:]+"}}}")
	for _, more := range []string{"zlib", "openssl"} {
		publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only(more))
	}
	if n := len(m.Snapshot()[layout.V3Index]); n > 1000 {
		t.Errorf("the pointer has %d bytes", n)
	}
	if got := len(indexOfMany(t, m.Snapshot())); got != 120_002 {
		t.Errorf("the index offers %d packages, want 120002", got)
	}
}

// To list the documents of many packages, content is not listed.
func TestDocumentsAreListedWithoutContent(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publish.Options{})
	f := layoutNamed(t, "v3")
	p, err := buildcache.PointerForUpdate(t.Context(), f, m)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range m.Snapshot() {
		if _, ok := f.ParsePackageName(name); ok {
			names = append(names, name)
		}
	}
	m.Forget()
	seen, err := buildcache.SurveyDocuments(t.Context(), f, m, p, names, true)
	if err != nil || len(names) == 0 || len(seen.Packages(f)) != len(names) {
		t.Errorf("found %d of %d documents: %v", len(seen.Packages(f)), len(names), err)
	}
	for _, call := range m.Calls() {
		if f.IsPayload(call.Name) {
			t.Errorf("listed %s", call.Name)
		}
	}
}

func within(r mirror.Range, name string) bool {
	return strings.HasPrefix(name, r.Prefix) && (r.After == "" || name > r.After) && (r.Until == "" || name < r.Until)
}

// anyName draws the name of something that a mirror may hold.
func anyName(l string) *rapid.Generator[string] {
	hash := rapid.StringMatching(`[a-z2-7]{32}`)
	pkg := rapid.StringMatching(`[A-Za-z0-9_][A-Za-z0-9_.+-]{0,12}`)
	return rapid.Custom(func(t *rapid.T) string {
		p := pkg.Draw(t, "package")
		if l == "v2" {
			stem := "linux-ubuntu22.04-x86_64-gcc-13.4.0-" + p + "-1-" + hash.Draw(t, "hash")
			return layout.V2Root + rapid.SampledFrom([]string{stem + ".spec.json", stem + ".spec.json.sig", "linux-ubuntu22.04-x86_64/gcc-13.4.0/" + p + "-1/" + stem + ".spack", "index.json", "_pgp/index.json"}).Draw(t, "kind")
		}
		d := blob.DigestOf([]byte(hash.Draw(t, "hash")))
		return rapid.SampledFrom([]string{
			layout.V3Blob(d), layout.V3Specs + p + "/" + p + "-1-" + hash.Draw(t, "hash") + ".spec.manifest.json",
			layout.V3Layout, layout.V3Index, layout.V3Indices + p + "/index.manifest.json", layout.V3KeyIndex,
			layout.V3Keys + strings.Repeat("A", 40) + ".key.manifest.json",
		}).Draw(t, "kind")
	})
}

// However a large mirror is cut, each name is listed once, and hardly more is asked for than
// there are pages.
func TestListingEverythingListsEachOnce(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		rapid.Check(t, func(t *rapid.T) {
			packages := rapid.Int64Range(0, 5_000_000).Draw(t, "packages")
			name := anyName(l).Draw(t, "name")
			ranges := layoutNamed(t, l).Ranges(packages)
			if int64(len(ranges)) > packages*3/1000+6 {
				t.Errorf("%d ranges for %d packages", len(ranges), packages)
			}
			in := slices.DeleteFunc(ranges, func(r mirror.Range) bool { return !within(r, name) })
			if len(in) != 1 {
				t.Errorf("%s is in %d ranges: %v", name, len(in), in)
			}
		})
	}
}

// So it is at every seam of the ranges, for mirrors of every size.
func TestListingLosesNothingAtTheSeams(t *testing.T) {
	var names []string
	for i := range 256 {
		names = append(names, fmt.Sprintf("%s%02x/%02xab", layout.V3Blobs, i, i))
	}
	const first = "019AZ_abcmyz"
	for _, a := range first {
		for _, b := range first + "+-." {
			names = append(names, layout.V3Specs+string(a)+string(b)+"/x")
		}
		names = append(names, layout.V3Specs+string(a)+"/x")
	}
	for _, packages := range []int64{0, 400, 600, 1_001, 7_000, 9_000, 30_000, 1_000_000} {
		ranges := buildcache.V3.Ranges(packages)
		for _, name := range names {
			n := 0
			for _, r := range ranges {
				if within(r, name) {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%d packages: %s is in %d ranges", packages, name, n)
			}
		}
	}
}

// Whichever ranges are chosen, what was asked for is in one of them, and they are no more
// than listing everything takes.
func TestTouchedRangesHoldWhatIsAsked(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		rapid.Check(t, func(t *rapid.T) {
			objects := rapid.Int64Range(0, 10_000_000).Draw(t, "objects")
			names := rapid.SliceOfN(anyName(l), 1, 50).Draw(t, "names")
			ranges := buildcache.Touched(layoutNamed(t, l), names, objects)
			if ranges == nil {
				return // everything
			}
			if int64(len(ranges)) > objects/1000+1 {
				t.Errorf("%d ranges for %d objects", len(ranges), objects)
			}
			for _, name := range names {
				if !slices.ContainsFunc(ranges, func(r mirror.Range) bool { return within(r, name) }) {
					t.Errorf("%s is in none of %v", name, ranges)
				}
			}
		})
	}
}
