package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/docker"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// The container that docs/daemon.md shows publishes, with the image that `make package` makes.
func TestContainer(t *testing.T) {
	t.Parallel()
	docker.Need(t)
	if err := makePackage(); err != nil {
		t.Fatal(err)
	}
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(read(t, root+"/docs/daemon.md"), "\n### As a container\n")
	shown := regexp.MustCompile("(?s)```sh\n(docker run.*?)```").FindStringSubmatch(text)
	if !ok || shown == nil {
		t.Fatal("no container is shown")
	}
	dir, err := os.MkdirTemp("", "container") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	name, tag := filepath.Base(dir), "localhost/"+filepath.Base(dir)+":1"
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("docker", "logs", name).CombinedOutput()
			t.Logf("%s", out)
		}
		exec.Command("docker", "rm", "--force", name).Run()
		exec.Command("docker", "rmi", tag).Run()
		os.RemoveAll(dir)
	})
	user, group := 995, 995
	if os.Geteuid() != 0 { // who cannot give directories away uses the daemon as its user
		user, group = os.Getuid(), os.Getgid()
	}
	docker.Load(t, filepath.Join(made, "image"), tag)
	for _, d := range []string{"etc/slurm-factory-publish", "srv/buildcache", "var/lib/slurm-factory-publish", "run/slurm-factory-publish"} {
		err := os.MkdirAll(filepath.Join(dir, d), 0o755)
		if err == nil {
			err = os.Chown(filepath.Join(dir, d), user, group)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir+"/srv/buildcache", os.DirFS("../testdata/v3-signed")); err != nil {
		t.Fatal(err)
	}
	config := "state_dir: /var/lib/slurm-factory-publish\nsocket: /run/slurm-factory-publish/publish.sock\nmirrors:\n  - source: /srv/buildcache\n    destination: file:///var/lib/slurm-factory-publish/mirror\n"
	if err := os.WriteFile(dir+"/etc/slurm-factory-publish/config.yaml", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	command := strings.NewReplacer("--user 995:995", fmt.Sprintf("--user %d:%d", user, group), "--name publisher", "--network none --name "+name, "--volume /", "--volume "+dir+"/").Replace(shown[1])
	command = regexp.MustCompile(`ghcr\.io/\S+`).ReplaceAllString(command, tag)
	run(t, "bash", "-euo", "pipefail", "-c", command)
	waitFor(t, "the daemon drains", func() bool {
		return exec.Command(bin, "drain", "--wait", "--socket", dir+"/run/slurm-factory-publish/publish.sock").Run() == nil
	})
	if out := run(t, bin, "verify", "file://"+dir+"/var/lib/slurm-factory-publish/mirror"); !strings.Contains(out, "11 packages") {
		t.Error(out)
	}
	docker.Run(t, "stop", name)
	if code := docker.Run(t, "inspect", "--format", "{{.State.ExitCode}}", name); code != "0" {
		t.Errorf("exit code %s", code)
	}
}
