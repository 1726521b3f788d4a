package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// cacheAt is a fixture where clients may find it.
func cacheAt(t *testing.T, fixture string) map[string][]string {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := s3test.New(s3test.Options{})
	t.Cleanup(server.Close)
	if code, _, said := execute(t, nil, "--endpoint-url", server.URL, clitest.Spack(t, fixture), "s3://bucket/noble"); code != cli.ExitDone {
		t.Fatal(said)
	}
	files := httptest.NewServer(http.FileServer(http.Dir(clitest.Spack(t, fixture))))
	t.Cleanup(files.Close)
	return map[string][]string{
		"directory": {"file://" + clitest.Spack(t, fixture)},
		"s3":        {"--endpoint-url", server.URL, "s3://bucket/noble"},
		"https":     {files.URL},
	}
}

// A cache is shown the same, wherever it is and in whatever layout.
func TestCachesAreShownWhereverTheyAre(t *testing.T) {
	for fixture, hash := range map[string]string{"v3-signed": "uba5li5", "v2-signed": "bdt7eb3"} {
		for place, at := range cacheAt(t, fixture) {
			t.Run(fixture+" "+place, func(t *testing.T) {
				for _, row := range []struct {
					command string
					args    []string
					want    string // a regular expression
				}{
					{"ls", []string{"slurm", "^hwloc"}, `(?m)^NAME +VERSION +HASH +COMPILER +OS +TARGET\nslurm +24-11-6-1 +` + hash + ` +gcc@13\.4\.0 +ubuntu22\.04 +x86_64_v3\n`},
					{"ls", []string{"--format", "{name}{@version}{/hash:7}{ os=os}", "slurm^hwloc"}, `^slurm@24-11-6-1/` + hash + ` os=ubuntu22\.04\n$`},
					{"show", []string{"/" + hash}, `(?s)^slurm@24-11-6-1/` + hash + `.*signature +by E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5, not checked.*sha256 +[0-9a-f]{64}.*depends on .*hwloc@2\.11\.1`},
					{"why", []string{"hwloc"}, `(?m)^  slurm@24-11-6-1/` + hash + ` +build,link +depends on hwloc@`},
					{"du", nil, `(?m)^ +SIZE +PACKAGES +NAME\n(.*\n)* +[0-9.]+ KiB +1 +slurm$`},
					{"du", []string{"--by", "target"}, `(?m)^ +[0-9.]+ KiB +(11|9) +x86_64_v3$`},
				} {
					code, stdout, stderr := execute(t, nil, append(append([]string{row.command}, at...), row.args...)...)
					if code != cli.ExitDone || !regexp.MustCompile(row.want).MatchString(stdout) {
						t.Errorf("%s %v: exit %d\n%s%s", row.command, row.args, code, stdout, stderr)
					}
				}
			})
		}
	}
}

// JSON holds what the text does, and names every mirror of a tree.
func TestCachesAsJSON(t *testing.T) {
	tree := t.TempDir()
	for _, name := range []string{"v3-signed", "v2-signed"} {
		if err := os.CopyFS(filepath.Join(tree, name), os.DirFS(clitest.Spack(t, name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"ls", "--json", "file://" + tree, "slurm"}, {"show", "--json", "file://" + tree, "slurm"}, {"why", "--json", "file://" + tree, "slurm"}} {
		code, stdout, stderr := execute(t, nil, args...)
		var document struct {
			Version int
			Mirrors []struct {
				Mirror   string
				Packages []struct {
					Name, Version, Hash string
					Compilers           []string
					Variants            map[string]any
				}
			}
		}
		if err := json.Unmarshal([]byte(stdout), &document); err != nil || code != cli.ExitDone {
			t.Fatalf("%v: exit %d: %v\n%s", args, code, err, stderr)
		}
		if len(document.Mirrors) != 2 || !strings.HasSuffix(document.Mirrors[0].Mirror, "/v2-signed") {
			t.Fatalf("%v: %s", args, stdout)
		}
		for _, m := range document.Mirrors {
			if p := m.Packages[0]; p.Name != "slurm" || len(p.Hash) != 32 || p.Compilers[0] != "gcc@13.4.0" || p.Variants["pmix"] != true {
				t.Errorf("%v: %+v", args, p)
			}
		}
	}
	if _, stdout, _ := execute(t, nil, "ls", "file://"+tree, "slurm"); !regexp.MustCompile(`(?m)^slurm .* v2-signed\nslurm .* v3-signed\n`).MatchString(stdout) {
		t.Error(stdout)
	}
}

// A wrong question gets an error that names what was probably meant.
func TestWrongQuestionsAboutCaches(t *testing.T) {
	at := "file://" + clitest.Spack(t, "v3-signed")
	for _, row := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"ls"}, cli.ExitUsage, "want: publish ls"},
		{[]string{"ls", at, "slurm@1:2@3"}, cli.ExitUsage, `a package has one version: at "@3"`},
		{[]string{"ls", at, "slurm", "target=zen4:nosuch"}, cli.ExitUsage, "no microarchitecture"},
		{[]string{"ls", at, "--format", "{nmae}"}, cli.ExitUsage, `there is no "nmae": want arch,`},
		{[]string{"ls", at, "--format", "{name"}, cli.ExitUsage, "has no }"},
		{[]string{"ls", at, "slum"}, cli.ExitDone, "no package is called slum, did you mean slurm?"},
		{[]string{"ls", at, "--view", "nosuch"}, cli.ExitSource, "view nosuch"},
		{[]string{"show", at, "slum"}, cli.ExitUsage, "did you mean slurm?"},
		{[]string{"why", at, "zlib@99"}, cli.ExitUsage, `nothing in ` + at + ` matches "zlib@99"`},
		{[]string{"why", at, "--deptypes", "linked", "zlib"}, cli.ExitUsage, `"linked" is no type of dependency`},
		{[]string{"du", at, "--by", "size"}, cli.ExitUsage, "want name, version, os, target or view"},
		{[]string{"ls", "file://" + t.TempDir()}, cli.ExitSource, "no Spack mirror is here"},
		{[]string{"view", "list", "file://" + t.TempDir()}, cli.ExitSource, "no Spack mirror is here"},
	} {
		code, stdout, stderr := execute(t, nil, row.args...)
		if code != row.code || !strings.Contains(stderr, row.want) {
			t.Errorf("%v: exit %d, want %d and %q\n%s%s", row.args, code, row.code, row.want, stdout, stderr)
		}
	}
}

