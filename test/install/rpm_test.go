package install

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rpmOf is the RPM package for an architecture.
func rpmOf(t *testing.T, arch string) string {
	t.Helper()
	if err := makePackage(); err != nil {
		t.Fatal(err)
	}
	return rpmIn(t, made, arch)
}

func rpmIn(t *testing.T, dir, arch string) string {
	t.Helper()
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
	found, err := filepath.Glob(filepath.Join(dir, "slurm-factory-publish-*."+machine+".rpm"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages for %s: %v, %v", arch, found, err)
	}
	return found[0]
}

// The RPM package holds what the Debian package holds, at the places of Red Hat, in a form that RPM of Rocky Linux 8
// can read.
func TestRPM(t *testing.T) {
	t.Parallel()
	want := regexp.MustCompile(`(?m)^.*/(changelog\.gz|copyright|lintian/.*)$\n`).ReplaceAllString(strings.TrimSpace(content), "")
	want = strings.ReplaceAll(want, "/usr/share/zsh/vendor-completions/", "/usr/share/zsh/site-functions/")
	files := append(strings.Split(want, "\n"),
		"drwxr-xr-x root/root /etc/slurm-factory-publish",
		"-rw-r--r-- root/root /usr/share/licenses/slurm-factory-publish/LICENSE")
	slices.Sort(files)
	commands := regexp.MustCompile(`/publish-[a-z-]+\.1\.gz$`)
	for _, arch := range []string{"amd64", "arm64"} {
		name := rpmOf(t, arch)
		var got []string
		for l := range strings.Lines(run(t, "rpm", "-qp", "--qf", `[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]`, name)) {
			got = append(got, commands.ReplaceAllString(strings.TrimSpace(l), "/publish-*.1.gz"))
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, files) {
			t.Errorf("%s: in the package are\n%s\nwant\n%s", arch, strings.Join(got, "\n"), strings.Join(files, "\n"))
		}
		if is := run(t, "rpm", "-qp", "--qf", "%{NAME} %{VERSION} %{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}", name); is != "slurm-factory-publish "+version(t)+" gzip 8" {
			t.Errorf("%s: %s", arch, is)
		}
		if requires := run(t, "rpm", "-qpR", name); !strings.Contains("\n"+requires, "\nsystemd\n") || strings.Contains(requires, "Zstd") {
			t.Errorf("%s requires\n%s", arch, requires)
		}
	}
}

// RPM installs it, and the program is that of the Debian package.
func TestRPMInstalls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, "rpm", "--root", dir, "--nodeps", "--noscripts", "--ignorearch", "-i", rpmOf(t, "amd64"))
	if read(t, dir+"/usr/bin/publish") != read(t, unpacked(t, "amd64")+"/usr/bin/publish") {
		t.Error("another program")
	}
	if out := run(t, "rpm", "--root", dir, "-V", "--nodeps", "slurm-factory-publish"); strings.TrimSpace(out) != "" {
		t.Errorf("what is installed is not what the package says:\n%s", out)
	}
}

// The scripts of the package are POSIX, and call what they say they call.
func TestRPMScripts(t *testing.T) {
	t.Parallel()
	scripts := run(t, "rpm", "-qp", "--scripts", rpmOf(t, "amd64"))
	for _, want := range []string{"postinstall scriptlet (using /bin/sh):", "systemd-sysusers slurm-factory-publish.conf", "preuninstall scriptlet (using /bin/sh):", "disable --now slurm-factory-publish.socket", "postuninstall scriptlet (using /bin/sh):"} {
		if !strings.Contains(scripts, want) {
			t.Errorf("no %q in\n%s", want, scripts)
		}
	}
	for _, name := range []string{"post", "preun", "postun"} {
		if out, err := exec.Command("sh", "-n", filepath.Join(root, "cmd/package/rpm", name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
