//go:build spack

// Package spack runs what we publish through a checkout of real Spack: make spack SPACK=DIR. It is no part of the gate,
// which has no Spack; .github/workflows/spack.yml runs it with several versions.
package spack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

const testdata = "../testdata/"

// A spack is a checkout of Spack with a configuration, a store and a keyring of its own, in a directory that goes with the test.
type spack struct {
	dir          string // of the checkout
	home         string
	major, minor int
}

// recipes are the packages of the fixtures. Spack wants a recipe for what it installs, whatever is in it.
var recipes = []string{"gcc", "compiler-wrapper", "gcc-runtime", "zlib", "hwloc", "openssl", "munge", "libevent", "pmix", "slurm", "openmpi", "glibc", "gmake"}

func newSpack(t *testing.T) *spack {
	t.Helper()
	dir := os.Getenv("SPACK")
	if dir == "" {
		t.Fatal("SPACK is not set: make spack SPACK=DIR, with a checkout of Spack")
	}
	s := &spack{dir: dir, home: t.TempDir()}
	t.Cleanup(func() { // Spack makes directories read-only
		_ = filepath.WalkDir(s.home, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				_ = os.Chmod(name, 0o700)
			}
			return nil
		})
	})
	words := regexp.MustCompile(`^(\d+)\.(\d+)`).FindStringSubmatch(s.run(t, "--version"))
	if words == nil {
		t.Fatal("Spack does not say its version")
	}
	s.major, _ = strconv.Atoi(words[1])
	s.minor, _ = strconv.Atoi(words[2])
	s.configure(t)
	return s
}

// v3 reports whether this Spack writes layout v3.
func (s *spack) v3() bool { return s.major >= 1 }

func (s *spack) configure(t *testing.T) {
	t.Helper()
	s.write(t, "conf/config.yaml", fmt.Sprintf("config:\n  install_tree: {root: %[1]s/store}\n  misc_cache: %[1]s/misc\n", s.home))
	repo := "repos/spack_repo/builtin"
	config := fmt.Sprintf("repos:\n  builtin:: %s/%s\n", s.home, repo)
	yaml := "repo:\n  namespace: builtin\n  api: v2.0\n"
	if !s.v3() {
		repo, yaml = "repos/builtin", "repo:\n  namespace: builtin\n"
		config = fmt.Sprintf("repos::\n- %s/%s\n", s.home, repo)
		s.bootstraps(t)
	}
	s.write(t, "conf/repos.yaml", config)
	s.write(t, repo+"/repo.yaml", yaml)
	for _, name := range recipes {
		dir, class := name, ""
		if s.v3() {
			dir = strings.ReplaceAll(name, "-", "_")
		}
		for _, word := range strings.Split(name, "-") {
			class += strings.ToUpper(word[:1]) + word[1:]
		}
		s.write(t, repo+"/packages/"+dir+"/package.py", fmt.Sprintf(
			"from spack.package import *\nclass %s(Package):\n    url = 'https://example.invalid/x-1.0.tar.gz'\n    version('1.0', sha256='%064d')\n", class, 0))
	}
}

// bootstraps tells older ones a compiler for what they bootstrap. To find one before they run gpg they read all recipes: a minute for each test.
func (s *spack) bootstraps(t *testing.T) {
	t.Helper()
	arch := func(flag string) string { return strings.TrimSpace(s.run(t, "arch", flag)) }
	s.write(t, "cache/bootstrap/config/"+arch("--platform")+"/compilers.yaml", fmt.Sprintf(`compilers:
- compiler:
    spec: gcc@=12.2.0
    paths: {cc: /usr/bin/gcc, cxx: /usr/bin/g++, f77: null, fc: null}
    flags: {}
    operating_system: %s
    target: %s
    modules: []
    environment: {}
    extra_rpaths: []
`, arch("--operating-system"), map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]))
}

func (s *spack) write(t testing.TB, name, content string) {
	t.Helper()
	writeFile(t, filepath.Join(s.home, name), []byte(content))
}

