//go:build interop

package interop

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/docker"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// tool is the path of a program that `make interop` has built.
func tool(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("$%s names no program: make interop", variable)
	}
	return path
}

const (
	actImage  = "act-runner:local"
	ourImage  = "slurm-factory-publish:local"
	busyboxIn = "/bin/busybox"
)

// makeRunner gives the engine an image that jobs can run in: busybox, statically linked.
func makeRunner(t *testing.T) {
	t.Helper()
	busybox, err := os.ReadFile(busyboxIn)
	if err != nil {
		t.Fatalf("%v: apt-get install busybox-static", err)
	}
	applets, err := exec.Command(busyboxIn, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, busybox)
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, nil)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker", "import", "--change", "ENV PATH=/bin", "-", actImage)
	cmd.Stdin = &image
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

const actWorkflow = `name: act
on: push
permissions: {}
defaults:
  run:
    shell: sh
jobs:
  publish:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: publish
        uses: ./
        with:
          role-to-assume: ROLE
          path: buildcache
          destination: s3://BUCKET/{toolchain}/spack
          layout-vars: toolchain=noble
          dry-run: ${{ env.DRY }}
      - run: echo "the result is ${{ steps.publish.outputs.result }}, ${{ steps.publish.outputs.specs-found }} found"
`

// The action in a job that act runs: its inputs, outputs and credentials get through.
func TestAct(t *testing.T) {
	act := tool(t, "ACT")
	docker.Need(t)
	makeRunner(t)
	dir, _, err := program.Image()
	if err != nil {
		t.Fatal(err)
	}
	docker.Load(t, dir, ourImage)
	source, err := program.Source()
	if err != nil {
		t.Fatal(err)
	}
	metadata, err := os.ReadFile(filepath.Join(source, "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	metadata = regexp.MustCompile(`image: docker://\S+`).ReplaceAll(metadata, []byte("image: docker://"+ourImage))

	w := newAccount(t)
	repository := t.TempDir()
	for name, text := range map[string]string{
		"action.yml":                string(metadata),
		".github/workflows/act.yml": strings.NewReplacer("ROLE", w.sts.Role(), "BUCKET", w.bucket).Replace(actWorkflow),
	} {
		name = filepath.Join(repository, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(repository, "buildcache"), os.DirFS("../testdata/v3-signed")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "all"}} {
		if out, err := exec.Command("git", append([]string{"-C", repository}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	for _, c := range []struct{ dry, result string }{{"true", "dry-run"}, {"false", "published"}, {"false", "unchanged"}} {
		args := []string{"push", "--directory", repository, "--platform", "ubuntu-latest=" + actImage, "--pull=false", "--action-offline-mode",
			"--container-daemon-socket", "-", "--no-cache-server", "--env", "DRY=" + c.dry}
		for name, value := range w.env {
			args = append(args, "--env", name+"="+value)
		}
		cmd := exec.Command(act, args...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CACHE_HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "the result is "+c.result+", 11 found") {
			t.Fatalf("%s: %v\n%s", c.result, err, out)
		}
	}
	m := reader.V3(reader.Dir(filepath.Join(w.s3.Path(w.bucket), "noble/spack")))
	if !m.Works() || len(m.Specs) != 11 {
		t.Errorf("the mirror: %v", m)
	}
	for _, v := range w.sts.Violations() {
		t.Error(v)
	}
}