// Names in an index come from others, and reach a terminal as text only.
func TestHostileNamesInACache(t *testing.T) {
	hash := strings.Repeat("a", 32)
	text, err := json.Marshal(map[string]any{"database": map[string]any{"version": "8", "installs": map[string]any{hash: map[string]any{
		"spec": map[string]any{
			"name": "x" + evil, "version": "1.0", "arch": map[string]any{"platform": evil, "platform_os": evil, "target": evil}, "namespace": evil,
			"parameters": map[string]any{evil: evil, "cflags": []string{evil}}, "package_hash": "x", "hash": hash, "annotations": map[string]any{"original_specfile_version": 4, "compiler": evil + "@=1"},
		}, "ref_count": 0, "in_buildcache": true,
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	record := put(t, at, "application/vnd.spack.db.v8+json", text)
	manifest, err := json.Marshal(map[string]any{"version": 3, "data": []any{record}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(at, "v3/manifests/index/index.manifest.json")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, name, string(manifest))
	for _, args := range [][]string{{"ls"}, {"ls", "--json"}, {"ls", "--format", "{name} {variants} {arch}"}, {"show", "/a"}, {"show", "--json", "/a"}, {"why", "/a"}, {"du"}, {"du", "--by", "target", "--json"}, {"ls", evil}, {"show", "^" + evil}} {
		code, stdout, stderr := execute(t, nil, append([]string{args[0], "file://" + at}, args[1:]...)...)
		isHarmless(t, fmt.Sprint(args), stdout)
		isHarmless(t, fmt.Sprint(args), stderr)
		if code == cli.ExitInternal || args[0] == "ls" && len(args) == 1 && !strings.Contains(stdout, `x\x1b]0;PWNED`) {
			t.Errorf("%v: exit %d\n%s%s", args, code, stdout, stderr)
		}
	}
}

// A package whose files are gone is shown as such.
func TestMissingFilesAreShown(t *testing.T) {
	at := filepath.Join(t.TempDir(), "mirror")
	if err := os.CopyFS(at, os.DirFS(clitest.Spack(t, "v3-signed"))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(at, "v3/manifests/spec/slurm")); err != nil {
		t.Fatal(err)
	}
	if _, stdout, _ := execute(t, nil, "show", "file://"+at, "slurm"); !strings.Contains(stdout, "its document is not there: run publish verify") {
		t.Error(stdout)
	}
	if _, stdout, _ := execute(t, nil, "du", "file://"+at); !strings.Contains(stdout, "1 packages cannot be installed") {
		t.Error(stdout)
	}
}

// An environment whose packages are not all in the cache has no bill of materials.
func TestSbomOfALockFile(t *testing.T) {
	at := "file://" + spack(t, "v3-signed")
	lock := filepath.Join(t.TempDir(), "spack.lock")
	_, ids, _ := execute(t, nil, "ls", at, "--format", "{hash}", "zlib")
	hash := strings.TrimSpace(ids)
	document := func(hash string) string {
		return fmt.Sprintf(`{"_meta":{"file-type":"spack-lockfile","lockfile-version":6,"specfile-version":5},"roots":[{"hash":%[1]q,"spec":"zlib"}],`+
			`"concrete_specs":{%[1]q:{"name":"zlib","version":"1.3.1","hash":%[1]q}}}`, hash)
	}
	write(t, lock, document(hash))
	if code, stdout, stderr := execute(t, nil, "sbom", at, "@"+lock); code != cli.ExitDone || !strings.Contains(stdout, "SPDXRef-zlib-"+hash) {
		t.Errorf("exit %d\n%s", code, stderr)
	}
	write(t, lock, document(strings.Repeat("a", 32)))
	if code, stdout, stderr := execute(t, nil, "sbom", at, "@"+lock); code != cli.ExitSource || stdout != "" || !strings.Contains(stderr, "does not offer 1 package") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	for _, args := range [][]string{{"--format", "xml", at}, {at, "slum"}, {"--deptypes", "x", at}, {"file://" + spack(t, "")}} {
		if code, stdout, stderr := execute(t, nil, append([]string{"sbom"}, args...)...); code != cli.ExitUsage || stdout != "" {
			t.Errorf("%v: exit %d\n%s", args, code, stderr)
		}
	}
}
