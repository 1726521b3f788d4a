package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// licensed is a mirror in which the recipe of munge forbids to redistribute it, and that of zlib names a licence. openmpi and slurm need both.
func licensed(t *testing.T) string {
	t.Helper()
	dir := publishtest.Copied(t, "v3-unsigned")
	publishtest.AddRecipe(t, dir, "munge", "class Munge(AutotoolsPackage):\n    license(\"GPL-3.0-or-later\")\n    redistribute(source=False, binary=False, when=\"@0:\")\n")
	publishtest.AddRecipe(t, dir, "zlib", "class Zlib(MakefilePackage):\n    license(\"Zlib\", checked_by=\"tgamblin\")\n")
	return dir
}

func licenses(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "licenses.yaml")
	clitest.Write(t, name, text)
	return name
}

// packagesIn are the names of the packages that a mirror offers.
func packagesIn(t *testing.T, at string) string {
	t.Helper()
	code, stdout, stderr := execute(t, nil, "ls", "--format", "{name}", "file://"+at)
	if code != cli.ExitDone {
		t.Fatal(stderr)
	}
	return strings.Join(strings.Fields(stdout), " ")
}

// Recipes are found in tarballs that Spack 1.2 packed (test/testdata/v3-licences, pushed with --private): conditions by version and variant, strings in parts, a
// name that begins with a digit, and a description that looks like a directive. The bill of materials and the page have the same.
func TestLicencesInTarballsOfSpack(t *testing.T) {
	src := filepath.Join(t.TempDir(), "mirror")
	if err := os.CopyFS(src, os.DirFS(spack(t, "v3-licences"))); err != nil {
		t.Fatal(err)
	}
	licence := map[string]string{"free-lib": "Zlib", "sources": "Apache-2.0 OR GPL-2.0-only", "7th-thing": "GPL-3.0-or-later WITH GCC-exception-3.1", "closed": ""}
	to := t.TempDir()
	code, stdout, stderr := execute(t, nil, "--keep-going", "--json", "--licenses", licenses(t, "{}"), src, to)
	var report struct {
		Mirrors []struct {
			Packages []struct{ Name, Status, License string }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != cli.ExitSource || len(report.Mirrors[0].Packages) != len(licence) {
		t.Fatalf("exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	for _, p := range report.Mirrors[0].Packages {
		if p.License != licence[p.Name] || (p.Status == "rejected") != (p.Name == "closed") {
			t.Errorf("%+v", p)
		}
	}
	if got := packagesIn(t, to); got != "7th-thing free-lib sources" {
		t.Errorf("published: %s", got)
	}
	code, bom, stderr := execute(t, nil, "sbom", "--licenses", "--format", "cyclonedx", "file://"+src)
	if code != cli.ExitDone {
		t.Fatal(stderr)
	}
	if code, _, stderr := execute(t, nil, "catalog", "--licenses", "file://"+src); code != cli.ExitDone {
		t.Fatal(stderr)
	}
	var page strings.Builder
	parts, err := filepath.Glob(filepath.Join(src, "catalog", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		text, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		page.Write(text)
	}
	for _, l := range licence {
		if !strings.Contains(bom, l) || !strings.Contains(page.String(), l) {
			t.Errorf("%s is not in both the bill of materials and the page", l)
		}
	}
	if !strings.Contains(page.String(), `"One of the test's packages, license('WRONG')."`) || !strings.Contains(page.String(), `"https://closed.example.invalid"`) || strings.Contains(bom, "WRONG") {
		t.Errorf("descriptions in the page:\n%s", page.String())
	}
}

// What may not be redistributed stops a publish, and with --keep-going the rest is published.
func TestLicencesKeepPackagesOut(t *testing.T) {
	src := licensed(t)
	for _, row := range []struct{ rules, want string }{
		{"{}\n", "its recipe says that binaries of it may not be redistributed"},
		{"packages: {deny: [munge]}\n", "packages.deny names it"},
		{"licenses: {allow: [Zlib, GPL-*]}\n", "munge"},
		{"packages: {allow: [munge]}\nunknown: deny\n", "its licence is not known: its tarball has no recipe"},
	} {
		to := t.TempDir()
		code, stdout, stderr := execute(t, nil, "--licenses", licenses(t, row.rules), src, to)
		if code != cli.ExitSource || !strings.Contains(stdout+stderr, row.want) {
			t.Errorf("%q: exit %d\n%s%s", row.rules, code, stdout, stderr)
		}
		if all := publishtest.ContentOf(t, to); len(all) > 0 {
			t.Errorf("%q: something was stored", row.rules)
		}
	}
	to := t.TempDir()
	code, stdout, stderr := execute(t, nil, "--keep-going", "--json", "--licenses", licenses(t, "{}"), src, to)
	if got := packagesIn(t, to); code != cli.ExitSource || strings.Contains(got, "munge") || strings.Contains(got, "slurm") || !strings.Contains(got, "zlib") {
		t.Errorf("exit %d: %s\n%s", code, got, stderr)
	}
	if !strings.Contains(stdout, `"license": "Zlib"`) && !strings.Contains(stdout, `"license":"Zlib"`) {
		t.Errorf("the licence of zlib is not told: %s", stdout)
	}
	if code, _, stderr := execute(t, nil, "--licenses", licenses(t, "packages: {allow: [munge]}\n"), src, t.TempDir()); code != cli.ExitDone {
		t.Error(stderr)
	}
}

// A package that is there already is judged by its name, as a signature would be.
func TestLicencesOfWhatIsThereAlready(t *testing.T) {
	src, to := licensed(t), t.TempDir()
	if code, _, stderr := execute(t, nil, src, to); code != cli.ExitDone {
		t.Fatal(stderr)
	}
	if code, _, stderr := execute(t, nil, "--licenses", licenses(t, "packages: {deny: [mung?]}\n"), src, to); code != cli.ExitSource {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// With --licenses-to, the rest goes where it may: what is kept out, and what needs it.
func TestLicencesRoutePackages(t *testing.T) {
	src, public, private := licensed(t), filepath.Join(t.TempDir(), "public"), filepath.Join(t.TempDir(), "private")
	rules := licenses(t, "{}")
	args := []string{"--licenses", rules, "--licenses-to", private, src, public}
	code, stdout, stderr := execute(t, nil, append([]string{"--dry-run", "--json"}, args...)...)
	if code != cli.ExitDone || !strings.Contains(stdout, `"routed"`) {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = execute(t, nil, append([]string{"--json"}, args...)...)
	if code != cli.ExitDone {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if got := packagesIn(t, private); got != "munge openmpi slurm" {
		t.Errorf("private: %s", got)
	}
	if got := packagesIn(t, public); strings.Contains(got, "munge") || !strings.Contains(got, "zlib") {
		t.Errorf("public: %s", got)
	}
	for name := range publishtest.ContentOf(t, public) {
		if strings.Contains(name, "munge") || strings.Contains(name, "slurm") {
			t.Errorf("%s is public", name)
		}
	}
	var report struct {
		Mirrors []struct{ Counts map[string]int }
		Routed  *struct {
			Destination, Result string
			Mirrors             []struct{ Counts map[string]int }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || report.Routed == nil || report.Mirrors[0].Counts["routed"] != 3 || report.Routed.Mirrors[0].Counts["new"] != 3 {
		t.Errorf("%v: %s", err, stdout)
	}
	if code, stdout, stderr := execute(t, nil, args...); code != cli.ExitDone || strings.Count(stdout, "othing") < 2 {
		t.Errorf("again: exit %d: %s%s", code, stdout, stderr)
	}
	for _, wrong := range [][]string{{"--licenses-to", private, src, public}, {"--licenses", rules, "--licenses-to", public, src, public}} {
		if code, _, _ := execute(t, nil, wrong...); code != cli.ExitUsage {
			t.Errorf("%v: exit %d", wrong, code)
		}
	}
}

// A copy is judged as well: nothing that may not be redistributed is taken from a mirror elsewhere.
func TestLicencesOfACopy(t *testing.T) {
	src, to := licensed(t), t.TempDir()
	code, _, stderr := execute(t, nil, "copy", "--licenses", licenses(t, "{}"), "file://"+src, "file://"+to)
	if code != cli.ExitSource || !strings.Contains(stderr, "may not be redistributed") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// A bill of materials declares what recipes say, in both forms.
func TestLicencesInABillOfMaterials(t *testing.T) {
	src := licensed(t)
	for format, want := range map[string]string{"spdx": `"licenseDeclared": "Zlib"`, "cyclonedx": `"expression": "Zlib"`} {
		code, stdout, stderr := execute(t, nil, "sbom", "--format", format, "--licenses", "file://"+src, "zlib")
		if code != cli.ExitDone || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit %d: %s%s", format, code, stdout, stderr)
		}
	}
	if _, stdout, _ := execute(t, nil, "sbom", "file://"+src, "zlib"); strings.Contains(stdout, "Zlib") {
		t.Errorf("unasked: %s", stdout)
	}
}
