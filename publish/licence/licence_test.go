package licence

import (
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// node is a package of a version, with some variants.
func node(t testing.TB, name, version, variants string) (*query.Graph, *query.Node) {
	t.Helper()
	g := query.NewGraph()
	n, err := g.Add([]byte(`{"name":"` + name + `","version":"` + version + `","namespace":"builtin","arch":{"platform":"linux","platform_os":"rocky9","target":"zen4"},"parameters":{` + variants + `},"hash":"bdt7eb3bdt7eb3bdt7eb3bdt7eb3bdt7"}`))
	if err != nil {
		t.Fatal(err)
	}
	g.Link()
	return g, n
}

// What recipes say, as Spack understands them: by version and variant, in blocks, and never what is a comment, a string or another class.
func TestRecipes(t *testing.T) {
	for _, row := range []struct{ name, version, variants, recipe, licence, noBinary string }{
		{"zlib", "1.3", "", "class Zlib(Package):\n    license(\"Zlib\", checked_by=\"x\")\n", "Zlib", ""},
		{"zlib", "1.3", "", "class Zlib(Package):\n    # license('MIT')\n    \"\"\"license('MIT')\n    redistribute(binary=False)\"\"\"\n", "", ""},
		{"curl", "3.1", "", "class Curl(Package):\n    license('Unlicense', when='@:3.22')\n    license('MIT', when='@3.23:')\n", "Unlicense", ""},
		{"curl", "3.23", "", "class Curl(Package):\n    license('Unlicense', when='@:3.22')\n    license('MIT', when='@3.23:')\n", "MIT", ""},
		{"x", "1", `"gpl":true`, "class X(Package):\n    with when('+gpl'):\n        license('GPL-2.0-only')\n    with when('~gpl'):\n        license('MIT')\n", "GPL-2.0-only", ""},
		{"x", "1", "", "class X(Package):\n    license(\n        'BSD-3-Clause AND '\n        'MIT',  # both\n    )\n", "BSD-3-Clause AND MIT", ""},
		{"x", "1", "", "class X(Package):\n    license(LICENCE)\n", notWritten, ""},
		{"x", "1", "", "class X(Package):\n    license(f'{a}')\n", notWritten, ""},
		{"x", "1", "", "class X(Package):\n    license('MIT', when=False)\n", "", ""},
		{"x", "1", "", "class X(Package):\n    if sys.platform == 'win32':\n        license('A')\n    license('B')\n", "(A) AND (B)", ""},
		{"x", "1", "", "class X(Package):\n    def f(self):\n        license('MIT')\n", "", ""},
		{"py-x-y", "1", "", "class Helper:\n    license('A')\n\nclass PyXY(PythonPackage):\n    license('B')\n", "B", ""},
		{"7zip", "1", "", "class _7zip(Package):\n    license('B')\n", "B", ""},
		{"matlab", "1", "", "class Matlab(Package):\n    redistribute(source=False, binary=False)\n", "", "may not be redistributed"},
		{"matlab", "1", "", "class Matlab(Package):\n    redistribute(source=False)\n", "", ""},
		{"matlab", "1", "", "class Matlab(Package):\n    redistribute(binary=False, when='@2:')\n", "", ""},
		{"matlab", "1", "", "class Matlab(Package):\n    redistribute(binary=False, when='not a spec @@')\n", "", "may not be redistributed"},
		{"matlab", "1", "", "class Matlab(Package):\n    redistribute(binary=secret)\n", "", "may not be redistributed"},
		{"intel-oneapi-mkl", "1", "", "class IntelOneapiMkl(IntelOneApiLibraryPackage):\n    pass\n", "", "IntelOneApiLibraryPackage"},
	} {
		g, n := node(t, row.name, row.version, row.variants)
		f := Parse(row.recipe, row.name).Of(g, n)
		if f.Licence != row.licence || (f.NoBinary == "") != (row.noBinary == "") || !strings.Contains(f.NoBinary, row.noBinary) {
			t.Errorf("%s@%s: %+v\n%s", row.name, row.version, f, row.recipe)
		}
	}
}

// What a recipe says of its package is the first paragraph of its own description, and the homepage of its own class.
func TestDescriptions(t *testing.T) {
	long := strings.Repeat("long ", 200)
	for _, row := range []struct{ recipe, about, homepage string }{
		{"class X(Package):\n    \"\"\"Does one\n    thing.\n\n    And more.\"\"\"\n\n    homepage = \"https://x.example\"\n    url = \"https://y.example\"\n", "Does one thing.", "https://x.example"},
		{"\"\"\"The file.\"\"\"\nclass X(Package):\n    homepage = 'https://x.example'\n    \"\"\"Too late.\"\"\"\n", "", "https://x.example"},
		{"class A:\n    \"\"\"Another.\"\"\"\n    homepage = 'a'\nclass X(Package):\n    version('1')\n", "", ""},
		{"class X(Package):\n    'Short.'\n    def f(self):\n        homepage = 'z'\n    homepage = join('a', 'b')\n", "Short.", ""},
		{"class X(Package):\n    \"\"\"" + long + "\"\"\"\n", long[:400] + "…", ""},
	} {
		g, n := node(t, "x", "1", "")
		if f := Parse(row.recipe, "x").Of(g, n); f.About != row.about || f.Homepage != row.homepage {
			t.Errorf("%q, %q\n%s", f.About, f.Homepage, row.recipe)
		}
	}
}

// Each rule, and which of them goes first.
func TestRules(t *testing.T) {
	mit, gpl := Facts{Known: true, Licence: "MIT"}, Facts{Known: true, Licence: "GPL-3.0-only WITH GCC-exception-3.1"}
	secret := Facts{Known: true, Licence: "MIT", NoBinary: "no"}
	permissive := Rules{Licenses: Names{Allow: []string{"mit", "BSD-*"}}}
	for _, row := range []struct {
		rules Rules
		facts Facts
		want  string // that the reason contains; empty: it is permitted
	}{
		{Rules{}, mit, ""}, {Rules{}, Facts{}, ""}, {Rules{}, secret, "no"},
		{Rules{Packages: Names{Allow: []string{"p*"}, Deny: []string{"pkg"}}}, secret, ""},
		{Rules{Packages: Names{Deny: []string{"pk?"}}}, mit, "packages.deny"},
		{Rules{Unknown: "deny"}, Facts{}, "no recipe"}, {Rules{Unknown: "deny"}, Facts{Known: true}, "names none"}, {Rules{Unknown: "deny"}, mit, ""},
		{permissive, mit, ""}, {permissive, gpl, "licenses.allow does not have GPL-3.0-only WITH GCC-exception-3.1"},
		{permissive, Facts{Known: true, Licence: "MIT OR GPL-2.0-only"}, ""},
		{permissive, Facts{Known: true, Licence: "MIT AND (GPL-2.0-only OR ISC)"}, "does not have GPL-2.0-only"},
		{permissive, Facts{Known: true, Licence: "(MIT AND BSD-3-Clause) OR ISC"}, ""},
		{permissive, Facts{Known: true, Licence: "MIT AND"}, "does not have MIT AND"},
		{Rules{Licenses: Names{Deny: []string{"GPL-*"}}}, gpl, "licenses.deny has GPL-3.0-only"},
		{Rules{Licenses: Names{Deny: []string{"https://*"}}}, Facts{Known: true, Licence: "https://intel.ly/393CijO"}, "licenses.deny"},
	} {
		if got := row.rules.Refuses("pkg", row.facts); (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("%+v, %+v: %q, want %q", row.rules, row.facts, got, row.want)
		}
	}
	bad := Rules{Packages: Names{Deny: []string{"["}}, Licenses: Names{Allow: []string{""}}, Unknown: "perhaps"}
	if err := bad.Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Error(err)
	}
}

func FuzzRecipe(f *testing.F) {
	f.Add("class X(Package):\n  with when('+a'):\n    license('''a''' \"b\", when=\"@1\\n\")\n  redistribute(binary=(False))", "x")
	f.Fuzz(func(t *testing.T, text, name string) {
		g, n := node(t, "x", "1", "")
		if r := Parse(text, name); r.Of(g, n).Licence == "" && len(r.licences) > 0 {
			for _, s := range r.licences {
				if s.text != "" && !s.never && len(s.when) == 0 {
					t.Errorf("%+v", r)
				}
			}
		}
		parse(text)
	})
}
