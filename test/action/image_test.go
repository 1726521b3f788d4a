// Package action tests the GitHub Action as GitHub runs it: its container image, built here
// from source, started by a real Docker engine with the options of GitHub's own runner.
package action

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"errors"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/vantagecompute/slurm-factory-publish/test/docker"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

const (
	// maxDownload is what a runner may have to pull before the action starts.
	maxDownload = 15e6
	// maxUnpacked is less than the program has when something in it looks for methods by name,
	// as templates do, so that the linker must keep those that nobody calls: a third more. Who it is
	// go build -ldflags=-dumpdep ./cmd/publish says, marked ReflectMethod.
	maxUnpacked = 33e6
)

func image(t *testing.T) (dir, digest string) {
	t.Helper()
	dir, digest, err := program.Image()
	if err != nil {
		t.Fatal(err)
	}
	return dir, digest
}

func index(t *testing.T) v1.ImageIndex {
	t.Helper()
	dir, digest := image(t)
	i, err := docker.Index(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := i.Digest(); err != nil || d.String() != digest {
		t.Fatalf("the builder says %s, the image has %s, %v", digest, d, err)
	}
	return i
}

func platform(t *testing.T, arch string) v1.Image {
	t.Helper()
	img, err := docker.Platform(index(t), arch)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

var architectures = []string{"amd64", "arm64"}

// Somebody else's implementation of the format finds the image right, and a registry keeps
// its digest.
func TestImageIsWellFormed(t *testing.T) {
	i := index(t)
	if err := validate.Index(i); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	tag, err := name.NewTag(strings.TrimPrefix(server.URL, "http://") + "/slurm-factory-publish:1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, i); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Head(tag)
	if err != nil {
		t.Fatal(err)
	}
	if _, digest := image(t); got.Digest.String() != digest {
		t.Errorf("the registry has %s, built was %s", got.Digest, digest)
	}
}

// The image is one program that GitHub can start: as root, by its path, without a shell.
func TestImageIsOneProgram(t *testing.T) {
	for _, arch := range architectures {
		img := platform(t, arch)
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c := file.Config
		if !slices.Equal(c.Entrypoint, []string{"/slurm-factory-publish"}) || !slices.Equal(c.Cmd, []string{"action"}) || c.User != "" {
			t.Errorf("%s: %+v", arch, c)
		}
		if file.OS != "linux" || file.Architecture != arch || file.Created.Unix() != 0 {
			t.Errorf("%s: %s/%s of %v", arch, file.OS, file.Architecture, file.Created)
		}
		if c.Labels["org.opencontainers.image.source"] == "" || c.Labels["org.opencontainers.image.version"] == "" {
			t.Errorf("%s: labels %v", arch, c.Labels)
		}
		files := contents(t, img)
		if names := slices.Collect(maps.Keys(files)); !slices.Equal(names, []string{"slurm-factory-publish"}) {
			t.Fatalf("%s: files %v", arch, names)
		}
		info, err := buildinfo.Read(bytes.NewReader(files["slurm-factory-publish"]))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range info.Settings {
			if want := map[string]string{"GOARCH": arch, "GOOS": "linux", "CGO_ENABLED": "0", "-trimpath": "true"}[s.Key]; want != "" && s.Value != want {
				t.Errorf("%s: built with %s=%s", arch, s.Key, s.Value)
			}
			if strings.HasPrefix(s.Key, "vcs") {
				t.Errorf("%s: %s=%s is in the binary", arch, s.Key, s.Value)
			}
		}
		n, unpacked := download(t, img), len(files["slurm-factory-publish"])
		t.Logf("%s: %d bytes to download, %d unpacked", arch, n, unpacked)
		if n > maxDownload {
			t.Errorf("%s: %d bytes to download", arch, n)
		}
		if unpacked > maxUnpacked {
			t.Errorf("%s: %d bytes unpacked", arch, unpacked)
		}
	}
}

// contents are the files of an image, by name. Each must be root's, from 1970.
func contents(t *testing.T, img v1.Image) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	tarball := mutate.Extract(img)
	defer tarball.Close()
	for r := tar.NewReader(tarball); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 || h.Mode != 0o755 {
			t.Errorf("%s: uid %d, gid %d, mode %o, of %v", h.Name, h.Uid, h.Gid, h.Mode, h.ModTime)
		}
		if all[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func download(t *testing.T, img v1.Image) int64 {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	n := m.Config.Size
	for _, l := range m.Layers {
		n += l.Size
	}
	return n
}

// Another directory and another user's settings: the same digest. And it is the one that
// action.yml names, if that names this version. What was compiled before is used again, as
// far as it was compiled alike; a release compiles everything anew, and compares.
func TestImageIsReproducible(t *testing.T) {
	_, want := image(t)
	source, err := program.Source()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "some/where/else")
	for _, name := range []string{"go.mod", "go.sum", "action.yml", "cmd", "publish"} {
		copyTree(t, filepath.Join(source, name), filepath.Join(elsewhere, name))
	}
	cmd := exec.Command("go", "run", "./cmd/image", "-o", "built/oci", "-check")
	cmd.Dir = elsewhere
	cmd.Env = append(os.Environ(), "GOWORK=off", "TZ=Asia/Tokyo", "CGO_ENABLED=1",
		"GOAMD64=v3", "GOARM64=v9.0", "GOFLAGS=-buildvcs=false -tags=netgo", "SOURCE_DATE_EPOCH=1700000000")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if lines := strings.Fields(string(out)); len(lines) == 0 || lines[len(lines)-1] != want {
		t.Errorf("built elsewhere:\n%s%s, want %s", out, &stderr, want)
	}
	if err != nil {
		t.Errorf("%v: %s", err, &stderr)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		err = os.CopyFS(to, os.DirFS(from))
	} else if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
		var data []byte
		if data, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, data, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What the Dockerfile compiles, of what .dockerignore leaves, is the binary of the image. Its
// first stage needs an image from a registry, so its command is run here.
func TestDockerfileCompilesTheSame(t *testing.T) {
	docker.Need(t)
	source, err := program.Source()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(source, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	const out = "-o /slurm-factory-publish"
	line := regexp.MustCompile(`(?m)^RUN (GOWORK=off .*)$`).FindStringSubmatch(strings.ReplaceAll(string(text), "\\\n", " "))
	if line == nil || !strings.Contains(line[1], out) {
		t.Fatalf("Dockerfile: %q", line)
	}

	// The engine knows best what it is sent of a directory.
	const tag = "slurm-factory-publish-context:test"
	build := exec.Command("docker", "build", "-q", "-t", tag, "-f", "-", source)
	build.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	build.Stdin = strings.NewReader("FROM scratch\nCOPY . /src\nCMD [\"none\"]\n")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	container := docker.Run(t, "create", tag)
	t.Cleanup(func() {
		docker.Run(t, "rm", container)
		docker.Run(t, "rmi", tag)
	})
	dir := t.TempDir()
	docker.Run(t, "cp", container+":/src", dir)

	compile := exec.Command("bash", "-c", strings.Replace(line[1], out, "-o "+dir+"/binary", 1))
	compile.Dir = filepath.Join(dir, "src")
	compile.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+runtime.GOARCH, "GOFLAGS=")
	if said, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	binary, err := os.ReadFile(filepath.Join(dir, "binary"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(binary, contents(t, platform(t, runtime.GOARCH))["slurm-factory-publish"]) {
		t.Error("the Dockerfile compiles another binary")
	}
	if _, err := os.Stat(filepath.Join(dir, "src/infra")); err == nil {
		t.Error("the whole tree is sent to the engine")
	}
}

// Who builds with the Dockerfile gets the same image, but for when it was made and for its
// version. Its first stage needs an image from a registry; here, the binary takes its place.
func TestDockerfile(t *testing.T) {
	docker.Need(t)
	source, err := program.Source()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(source, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	_, last, ok := strings.Cut(string(text), "\nFROM scratch\n")
	if !ok {
		t.Fatal("Dockerfile: no last stage FROM scratch")
	}
	ours := platform(t, runtime.GOARCH)
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"Dockerfile":            []byte("FROM scratch AS build\nCOPY slurm-factory-publish /\nFROM scratch\n" + last),
		"slurm-factory-publish": contents(t, ours)["slurm-factory-publish"],
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const tag = "slurm-factory-publish-dockerfile:test"
	build := exec.Command("docker", "build", "-q", "-t", tag, dir)
	build.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { docker.Run(t, "rmi", tag) })
	file, err := ours.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	format := "{{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.User}} {{.Config.WorkingDir}}"
	want := docker.Run(t, "inspect", "--format", format, loaded(t))
	if got := docker.Run(t, "inspect", "--format", format, tag); got != want {
		t.Errorf("the Dockerfile makes %s, make image %s", got, want)
	}
	for k, v := range file.Config.Labels {
		if got := docker.Run(t, "inspect", "--format", `{{index .Config.Labels "`+k+`"}}`, tag); got != v && !strings.HasSuffix(k, ".version") {
			t.Errorf("label %s is %q, want %q", k, got, v)
		}
	}
	if a, b := docker.Run(t, "run", "--rm", tag, "version"), docker.Run(t, "run", "--rm", loaded(t), "version"); a != b {
		t.Errorf("versions %s and %s", a, b)
	}
}

// loaded returns the name under which the engine has the image.
func loaded(t *testing.T) string {
	t.Helper()
	docker.Need(t)
	dir, _ := image(t)
	const tag = "ghcr.io/vantagecompute/slurm-factory-publish:test"
	docker.Load(t, dir, tag)
	return tag
}
