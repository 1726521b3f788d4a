// Package install holds what `make package` makes to what docs/daemon.md says of it: what is in the package,
// what systemd makes of its units, and a build host that has nothing else.
package install

import (
	"archive/tar"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/vantagecompute/slurm-factory-publish/test/docker"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

const root = "../.."

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "install")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	made = dir
	code := m.Run()
	program.Clean()
	os.RemoveAll(dir)
	os.Exit(code)
}

// made is what `make package` makes, once, in the directory that TestMain removes.
var (
	made        string
	makePackage = sync.OnceValue(func() error {
		if out, err := exec.Command("make", "-C", root, "package", "PACKAGES="+made).CombinedOutput(); err != nil {
			return fmt.Errorf("make package: %w\n%s", err, out)
		}
		return nil
	})
)

// deb is the package for an architecture.
func deb(t *testing.T, arch string) string {
	t.Helper()
	if err := makePackage(); err != nil {
		t.Fatal(err)
	}
	return packageIn(t, made, arch)
}

func packageIn(t *testing.T, dir, arch string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "slurm-factory-publish_*_"+arch+".deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages for %s: %v, %v", arch, found, err)
	}
	return found[0]
}

// unpacked is what the package would bring, in a directory.
func unpacked(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "dpkg-deb", "-x", deb(t, arch), dir)
	return dir
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every file, with its mode and its owner; manual pages are those of the commands.
const content = `
-rwxr-xr-x root/root /usr/bin/publish
-rw-r--r-- root/root /usr/lib/systemd/system/slurm-factory-publish-copy@.service
-rw-r--r-- root/root /usr/lib/systemd/system/slurm-factory-publish-copy@.timer
-rw-r--r-- root/root /usr/lib/systemd/system/slurm-factory-publish-indexer.service
-rw-r--r-- root/root /usr/lib/systemd/system/slurm-factory-publish.service
-rw-r--r-- root/root /usr/lib/systemd/system/slurm-factory-publish.socket
-rw-r--r-- root/root /usr/lib/sysusers.d/slurm-factory-publish.conf
-rw-r--r-- root/root /usr/share/bash-completion/completions/publish
-rw-r--r-- root/root /usr/share/doc/slurm-factory-publish/CHANGELOG.md.gz
-rw-r--r-- root/root /usr/share/doc/slurm-factory-publish/changelog.gz
-rw-r--r-- root/root /usr/share/doc/slurm-factory-publish/copyright
-rw-r--r-- root/root /usr/share/slurm-factory-publish/alerts.yaml
-rw-r--r-- root/root /usr/share/slurm-factory-publish/config.yaml
-rw-r--r-- root/root /usr/share/slurm-factory-publish/dashboard.json
-rw-r--r-- root/root /usr/share/slurm-factory-publish/credentials.conf
-rw-r--r-- root/root /usr/share/fish/vendor_completions.d/publish.fish
-rw-r--r-- root/root /usr/share/lintian/overrides/slurm-factory-publish
-rw-r--r-- root/root /usr/share/man/man1/publish-*.1.gz
-rw-r--r-- root/root /usr/share/man/man1/publish.1.gz
-rw-r--r-- root/root /usr/share/zsh/vendor-completions/_publish
`

func TestContent(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile(`^(\S+) (\S+) +\d+ 2026-01-01 \S+ \.(/\S+)$`)
	commands := regexp.MustCompile(`/publish-[a-z-]+\.1\.gz$`)
	for _, arch := range []string{"amd64", "arm64"} {
		name := deb(t, arch)
		var files []string
		for l := range strings.Lines(run(t, "dpkg-deb", "-c", name)) {
			m := line.FindStringSubmatch(strings.TrimSpace(l))
			switch {
			case m == nil:
				t.Errorf("%s: %q", arch, l)
			case m[1][0] == 'd':
				if m[1] != "drwxr-xr-x" || m[2] != "root/root" {
					t.Errorf("%s: %s", arch, l)
				}
			default:
				files = append(files, m[1]+" "+m[2]+" "+commands.ReplaceAllString(m[3], "/publish-*.1.gz"))
			}
		}
		slices.Sort(files)
		want := strings.Split(strings.TrimSpace(content), "\n")
		slices.Sort(want)
		if got := slices.Compact(files); !slices.Equal(got, want) {
			t.Errorf("%s: in the package are\n%s", arch, strings.Join(got, "\n"))
		}
		control := run(t, "dpkg-deb", "-f", name)
		for _, field := range []string{"Package: slurm-factory-publish", "Architecture: " + arch, "Version: " + version(t), "Depends: systemd | "} {
			if !strings.Contains("\n"+control, "\n"+field) {
				t.Errorf("%s: no %q in\n%s", arch, field, control)
			}
		}
		// There is none: the configuration is the host's, and an upgrade never asks about it.
		if out, err := exec.Command("dpkg-deb", "--info", name, "conffiles").CombinedOutput(); err == nil {
			t.Errorf("%s: configuration files: %s", arch, out)
		}
	}
}

