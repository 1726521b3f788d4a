package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// The demo shows what it says it shows.
func TestDemo(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-once", "-sample", "../../testdata/v3-signed"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	rest := out.String()
	for _, want := range []string{
		`\$ publish --dry-run`,
		`v3/manifests/index/index\.manifest\.json`,
		`\$ publish \S+ s3://demo/site`,
		`\$ publish \S+ s3://demo/site`,
		`nothing to do|unchanged|up to date`,
		`two more packages`,
		`invalidation 1: .*/site/v3/manifests/index/index\.manifest\.json`,
		`invalidation 2: .*/site/v3/manifests/index/index\.manifest\.json`,
		`\$ publish verify http://127\.0\.0\.1:\d+/site`,
		`spack mirror add demo http://127\.0\.0\.1:\d+/site\n`,
	} {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("no %q, in this order, in\n%s", want, &out)
		}
		rest = rest[at[1]:]
	}
	if regexp.MustCompile(`invalidation 3`).MatchString(rest) {
		t.Errorf("the second run invalidated:\n%s", &out)
	}
}

// The lines that the demo prints to continue by hand work in another terminal, as long as it serves, and an
// interrupted demo ends without an error.
func TestTheDemoIsContinuedByHand(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-sample", "../../testdata/v3-signed"}, w)
		w.Close()
	}()
	var said strings.Builder // until it serves
	buf := make([]byte, 4096)
	for !strings.Contains(said.String(), "Serving until Ctrl-C") {
		n, err := r.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v, %v\n%s", err, <-ended, &said)
		}
	}
	go io.Copy(io.Discard, r)
	_, lines, _ := strings.Cut(said.String(), "by hand, in another terminal:\n")
	lines, _, _ = strings.Cut(lines, "\n\n")
	cmd := exec.Command("bash", "-euc", lines)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "unchanged") && !strings.Contains(string(out), "nothing to do") || !strings.Contains(string(out), "no damage") {
		t.Errorf("%v\n%s\n%s", err, lines, out)
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// `make demo` says what it waits for while it builds, and serves.
func TestTheDemoShowsHowFarItsBuildIs(t *testing.T) {
	dir := t.TempDir()
	fake := filepath.Join(dir, "go")
	// In place of the compiler: it names two packages, and copies programs that are there.
	script := `#!/bin/bash
case $1 in
env) echo go1.26.0 ;;
build)
  while [ "$1" != -o ]; do shift; done
  echo github.com/aws/smithy-go >&2; echo "go: downloading example.org/x v1.0.0" >&2; echo modernc.org/sqlite/lib >&2
  printf '#!/bin/bash\necho "demo $PUBLISH_BINARY $*"\n' >"$2demo"; chmod +x "$2demo" ;;
esac
`
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "tree", "test", "cmd", "demo") // so that nothing of the real one is replaced
	if err := os.MkdirAll(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("run")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "run"), text, 0o755); err != nil {
		t.Fatal(err)
	}
	start := func(version string) (string, error) {
		if err := os.WriteFile(fake, []byte(strings.Replace(script, "go1.26.0", version, 1)), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(tree, "run"), "-once")
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := start("go1.26.0")
	want := regexp.MustCompile(`^# Building the program and the demo\. .*\n  \d+ s, 2 packages compiled\ndemo \S+/bin/demo/publish -once\n$`)
	if err != nil || !want.MatchString(out) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := start("go1.19.8"); err == nil || !strings.Contains(out, "this is go1.19.8; want Go 1.21 or later") {
		t.Errorf("%v\n%s", err, out)
	}
}
