//go:build spack

package spack

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

var withSpack = regexp.MustCompile("(?s)<!-- (this runs with Spack|mirrors\\.yaml|spack\\.yaml) -->\n```(?:sh|yaml)\n(.*?)```")

// What docs/clients.md shows works with the mirror of the demo: its commands one after the other, and its files.
func TestClientsUseTheDemosMirror(t *testing.T) {
	s := newSpack(t)
	if !s.v3() {
		t.Log("the demo's mirror has layout v3, which this Spack does not read")
		return
	}
	url := demo(t)
	page, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	work, path := t.TempDir(), t.TempDir()
	if err := os.Symlink(bin, filepath.Join(path, "publish")); err != nil {
		t.Fatal(err)
	}
	// spack, as the page calls it, with the configuration of the test.
	command := s.command()
	wrapper := "#!/bin/sh\nexec '" + strings.Join(command.Args, "' '") + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(path, "spack"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	fixture, err := filepath.Abs(testdata + "v3-signed")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(fixture, filepath.Join(work, "mirror")); err != nil {
		t.Fatal(err)
	}
	replaced := strings.NewReplacer("https://cache.example.org/noble/spack", url, "/srv/mirror", filepath.Join(work, "served"))
	ran := 0
	for _, m := range withSpack.FindAllStringSubmatch(string(page), -1) {
		text := replaced.Replace(m[2])
		switch m[1] {
		case "mirrors.yaml":
			s.write(t, "other/mirrors.yaml", text)
			text = "spack -C '" + s.home + "/other' mirror list"
		case "spack.yaml":
			s.write(t, "env/spack.yaml", text)
			text = "spack -e '" + s.home + "/env' mirror list"
		}
		cmd := exec.Command("bash", "-euxo", "pipefail", "-c", text)
		cmd.Dir = work
		cmd.Env = append(command.Env, "PATH="+path+":"+os.Getenv("PATH"))
		if python := os.Getenv("SPACK_PYTHON"); python != "" {
			cmd.Env = append(cmd.Env, "PATH="+path+":"+filepath.Dir(python)+":"+os.Getenv("PATH"))
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if strings.Contains(text, "buildcache list") && !strings.Contains(string(out), "slurm@") || strings.Contains(text, "mirror list") && !strings.Contains(string(out), url) {
			t.Errorf("%s\n%s", text, out)
		}
		ran++
	}
	if ran < 6 {
		t.Errorf("%d examples", ran)
	}
	if out := s.run(t, "find"); !strings.Contains(out, "zlib@") {
		t.Errorf("zlib is not installed: %s", out)
	}
}

// demo starts the demo and returns the URL of its mirror.
func demo(t *testing.T) string {
	t.Helper()
	bin, err := program.Demo()
	if err != nil {
		t.Fatal(err)
	}
	publish, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "PUBLISH_BINARY="+publish)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the demo: %v", err)
		}
	})
	url := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if u, ok := strings.CutPrefix(lines.Text(), "spack mirror add demo "); ok {
			url = u
		}
		if strings.HasPrefix(lines.Text(), "# Serving until") {
			go func() {
				for lines.Scan() {
				}
			}()
			return url
		}
	}
	t.Fatal("the demo does not serve")
	return ""
}
