package catalog

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// A node is one of a spec that a test makes up.
type node struct {
	name, version, hash, variant string
	needs                        []node
}

// json is the node in a document of Spack, without what it needs.
func (n node) json() string {
	var needs []string
	for _, d := range n.needs {
		needs = append(needs, fmt.Sprintf(`{"name":%q,"hash":%q,"parameters":{"deptypes":["build","link"],"virtuals":[]}}`, d.name, d.hash))
	}
	return fmt.Sprintf(`{"name":%q,"version":%q,"arch":{"platform":"linux","platform_os":"ubuntu22.04","target":"x86_64_v3"},"namespace":"builtin",`+
		`"parameters":{"build_system":"generic","extra":%s,"cflags":[],"cppflags":[],"cxxflags":[],"fflags":[],"ldflags":[],"ldlibs":[]},`+
		`"package_hash":"bxcfd22speboplqlityf6cgwoin36zrg====","dependencies":[%s],"annotations":{"original_specfile_version":5},"hash":%q}`,
		n.name, n.version, n.variant, strings.Join(needs, ","), n.hash)
}

// all are the node and what it needs, each once.
func (n node) all(seen map[string]bool) []string {
	if seen[n.hash] {
		return nil
	}
	seen[n.hash] = true
	nodes := []string{n.json()}
	for _, d := range n.needs {
		nodes = append(nodes, d.all(seen)...)
	}
	return nodes
}

func (n node) write(t *testing.T, dir string) {
	t.Helper()
	document := `{"spec":{"_meta":{"version":5},"nodes":[` + strings.Join(n.all(make(map[string]bool)), ",") + `]}}`
	if err := spackmirror.WritePackage(dir, n.name, n.version, n.hash, 5, document); err != nil {
		t.Fatal(err)
	}
}

// Of two builds of a package the page says why their hashes differ: in what they differ themselves, or else the way to the first dependency that does, and
// that alone.
func TestWhyTwoBuildsDiffer(t *testing.T) {
	hash := func(letter string) string { return strings.Repeat(letter, 32) }
	zlib1, zlib2 := node{"zlib", "1.3.1", hash("a"), "true", nil}, node{"zlib", "1.2.13", hash("b"), "true", nil}
	hwloc1, hwloc2 := node{"hwloc", "2.11", hash("c"), "true", []node{zlib1}}, node{"hwloc", "2.11", hash("d"), "true", []node{zlib2}}
	pmix1, pmix2 := node{"pmix", "5", hash("e"), "true", []node{hwloc1}}, node{"pmix", "5", hash("f"), "true", []node{hwloc2}}
	slurm := node{"slurm", "25.11", hash("g"), "true", []node{pmix1, hwloc1}}
	others := map[string]node{
		"version 25.11 and 24.05":                  {"slurm", "24.05", hash("h"), "true", []node{pmix1, hwloc1}},
		"+extra and ~extra":                        {"slurm", "25.11", hash("i"), "false", []node{pmix1, hwloc1}},
		"hwloc → zlib: version 1.3.1 and 1.2.13":   {"slurm", "25.11", hash("j"), "true", []node{pmix2, hwloc2}},
		"only one of them needs hwloc":             {"slurm", "25.11", hash("k"), "true", []node{pmix1}},
		"the recipe, or what it was built from":    {"slurm", "25.11", hash("l"), "true", []node{pmix1, hwloc1}},
		"pmix → hwloc → zlib: version 1.3.1 and 1": {"slurm", "25.11", hash("m"), "true", []node{pmix2, hwloc1}},
	}
	source, dir := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "mirror")
	for _, n := range []node{zlib1, zlib2, hwloc1, hwloc2, pmix1, pmix2, slurm} {
		n.write(t, source)
	}
	for _, n := range others {
		n.write(t, source)
	}
	publish(t, source, "file://"+dir)
	publish(t, "catalog", "file://"+dir)
	b := open(t)
	b.at(serve(t, dir).url+"#/p/slurm/"+slurm.hash, "7 builds of slurm")
	b.until(`[...document.querySelectorAll('h3')].some(h => h.textContent.startsWith('Why the other builds'))`)
	var rows []string
	b.eval(`[...[...document.querySelectorAll('h3')].find(h => h.textContent.startsWith('Why the other builds')).nextElementSibling.querySelectorAll("tbody tr")].map(tr => [...tr.querySelectorAll('td,th')].map(c => c.textContent).join(' | '))`, &rows)
	if len(rows) != len(others) {
		t.Fatalf("%d rows: %q", len(rows), rows)
	}
	for why, n := range others {
		found := ""
		for _, row := range rows {
			if build, text, _ := strings.Cut(row, " | "); build == "/"+n.hash[:7] {
				found = text
			}
		}
		if !strings.HasPrefix(found, why) || strings.Contains(found, ";") {
			t.Errorf("/%s: %q, want %q", n.hash[:7], found, why)
		}
	}
	b.quiet()
}

// packed is a tarball with a recipe, as Spack packs it.
func packed(t *testing.T, name, recipe string) string {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	at := "opt/" + name + "/.spack/repos/spack_repo/builtin/packages/" + name + "/package.py"
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: at, Size: int64(len(recipe)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	_, err := tw.Write([]byte(recipe))
	if err = errors.Join(err, tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// With licences, the page of a package shows what its recipe says of it. Text stays text, and only addresses of the web are links.
func TestDescriptions(t *testing.T) {
	source, dir := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "mirror")
	for i, p := range []struct{ name, homepage string }{{"good", "https://good.example/x"}, {"evil", "javascript:alert(1)"}} {
		n := node{p.name, "1", strings.Repeat(string(rune('a'+i)), 32), "true", nil}
		document := `{"spec":{"_meta":{"version":5},"nodes":[` + n.json() + `]}}`
		recipe := fmt.Sprintf("class %s(Package):\n    \"\"\"Does <b>one</b>\n    thing.\n\n    More.\"\"\"\n    homepage = %q\n    license('MIT')\n", strings.ToUpper(p.name[:1])+p.name[1:], p.homepage)
		if err := spackmirror.WritePacked(source, n.name, n.version, n.hash, 5, document, packed(t, p.name, recipe)); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, source, "file://"+dir)
	publish(t, "catalog", "--licenses", "file://"+dir)
	s := serve(t, dir)
	b := open(t)
	for name, want := range map[string]string{"good": "https://good.example/x", "evil": ""} {
		b.at(s.url+"#/p/"+name, "1 build of "+name)
		b.until(`document.querySelector('#view').textContent.includes('Does <b>one</b> thing.')`)
		if got := b.text("#view a[rel]"); got != want {
			t.Errorf("%s: links to %q, want %q", name, got, want)
		}
		if got := b.text("#view"); strings.Contains(got, "More.") {
			t.Errorf("%s: %s", name, got)
		}
	}
	b.quiet()
}
