package daemon

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// What is not complete is said at once, with the reason. When was published last, and how large the index is, is known
// after a restart, and jobs are numbered on.
func TestTheStatusOverARestart(t *testing.T) {
	t.Parallel()
	h, _, _ := bucketHost(t)
	h.mirror = "    stuck_after: 1h\n"
	h.start()
	u := spackmirror.New(spackmirror.V3, 4)
	drop(t, mirrorOf(t, u, u.Range(0, 3)), h.source)
	h.must("drain", "--wait")
	line := regexp.MustCompile(`(?m)^\S.*  3  +0  +\d+s ago  +3$`) // published, failed, last publish, index
	if text := h.must("status"); !line.MatchString(text) {
		t.Errorf("before the restart:\n%s", text)
	}
	h.stop()
	h.start()
	if text := h.must("status"); !line.MatchString(text) {
		t.Errorf("after the restart:\n%s", text)
	}

	// A package whose content is not there yet.
	whole := mirrorOf(t, u, u.Range(3, 4))
	var document string
	filepath.WalkDir(whole, func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".spec.manifest.json") {
			document, _ = filepath.Rel(whole, path)
		}
		return err
	})
	if err := os.MkdirAll(filepath.Dir(filepath.Join(h.source, document)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(whole, document), filepath.Join(h.source, document)); err != nil {
		t.Fatal(err)
	}
	h.must("push", filepath.Join(h.source, document))
	h.until("the reason is shown", func() bool {
		return regexp.MustCompile(`(?m)^not complete yet: \S+.* for \d+s: \S+`).MatchString(h.must("status"))
	})
	if s := h.status(); len(s.Stuck) != 0 || len(s.Incomplete) != 1 {
		t.Errorf("incomplete %+v, stuck %+v", s.Incomplete, s.Stuck)
	}

	// A number that no job has.
	if r := h.run("retry", "99"); r.Code != 2 || !strings.HasPrefix(r.Stderr, "publish: job 99: no such job: nothing is tried again; `publish status` shows the numbers\n") {
		t.Errorf("%v", r)
	}
	if text := h.must("push", "--json", h.source); !strings.Contains(text, `"id": 4`) && !strings.Contains(text, `"id":4`) {
		t.Errorf("the fourth job has another number:\n%s", text)
	}
}

// A push of a package that has failed before says so, and that a push does not try it again.
func TestAPushOfAFailedPackageSaysSo(t *testing.T) {
	t.Parallel()
	h, _, _ := bucketHost(t)
	h.mirror = "    require_signed: true\n"
	h.start()
	u := spackmirror.New(spackmirror.V3, 1)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.run("drain", "--wait")
	h.until("it has failed", func() bool { return h.jobs("failed") == 1 })
	r := h.run("push", h.source)
	want := "publish: 1 package was not published\nhint: repair the named packages and run `publish retry`: a push does not retry failed jobs\n"
	if r.Code != 4 || r.Stderr != want || !regexp.MustCompile(`(?m)^\S.*: failed: .*signed`).MatchString(r.Stdout) {
		t.Errorf("%v", r)
	}
}
