package lockfile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/lockfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// read parses a lock file that real Spack wrote.
func read(t *testing.T, name string) *lockfile.Lock {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	l, err := lockfile.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return l
}

func names(nodes []*lockfile.Node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// v5 was written by Spack 0.23 and v6 by 1.2, each for munge and openssl; the other two include these in an
// environment with slurm.
func TestWhatSpackWrites(t *testing.T) {
	for _, c := range []struct{ file, needed, builds string }{
		{"v6.lock", "gcc-runtime munge openssl zlib", "compiler-wrapper gcc gcc-runtime gmake munge openssl zlib zlib"},
		{"v5.lock", "gcc-runtime munge openssl zlib", "gcc-runtime gmake munge openssl zlib"},
		{"v6-included.lock", "gcc-runtime hwloc libevent munge openssl pmix slurm zlib", ""},
		{"v5-included.lock", "gcc-runtime hwloc libevent munge openssl pmix slurm zlib", ""},
	} {
		l := read(t, c.file)
		if got := names(l.Needed(false)); got != c.needed {
			t.Errorf("%s needs %s, want %s", c.file, got, c.needed)
		}
		got := names(l.Needed(true))
		if c.builds != "" && got != c.builds {
			t.Errorf("%s needs %s to build, want %s", c.file, got, c.builds)
		}
		for _, n := range l.Needed(true) {
			if !l.Has(n.Hash) || n.External {
				t.Errorf("%s: %s", c.file, n.ID())
			}
		}
	}
}

const (
	a = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	b = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	c = "cccccccccccccccccccccccccccccccc"
)

// lock is a lock file of a format, with more members.
func lock(version, specs, roots, more string) string {
	return fmt.Sprintf(`{"_meta":{"file-type":"spack-lockfile","lockfile-version":%s},"roots":[%s],"concrete_specs":{%s}%s}`, version, roots, specs, more)
}

func node(hash, name, more string) string {
	return fmt.Sprintf(`%q:{"name":%q,"version":"1","hash":%q%s}`, hash, name, hash, more)
}

func root(hash string) string { return fmt.Sprintf(`{"hash":%q,"spec":"x"}`, hash) }

// Spack 0.18 to 0.20 wrote the kinds of a dependency beside its hash, and a later format is read if it has this shape.
func TestFormatsByTheirShape(t *testing.T) {
	for _, version := range []string{"4", "5", "6", "7", "12"} {
		for _, edge := range []string{`"type":["link"]`, `"parameters":{"deptypes":["build","run"],"virtuals":[]}`} {
			text := lock(version, node(a, "one", `,"dependencies":[{"name":"two","hash":"`+b+`",`+edge+`}]`)+","+node(b, "two", `,"new":{}`), root(a), `,"later":[1]`)
			l, err := lockfile.Parse([]byte(text))
			if err != nil || names(l.Needed(false)) != "one two" || l.Len() != 2 || l.Has(spec.Hash(c)) {
				t.Errorf("format %s, %s: %v", version, edge, err)
			}
		}
	}
}

func TestExternalPackagesAreNotNeeded(t *testing.T) {
	text := lock("6", node(a, "one", `,"dependencies":[{"hash":"`+b+`","parameters":{"deptypes":["link"]}}]`)+","+
		node(b, "glibc", `,"external":{"path":"/usr"},"dependencies":[{"hash":"`+c+`","parameters":{"deptypes":["link"]}}]`)+","+node(c, "deep", ""), root(a), "")
	l, err := lockfile.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := names(l.Needed(true)); got != "one" || !l.Has(spec.Hash(b)) {
		t.Errorf("needed: %s", got)
	}
}

func TestNestedEnvironments(t *testing.T) {
	inner := fmt.Sprintf(`{"roots":[%s],"concrete_specs":{%s}}`, root(c), node(c, "three", ""))
	outer := fmt.Sprintf(`{"roots":[%s],"concrete_specs":{%s},"include_concrete":{"/inner":%s}}`, root(b), node(b, "two", ""), inner)
	l, err := lockfile.Parse([]byte(lock("6", node(a, "one", ""), root(a), `,"include_concrete":{"/outer":`+outer+`}`)))
	if err != nil || names(l.Needed(false)) != "one three two" {
		t.Errorf("%v", err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	deep := `{"roots":[],"concrete_specs":{}}`
	for range 200 {
		deep = `{"roots":[],"concrete_specs":{},"include_concrete":{"/x":` + deep + `}}`
	}
	for _, c := range []struct{ text, why string }{
		{"", "not a lock file"},
		{"spack:\n  specs: []\n", "not a lock file"},
		{"[]", "not a lock file"},
		{`{"database":{}}`, "file-type spack-lockfile"},
		{lock(`"six"`, "", "", ""), "is no number"},
		{lock("3", "", "", ""), "spack concretize --force"},
		{`{"_meta":{"file-type":"spack-lockfile","lockfile-version":6}}`, "no concrete_specs"},
		{lock("6", node("short", "x", ""), "", ""), "want 32 characters"},
		{lock("6", `"`+a+`":{"name":"x","hash":"`+b+`"}`, "", ""), "not the hash of a package"},
		{lock("6", `"`+a+`":{"name":"x\u001b[31m","version":"1"}`, "", ""), "that can be read"},
		{lock("6", `"`+a+`":{}`, "", ""), "no name"},
		{lock("6", "", root(a), ""), "not among the concrete_specs"},
		{lock("6", node(a, "x", ""), `{"hash":7}`, ""), "not a lock file"},
		{lock("6", node(a, "x", `,"dependencies":{"y":{}}`), root(a), ""), a},
		{lock("6", node(a, "x", `,"dependencies":[{"hash":"`+b+`","type":["link"]}]`), root(a), ""), "does not hold"},
		{lock("6", node(a, "x", `,"dependencies":[{"hash":"`+a+`"}]`), root(a), ""), "of which kind"},
		{lock("6", node(a, "x", `,"dependencies":[{"hash":"`+a+`","type":"link"}]`), root(a), ""), "no list"},
		{lock("6", "", "", `,"include_concrete":{"/x":`+deep+`}`), "include each other"},
	} {
		l, err := lockfile.Parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%.120s: %v, %v; want an error with %q", c.text, l, err, c.why)
		}
	}
}

// A lock file comes from somewhere else, so whatever it holds, reading it ends, and what it needs it has.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"v5.lock", "v6.lock", "v5-included.lock", "v6-included.lock"} {
		if text, err := os.ReadFile(filepath.Join("testdata", name)); err == nil {
			f.Add(text)
		}
	}
	f.Add([]byte(lock("6", node(a, "x", `,"dependencies":[{"hash":"`+a+`","type":["link"]}]`), root(a), "")))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := lockfile.Parse(text)
		if err != nil {
			return
		}
		for _, n := range l.Needed(true) {
			if !l.Has(n.Hash) || n.External || !spec.Readable(n.ID()) {
				t.Errorf("%q", n.ID())
			}
		}
	})
}
