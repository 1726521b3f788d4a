package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// What a command builds is published while it runs, the rest when it has ended.
func TestExec(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	u := spackmirror.New(spackmirror.V3, 20)
	first, rest := mirrorOf(t, u, u.Range(0, 5)), mirrorOf(t, u, u.All())
	source := filepath.Join(h.dir, "not", "there", "yet")
	script := fmt.Sprintf(`
cp -r %s/. %s
for i in $(seq 300); do
  test -e %s && break
  sleep 0.1
done
test -e %s && echo published while it runs
test -S "$PUBLISH_SOCKET" && %s push %s >/dev/null && echo the socket answers
cp -r %s/. %s
`, first, source, filepath.Join(bucket, "v3/manifests/index/index.manifest.json"), filepath.Join(bucket, "v3/manifests/index/index.manifest.json"), h.bin, source, rest, source)
	r := h.run("exec", source, h.destination, "--", "sh", "-ec", script)
	if r.Code != 0 || r.Stdout != "published while it runs\nthe socket answers\n" || !strings.Contains(r.Stderr, "published 20, failed 0, not complete 0") {
		t.Errorf("%v", r)
	}
	wantWhole(t, bucket, 20)
	if left := stateDirs(t, h); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// stateDirs are the directories of publish exec.
func stateDirs(t *testing.T, h *host) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(h.dir, "tmp", "publish-exec-*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// The exit code is that of the command, or else that of publishing.
func TestExitCodesOfExec(t *testing.T) {
	t.Parallel()
	h, p, bucket := bucketHost(t)
	h.configure()
	u := spackmirror.New(spackmirror.V3, 4)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	for _, row := range []struct {
		fault   faultproxy.Fault // of each request after the proof that comes before the command
		command []string
		code    int
		want    string
	}{
		{faultproxy.Fault{}, []string{"sh", "-c", "exit 3"}, 3, "published 4"},
		{faultproxy.Fault{}, []string{"sh", "-c", "kill -9 $$"}, 137, ""},
		{faultproxy.Fault{}, []string{"no-such-command"}, 127, "no-such-command"},
		{faultproxy.Fault{}, []string{h.dir + "/config.yaml"}, 126, "permission denied"},
		{faultproxy.Fault{}, []string{"true"}, 0, "failed 0"},
		{faultproxy.Denied, []string{"true"}, 5, "access denied"},
		{faultproxy.Denied, []string{"sh", "-c", "exit 3"}, 3, "access denied"},
	} {
		var proved atomic.Bool
		p.Inject(func(q faultproxy.Request) faultproxy.Fault {
			if proved.Load() {
				return row.fault
			}
			proved.Store(q.Operation == "PutObject")
			return faultproxy.Fault{}
		})
		r := h.run(append([]string{"exec", h.source, h.destination, "--"}, row.command...)...)
		if r.Code != row.code || !strings.Contains(r.Stderr, row.want) {
			t.Errorf("%v: want %d and %q: %v", row.command, row.code, row.want, r)
		}
	}
	// What is refused from the beginning is found out before the command.
	p.Inject(func(faultproxy.Request) faultproxy.Fault { return faultproxy.Denied })
	if r := h.run("exec", h.source, h.destination, "--", "sh", "-c", "echo built; exit 3"); r.Code != 5 || r.Stdout != "" || !strings.Contains(r.Stderr, "COMMAND was not started") {
		t.Errorf("without permissions: %v", r)
	}
	p.Inject(nil)
	wantWhole(t, bucket, 4)
	os.WriteFile(filepath.Join(h.source, "v3/manifests/spec", "half"), nil, 0o666)
	os.Mkdir(filepath.Join(h.source, "v3/manifests/spec/x"), 0o777)
	os.WriteFile(filepath.Join(h.source, "v3/manifests/spec/x/x-1-"+u.Hash(0)+".spec.manifest.json"), []byte("{"), 0o666)
	if r := h.run("exec", h.source, h.destination, "--", "true"); r.Code != 4 || !strings.Contains(r.Stderr, "not complete 1") {
		t.Errorf("with half a package: %v", r)
	}
	for _, args := range [][]string{{"exec", h.source, h.destination}, {"exec", h.source, h.destination, "--"}, {"exec", h.source, "--", "true"}, {"exec", "--", "true"}} {
		if r := h.run(args...); r.Code != 2 {
			t.Errorf("%v", r)
		}
	}
}

// A publish.yaml that is good for publish is good for publish exec, whatever is in it.
func TestExecReadsTheSameConfiguration(t *testing.T) {
	t.Parallel()
	h, p, bucket := bucketHost(t)
	u := spackmirror.New(spackmirror.V3, 6)
	whole := mirrorOf(t, u, u.Range(0, 4))
	if err := os.WriteFile(filepath.Join(whole, "notes.txt"), []byte("plain\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	exec := func(lines string, args ...string) program.Result {
		t.Helper()
		dir := t.TempDir()
		text := fmt.Sprintf("source: %s\ndestination: %s\n%s", h.source, h.destination, lines)
		if err := os.WriteFile(filepath.Join(dir, "publish.yaml"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		quoted := "'" + strings.Join(append([]string{h.bin, "exec"}, args...), "' '") + "'"
		r, err := program.Run(h.env, "/bin/sh", "-c", "cd "+dir+" && exec "+quoted)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	build := []string{"--", "sh", "-c", "cp -r " + whole + "/. " + h.source + " && echo built"}
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(bucket, name))
		return err == nil
	}
	r := exec("dry-run: true\nkeep-going: true\njson: true\nverify-source: true\n", build...)
	if r.Code != 0 || r.Stdout != "built\n" || !strings.Contains(r.Stderr, "dry run") {
		t.Errorf("a dry run: %v", r)
	}
	for _, q := range p.Log() {
		if q.Mutating() {
			t.Errorf("a dry run makes a request: %s %s", q.Operation, q.Key)
		}
	}
	if r := exec("dry-run: true\n", "--", "sh", "-c", "exit 3"); r.Code != 3 {
		t.Errorf("a command that fails in a dry run: %v", r)
	}
	if r := exec("index: none\n", build...); r.Code != 0 || !has(document(u, 3)) || has("v3/manifests/index") {
		t.Errorf("without an index: %v", r)
	}
	if r := exec("files: [notes.txt]\nindex: merge\ntimeout: 5m\nlimit-rate: 500MB/s\n", build...); r.Code != 0 || r.Stdout != "built\n" || !has("notes.txt") {
		t.Errorf("with a plain file: %v", r)
	}
	wantWhole(t, bucket, 4)
	// What is in the bucket and in no index of ours is offered once it was rebuilt.
	drop(t, mirrorOf(t, u, u.All()), bucket)
	if r := exec("index: rebuild\nkeep-going: false\n", build...); r.Code != 0 {
		t.Errorf("with an index that is rebuilt: %v", r)
	}
	wantWhole(t, bucket, 6)
	for lines, want := range map[string]string{"index: all\n": "want merge, rebuild or none", "keep-gong: true\n": "unknown key"} {
		if r := exec(lines, build...); r.Code != 2 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%s: %v", lines, r)
		}
	}
}

// A signal goes to the command, and nothing is waited for that takes long.
func TestExecIsInterrupted(t *testing.T) {
	t.Parallel()
	h, _, _ := bucketHost(t)
	cmd, out := h.around("sh", "-c", `trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 0.1; done`)
	cmd.Process.Signal(syscall.SIGTERM)
	began := time.Now()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 143 || !strings.Contains(out.String(), "told") || time.Since(began) > 20*time.Second {
		t.Errorf("exit code %d after %v, it said %s", code, time.Since(began), out)
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	h, p, bucket := bucketHost(t)
	h.configure()
	doctor := func(more ...string) (code int, said string) {
		r := h.run(append([]string{"doctor", "--config", h.dir + "/config.yaml"}, more...)...)
		return r.Code, r.Stdout + r.Stderr
	}
	code, said := doctor("--no-write")
	if code != 0 || strings.Contains(said, "FAIL") || !strings.Contains(said, "it is not running") {
		t.Errorf("exit %d:\n%s", code, said)
	}
	if names := filesIn(bucket); len(names) > 0 {
		t.Errorf("--no-write wrote %v", names)
	}
	for range 2 { // the second time the object is there
		if code, said := doctor(); code != 0 || !strings.Contains(said, "conditional writes") {
			t.Errorf("exit %d:\n%s", code, said)
		}
	}
	h.start()
	if code, said := doctor(); code != 0 || !strings.Contains(said, "ok    daemon") {
		t.Errorf("with a daemon: exit %d:\n%s", code, said)
	}
	h.stop()
	if m := reader.V3(reader.Dir(bucket)); !m.Works() {
		t.Errorf("the mirror does not work: %v", m.Broken)
	}
	for _, row := range []struct {
		fault faultproxy.Fault
		when  func(faultproxy.Request) bool
		want  []string
	}{
		{faultproxy.Denied, func(r faultproxy.Request) bool { return r.Mutating() }, []string{"conditional writes", "fix: allow s3:PutObject"}},
		{faultproxy.Denied, func(r faultproxy.Request) bool { return r.Operation == "ListObjectsV2" }, []string{"the permission to list", "fix: allow s3:ListBucket"}},
		{faultproxy.Expired, func(faultproxy.Request) bool { return true }, []string{"credentials", "fix: set AWS_PROFILE"}},
		{faultproxy.NoBucket, func(faultproxy.Request) bool { return true }, []string{"no such bucket", "fix: correct DESTINATION, or create the bucket first"}},
	} {
		p.Inject(func(r faultproxy.Request) faultproxy.Fault {
			if row.when(r) {
				return row.fault
			}
			return faultproxy.Fault{}
		})
		code, said := doctor()
		for _, want := range append(row.want, "FAIL", "checks failed") {
			if code != 5 || !strings.Contains(said, want) {
				t.Errorf("%s: exit %d, want %q:\n%s", row.fault.Name, code, want, said)
			}
		}
	}
	p.Inject(nil)
	h.mirror = "    watch: false\n"
	h.source = filepath.Join(h.dir, "nowhere")
	h.configure()
	if code, said := doctor(); code != 5 || !strings.Contains(said, "fix: create it") {
		t.Errorf("without a source: exit %d:\n%s", code, said)
	}
}

func filesIn(dir string) []string {
	var names []string
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, path)
		}
		return nil
	})
	return names
}
