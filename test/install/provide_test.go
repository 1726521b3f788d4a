package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A bare is a machine that has git, make, Go and the tools that every Debian has. Its apt-get, sudo, docker and pip
// only write down how they were called.
type bare struct {
	bin, tree string
	env       []string
}

func newBare(t *testing.T) *bare {
	t.Helper()
	dir := t.TempDir()
	b := &bare{bin: filepath.Join(dir, "bin"), tree: filepath.Join(dir, "tree")}
	for _, d := range []string{b.bin, filepath.Join(b.tree, ".ci"), filepath.Join(b.tree, "infra/scripts")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"bash", "env", "dirname", "mkdir", "rm", "cat", "tar", "cp", "chmod"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(b.bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	b.env = []string{"PATH=" + b.bin, "HOME=" + dir, "LOG=" + filepath.Join(dir, "log")}
	b.tool(t, "id", "echo 0")
	// What is installed is there then; a package of prometheus holds promtool.
	b.tool(t, "apt-get", `case $1 in download) mkdir -p usr/bin; echo >usr/bin/promtool; chmod +x usr/bin/promtool; tar -cf prometheus_1.deb ./usr; rm -r usr ;; esac`)
	b.tool(t, "dpkg-deb", `cat "$2"`)
	b.tool(t, "python3", "exit 1")
	b.write(t, ".ci/provide", read(t, filepath.Join(root, ".ci/provide")))
	b.write(t, ".ci/engine", "#!/bin/bash\nexec \"$@\"\n")
	b.write(t, "infra/scripts/venv.sh", "#!/bin/bash\necho \"venv $*\" >>\"$LOG\"\necho /venv/of/$1\n")
	return b
}

func (b *bare) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.tree, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// tool makes a command that writes down how it was called, and then does something.
func (b *bare) tool(t *testing.T, name, does string) {
	t.Helper()
	text := "#!/bin/bash\necho \"" + name + " $*\" >>\"$LOG\"\n" + does + "\n"
	if err := os.WriteFile(filepath.Join(b.bin, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// provide runs .ci/provide, and returns what it said and which tools it called.
func (b *bare) provide(t *testing.T) (said, called string, err error) {
	t.Helper()
	log := filepath.Join(filepath.Dir(b.bin), "log")
	os.Remove(log)
	cmd := exec.Command(filepath.Join(b.tree, ".ci/provide"), "bash", "-c", `echo "with $PATH"; command -v promtool`)
	cmd.Env = b.env
	out, err := cmd.CombinedOutput()
	text, _ := os.ReadFile(log)
	return string(out), string(text), err
}

// `make test` installs what a bare machine lacks, names it, and asks for root at most once.
func TestABareMachineGetsWhatTheTestsNeed(t *testing.T) {
	b := newBare(t)
	said, called, err := b.provide(t)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{
		"installing packages that the tests need: gnupg gcc libc6-dev systemd chromium strace acl e2fsprogs rpm curl ca-certificates zsh bash-completion fish docker.io iptables iproute2 python3-venv\n",
		"fetching promtool into bin/prometheus\n",
		"fetching Node ",
		"with /venv/of/node-",
		"/bin/prometheus/usr/bin/promtool\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	for _, want := range []string{"apt-get update -qq\n", "apt-get install -y --no-install-recommends gnupg gcc ", "venv node-"} {
		if !strings.Contains(called, want) {
			t.Errorf("no %q in\n%s", want, called)
		}
	}
}

func TestRootIsAskedForByNameOfWhatItInstalls(t *testing.T) {
	b := newBare(t)
	b.tool(t, "id", "echo 1000")
	said, called, err := b.provide(t)
	if err == nil || !strings.Contains(said, "As root, run:\n  apt-get update && apt-get install -y --no-install-recommends gnupg ") || strings.Contains(called, "apt-get") {
		t.Errorf("without sudo: %v\n%s\n%s", err, said, called)
	}
	b.tool(t, "sudo", `"$@"`)
	said, called, err = b.provide(t)
	if err != nil || !strings.Contains(said, "installing packages that the tests need, with sudo: gnupg ") || !strings.Contains(called, "sudo apt-get update") {
		t.Errorf("with sudo: %v\n%s\n%s", err, said, called)
	}
	b.env = append(b.env, "PATH="+b.bin)
	os.Remove(filepath.Join(b.bin, "apt-get"))
	if said, _, err := b.provide(t); err == nil || !strings.Contains(said, "this system has no apt-get: gnupg ") {
		t.Errorf("without apt-get: %v\n%s", err, said)
	}
}

// Where everything is there already, nothing is installed, fetched or said.
func TestAMachineThatHasEverythingIsLeftAlone(t *testing.T) {
	b := newBare(t)
	for _, tool := range []string{"gpg", "gcc", "systemd-analyze", "chromium", "strace", "setfacl", "mkfs.ext4", "rpm", "curl", "zsh", "fish", "docker", "python3", "promtool", "npm"} {
		b.tool(t, tool, "")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	b.tool(t, "node", `exec `+node+` "$@"`) // which says itself how old it is
	said, called, err := b.provide(t)
	if err != nil || strings.Contains(said, "provide:") || strings.Contains(called, "apt-get") || strings.Contains(called, "venv node") {
		t.Errorf("%v\n%s\n%s", err, said, called)
	}
}