func writeFile(t testing.TB, full string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// reading makes the directory a mirror that Spack reads and, if it is trusted only with signatures, checks.
func (s *spack) reading(t *testing.T, mirror string, signed bool) {
	t.Helper()
	s.write(t, "conf/mirrors.yaml", fmt.Sprintf("mirrors:\n  ours: {url: \"file://%s\", signed: %t}\n", mirror, signed))
}

func (s *spack) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.dir, "bin", "spack"), append([]string{"--config-scope", filepath.Join(s.home, "conf")}, args...)...)
	gpg := filepath.Join(s.home, "gpg")
	_ = os.MkdirAll(gpg, 0o700)
	cmd.Env = append(os.Environ(), "HOME="+s.home, "SPACK_DISABLE_LOCAL_CONFIG=1", "SPACK_USER_CACHE_PATH="+s.home+"/cache", "SPACK_GNUPGHOME="+gpg)
	if python := os.Getenv("SPACK_PYTHON"); python != "" {
		cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(python)+":"+os.Getenv("PATH"))
	}
	return cmd
}

// try runs Spack and returns all that it says.
func (s *spack) try(args ...string) (string, error) {
	out, err := s.command(args...).CombinedOutput()
	return string(out), err
}

func (s *spack) run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.try(args...)
	if err != nil {
		t.Fatalf("spack %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// updateIndex lets Spack make the index of a mirror.
func (s *spack) updateIndex(t testing.TB, mirror string) {
	t.Helper()
	s.run(t, "buildcache", "update-index", "file://"+mirror)
}

// listed are the names of the packages that Spack finds in the mirror that it reads.
func (s *spack) listed(t testing.TB) []string {
	t.Helper()
	out := s.run(t, "buildcache", "list", "--allarch")
	var names []string
	for line := range strings.Lines(out) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), "@"); ok && !strings.HasPrefix(line, "=") && !strings.HasPrefix(line, "--") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// A verdict is what Spack does with a spec document, and with an index of its nodes.
type verdict struct{ Document, Index string }

func (v verdict) reads() bool { return v.Document == "reads" && v.Index == "reads" }

// A question is a spec document, and the version of the index that is to hold its nodes.
type question struct {
	Document string `json:"document"`
	Version  int    `json:"version"`
}

// judge asks Spack about documents.
func (s *spack) judge(t *testing.T, questions []question) []verdict {
	t.Helper()
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, q := range questions {
		if err := enc.Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	script, err := filepath.Abs("judge.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.command("python", script)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = &in, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("spack python judge.py: %v\n%s", err, stderr.String())
	}
	var verdicts []verdict
	for line := range bytes.Lines(out) {
		var v verdict
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		verdicts = append(verdicts, v)
	}
	if len(verdicts) != len(questions) {
		t.Fatalf("%d verdicts on %d documents\n%s", len(verdicts), len(questions), stderr.String())
	}
	return verdicts
}

// bin is the program that is tested.
func bin(t testing.TB) string {
	t.Helper()
	path, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// publish runs the program.
func publish(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(bin(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("publish %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// published is a directory into which a fixture has been published.
func published(t testing.TB, fixture string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mirror")
	publish(t, testdata+fixture, "file://"+dir)
	return dir
}

// An index is what a mirror's index holds, by hash.
type index map[string]struct {
	Spec         any  `json:"spec"`
	RefCount     int  `json:"ref_count"`
	InBuildcache bool `json:"in_buildcache"`
}

func indexOf(t testing.TB, mirror string, v3 bool) index {
	t.Helper()
	if v3 {
		return indexBehind(t, mirror, "v3/manifests/index/index.manifest.json")
	}
	return readIndex(t, filepath.Join(mirror, "build_cache", "index.json"))
}

// viewOf is what a view of a mirror holds.
func viewOf(t testing.TB, mirror, view string) index {
	t.Helper()
	return indexBehind(t, mirror, "v3/manifests/index/"+view+"/index.manifest.json")
}

func indexBehind(t testing.TB, mirror, manifest string) index {
	t.Helper()
	var m struct {
		Data []struct{ MediaType, Checksum string }
	}
	read(t, filepath.Join(mirror, manifest), &m)
	name := ""
	for _, r := range m.Data {
		if r.MediaType == "application/vnd.spack.db.v8+json" {
			name = filepath.Join(mirror, "blobs/sha256", r.Checksum[:2], r.Checksum)
		}
	}
	return readIndex(t, name)
}

func readIndex(t testing.TB, name string) index {
	t.Helper()
	var doc struct{ Database struct{ Installs index } }
	read(t, name, &doc)
	return doc.Database.Installs
}

func read(t testing.TB, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