// version is that of the program, as Debian sorts it: a version under development is before the release.
func version(t *testing.T) string {
	t.Helper()
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(strings.TrimSpace(run(t, bin, "version")), "-", "~", 1)
}

// The program is that of the image, byte by byte, and says of itself what the package says of it.
func TestProgram(t *testing.T) {
	t.Parallel()
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if err := makePackage(); err != nil {
		t.Fatal(err)
	}
	index, err := docker.Index(filepath.Join(made, "image"))
	if err != nil {
		t.Fatal(err)
	}
	for arch, want := range machine {
		dir := unpacked(t, arch)
		bin := read(t, dir+"/usr/bin/publish")
		f, err := elf.NewFile(strings.NewReader(bin))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != want {
			t.Errorf("%s: a program for %s", arch, f.Machine)
		}
		img, err := docker.Platform(index, arch)
		if err != nil {
			t.Fatal(err)
		}
		if inImage(t, img) != bin {
			t.Errorf("%s: the image has another program", arch)
		}
	}
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	dir := unpacked(t, "amd64")
	example, err := exec.Command(bin, "daemon", "--print-example-config").Output()
	if err != nil {
		t.Fatal(err)
	}
	if read(t, dir+"/usr/share/slurm-factory-publish/config.yaml") != string(example) {
		t.Error("the example is not that of the program")
	}
	pages, err := filepath.Glob(dir + "/usr/share/man/man1/publish*.1.gz")
	if err != nil {
		t.Fatal(err)
	}
	man := filepath.Join(t.TempDir(), "man")
	run(t, bin, "man", man)
	if all, err := os.ReadDir(man); err != nil || len(all) != len(pages) {
		t.Errorf("%d manual pages, and %d are there (%v)", len(pages), len(all), err)
	}
}

// The same files make the same bytes, whoever packs them, where and when. That the same source makes the
// same programs is a test of the image, whose programs these are.
func TestReproducible(t *testing.T) {
	t.Parallel()
	if err := makePackage(); err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	stage := filepath.Join(again, "stage")
	if err := os.CopyFS(stage, os.DirFS(filepath.Join(made, "stage"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.yaml", "publish-linux-amd64", "man/publish.1.gz"} {
		if err := os.Chmod(filepath.Join(stage, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", `umask 077 && exec make -C "$1" pack PACKAGES="$2"`, "sh", root, again)
	cmd.Env = append(os.Environ(), "TZ=Asia/Tokyo", "LC_ALL=C", "GOMAXPROCS=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make pack: %v\n%s", err, out)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		a, b := deb(t, arch), packageIn(t, again, arch)
		if filepath.Base(a) != filepath.Base(b) || read(t, a) != read(t, b) {
			t.Errorf("%s and %s are not the same", a, b)
		}
		if a, b := rpmOf(t, arch), rpmIn(t, again, arch); filepath.Base(a) != filepath.Base(b) || read(t, a) != read(t, b) {
			t.Errorf("%s and %s are not the same", a, b)
		}
	}
}

// inImage is the program in an image, its only file.
func inImage(t *testing.T, img v1.Image) string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("layers: %v, %v", layers, err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	files := tar.NewReader(r)
	if _, err := files.Next(); err != nil {
		t.Fatal(err)
	}
	bin, err := io.ReadAll(files)
	if err != nil {
		t.Fatal(err)
	}
	return string(bin)
}
