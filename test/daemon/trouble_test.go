package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// rootOnly: who is not root can neither mount nor be somebody else. The gate runs as root.
func rootOnly(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount, or be somebody else")
	}
}

// mount mounts a file system for as long as the test runs.
func mount(t *testing.T, dir string, args ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	system(t, "mount", append(args, dir)...)
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// system runs a program of the system.
func system(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// document is where the document of a package is below a mirror.
func document(u *spackmirror.Universe, i int) string {
	name, version := u.Name(i)
	return fmt.Sprintf("v3/manifests/spec/%s/%s-%s-%s.spec.manifest.json", name, name, version, u.Hash(i))
}

// fill fills a file system but for some bytes, and returns the file that does.
func fill(t *testing.T, dir string, left int64) string {
	t.Helper()
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	info, err := os.Stat(filler)
	if err == nil {
		err = os.Truncate(filler, info.Size()-left)
	}
	if err != nil {
		t.Fatal(err)
	}
	return filler
}

// pushUntilRefused pushes packages of a source, one after the other, until one is refused. It
// returns that refusal and how many were acknowledged.
func pushUntilRefused(t *testing.T, h *host, u *spackmirror.Universe) (refused program.Result, acknowledged int) {
	t.Helper()
	for i := range u.Len() {
		r := h.run("push", filepath.Join(h.source, document(u, i)))
		if r.Code != 0 {
			return r, i
		}
	}
	t.Fatalf("%d packages were acknowledged", u.Len())
	return program.Result{}, 0
}

// While the disk of the queue is full nothing is acknowledged, and it is said why; when there is room
// everything goes on, and nothing that was acknowledged is lost.
func TestTheDiskOfTheQueueIsFull(t *testing.T) {
	rootOnly(t)
	t.Parallel()
	h, _, bucket := bucketHost(t)
	mount(t, h.state, "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs")
	h.mirror = "    watch: false\n    scan_interval: 1h\n"
	h.start()
	u := spackmirror.New(spackmirror.V3, 60)
	whole := mirrorOf(t, u, u.All())
	drop(t, mirrorOf(t, u, u.Range(0, 5)), h.source)
	h.must("push", "--wait", h.source)
	filler := fill(t, h.state, 64<<10)
	drop(t, whole, h.source)
	r, acknowledged := pushUntilRefused(t, h, u)
	if r.Code != 5 || !strings.Contains(r.Stderr, "no space left for the queue") || !strings.Contains(r.Stderr, "hint: make room in state_dir") {
		t.Errorf("a push while the disk is full: %v", r)
	}
	if r := h.run("push", filepath.Join(h.source, document(u, 0))); r.Code != 0 && !strings.Contains(r.Stderr, "no space left") {
		t.Errorf("pushing what is known: %v", r)
	}
	h.until("the log says so", func() bool { return strings.Contains(h.log.String(), "the queue cannot be used") })
	if said := h.must("status"); !strings.Contains(said, "the queue cannot be used: ") || !strings.Contains(said, "no space left for the queue") {
		t.Errorf("the status says:\n%s", said)
	}
	t.Logf("%d were acknowledged before one was refused", acknowledged)
	if acknowledged <= 5 {
		t.Error("nothing was acknowledged that is new: this tested less than it says")
	}

	h.kill() // and what was acknowledged outlives even that
	refusedToStart(t, h, h.state+"/fresh", "no space left for the queue", "hint: make room in state_dir")
	if err := os.Truncate(filler, 0); err != nil {
		t.Fatal(err)
	}
	for i := range acknowledged {
		os.Remove(filepath.Join(h.source, document(u, i))) // so that no scan finds what the queue should know
	}
	h.start()
	known := h.jobs("published") + h.jobs("cancelled") + h.status().Mirrors[0].Waiting
	if known < acknowledged {
		t.Errorf("of %d that were acknowledged %d are known", acknowledged, known)
	}
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.must("drain", "--wait")
	h.until("everything is published", func() bool { return h.jobs("published") == u.Len() })
	wantWhole(t, bucket, u.Len())
}

// refusedToStart makes sure that a daemon does not start with a state directory, and says why.
func refusedToStart(t *testing.T, h *host, state string, want ...string) {
	t.Helper()
	was := h.state
	h.state = state
	h.configure()
	h.state = was
	p, err := program.Begin(h.env, h.bin, "daemon", "--config", h.dir+"/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patience, p.Kill).Stop()
	r, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range append(want, state) {
		if r.Code != 2 || !strings.Contains(r.Stderr, want) {
			t.Errorf("want exit code 2 and %q: %v", want, r)
		}
	}
}

// And without a restart.
func TestThereIsRoomAgain(t *testing.T) {
	rootOnly(t)
	t.Parallel()
	h, _, bucket := bucketHost(t)
	mount(t, h.state, "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs")
	h.start()
	u := spackmirror.New(spackmirror.V3, 40)
	filler := fill(t, h.state, 0)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	pushUntilRefused(t, h, u)
	if err := os.Truncate(filler, 0); err != nil {
		t.Fatal(err)
	}
	h.must("push", "--wait", h.source)
	h.must("drain", "--wait")
	wantWhole(t, bucket, u.Len())
	if said := h.must("status"); strings.Contains(said, "the queue cannot be used") {
		t.Errorf("the status still says:\n%s", said)
	}
	if n := h.jobs("published"); n != u.Len() {
		t.Errorf("%d jobs are published", n)
	}
}

// A state directory that cannot be written to is named when the daemon starts, with what to do.
func TestAReadOnlyStateDirectory(t *testing.T) {
	rootOnly(t)
	t.Parallel()
	h := newHost(t, "file://"+t.TempDir(), []string{"PATH=" + os.Getenv("PATH")})
	refused := func() {
		t.Helper()
		refusedToStart(t, h, h.state, "the directory cannot be written to", "hint: let the user that runs the daemon write to state_dir")
	}
	mount(t, h.state, "-t", "tmpfs", "-o", "ro", "tmpfs")
	refused()
	system(t, "mount", "-o", "remount,rw", h.state)
	h.start()
	h.stop()
	system(t, "mount", "-o", "remount,ro", h.state)
	refused() // with a queue in it, too
}

// A disk that fails while the daemon runs, which the kernel then lets be read only: nothing is
// acknowledged any more, and nothing that was is lost.
func TestTheDiskOfTheQueueFails(t *testing.T) {
	rootOnly(t)
	t.Parallel()
	h, p, bucket := bucketHost(t)
	disk := filepath.Join(h.dir, "disk")
	if err := os.WriteFile(disk, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	system(t, "mkfs.ext4", "-q", disk)
	mount(t, h.state, "-o", "loop", disk)
	p.Inject(func(faultproxy.Request) faultproxy.Fault { return faultproxy.Denied }) // so that much is still to be done
	h.start()
	u := spackmirror.New(spackmirror.V3, 20)
	drop(t, mirrorOf(t, u, u.Range(0, 10)), h.source)
	h.must("push", h.source)
	system(t, "mount", "-o", "remount,abort", h.state)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	r := h.run("push", filepath.Join(h.source, document(u, 15)))
	if r.Code != 5 || !strings.Contains(r.Stderr, "the disk of the queue fails") || !strings.Contains(r.Stderr, "hint: ") {
		t.Errorf("a push: %v", r)
	}
	h.until("the log says so", func() bool { return strings.Contains(h.log.String(), "the disk of the queue fails") })
	h.kill()
	system(t, "umount", h.state)
	exec.Command("fsck.ext4", "-p", disk).Run() // its exit code is 1 when it has mended something
	system(t, "mount", "-o", "loop", disk, h.state)
	p.Inject(nil)
	os.RemoveAll(h.source) // nothing can be found again: what was acknowledged is known all the same
	os.Mkdir(h.source, 0o777)
	h.start()
	h.until("what was acknowledged is there, and gone from the source", func() bool { return h.jobs("cancelled") == 10 })
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.must("push", "--wait", h.source)
	wantWhole(t, bucket, 20)
}

// A queue that was damaged is refused and kept; moved away as the hint says, everything that is not
// published is found again, and nothing is stored twice.
func TestADamagedQueue(t *testing.T) {
	t.Parallel()
	h, p, bucket := bucketHost(t)
	h.start()
	u := spackmirror.New(spackmirror.V3, 300)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.must("push", "--wait", h.source)
	h.stop()
	file := filepath.Join(h.state, "queue.db")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	copy(content[8192:], bytes.Repeat([]byte("damage"), 4000))
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	refusedToStart(t, h, h.state, "the database is damaged", "hint: move queue.db")
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, content) {
		t.Errorf("the damaged queue was changed: %v", err)
	}
	for _, name := range []string{"queue.db", "queue.db-wal", "queue.db-shm"} {
		os.Rename(filepath.Join(h.state, name), filepath.Join(h.dir, name))
	}
	p.Forget()
	h.start()
	h.must("drain", "--wait")
	wantWhole(t, bucket, u.Len())
	for _, r := range p.Log() {
		if r.Mutating() {
			t.Errorf("%s %s: it was there", r.Operation, r.Key)
		}
	}
}

// Under the name of a blob the destination holds something else: it is never taken for the blob and
// never overwritten. The package that needs it fails and says which one it is; others are published.
func TestAWrongBlobInTheDestination(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	u := spackmirror.New(spackmirror.V3, 10)
	whole := mirrorOf(t, u, u.All())
	drop(t, mirrorOf(t, u, u.Range(0, 1)), h.source)
	blobs := filesBelow(t, filepath.Join(h.source, "blobs"))
	planted, err := filepath.Rel(h.source, blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	wrong := []byte("cut off")
	if err := os.MkdirAll(filepath.Dir(filepath.Join(bucket, planted)), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bucket, planted), wrong, 0o666); err != nil {
		t.Fatal(err)
	}
	drop(t, whole, h.source)
	h.start()
	h.until("the one fails and the others are published", func() bool { return h.jobs("published") == 9 && h.jobs("failed") == 1 })
	wantWhole(t, bucket, 9)
	failed := h.status().Failed[0]
	if !strings.Contains(failed.Reason, filepath.Base(planted)) || !strings.Contains(failed.File, u.Hash(0)) {
		t.Errorf("%+v", failed)
	}
	if now, err := os.ReadFile(filepath.Join(bucket, planted)); err != nil || !bytes.Equal(now, wrong) {
		t.Errorf("it was overwritten: %v", err)
	}
	// Somebody removes it, and asks for another try.
	if err := os.Remove(filepath.Join(bucket, planted)); err != nil {
		t.Fatal(err)
	}
	h.must("retry")
	h.until("all are published", func() bool { return h.jobs("published") == 10 })
	wantWhole(t, bucket, 10)
}

// One of the right size is not found out by listing, which is all that is asked: `verify --deep` finds it.
func TestAWrongBlobOfTheRightSize(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	u := spackmirror.New(spackmirror.V3, 3)
	drop(t, mirrorOf(t, u, u.Range(0, 1)), h.source)
	planted, err := filepath.Rel(h.source, filesBelow(t, filepath.Join(h.source, "blobs"))[0])
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(h.source, planted))
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	move(t, writeTo(t, content), filepath.Join(bucket, planted))
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.start()
	h.must("push", "--wait", h.source)
	if r := h.run("verify", "--deep", h.destination); r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, filepath.Base(planted)) {
		t.Errorf("verify does not name it: %v", r)
	}
	if now, err := os.ReadFile(filepath.Join(bucket, planted)); err != nil || !bytes.Equal(now, content) {
		t.Errorf("it was overwritten: %v", err)
	}
}

func writeTo(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// The clock was ten years ahead when it was written down what waits until when, and then set back.
func TestTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	h, p, bucket := bucketHost(t)
	p.Inject(func(faultproxy.Request) faultproxy.Fault { return faultproxy.Denied })
	h.start()
	u := spackmirror.New(spackmirror.V3, 6)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.until("the mirror waits", func() bool { return h.jobs("ready") == 6 })
	h.stop()
	q, err := queue.Open(t.Context(), h.state)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := q.Claim(t.Context(), h.source+" -> "+h.destination, queue.Publishing, queue.Limits{})
	if err != nil || len(jobs) != 6 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	var changes []queue.Change
	for _, j := range jobs {
		changes = append(changes, queue.Change{ID: j.ID, To: queue.Ready, NextAt: time.Now().AddDate(10, 0, 0)})
	}
	if err := errors.Join(q.Change(t.Context(), queue.Publishing, changes...), q.Close()); err != nil {
		t.Fatal(err)
	}
	p.Inject(nil)
	h.start()
	h.until("nothing waits for that time", func() bool { return h.jobs("published") == 6 })
	wantWhole(t, bucket, 6)
}

// While there is nothing to do S3 is not asked anything, however often the source is looked through and the
// daemon is asked how it is, nor after a restart. Five minutes of it pass in virtual time, in publish/daemon.
func TestAnIdleDaemonAsksS3Nothing(t *testing.T) {
	t.Parallel()
	h, p, _ := bucketHost(t)
	h.mirror = "    scan_interval: 1s\n"
	h.start()
	u := spackmirror.New(spackmirror.V3, 5)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.must("push", "--wait", h.source)
	time.Sleep(time.Second)
	p.Forget()
	for range 2 {
		scans := h.metric("publish_scans_total")
		h.until("it has looked through the source some times", func() bool { h.must("status"); return h.metric("publish_scans_total") >= scans+4 })
		h.must("push", h.source)
		h.must("drain", "--wait")
		h.stop()
		h.start()
	}
	for _, r := range p.Log() {
		t.Errorf("%s %s", r.Operation, r.Key)
	}
}

// S3 does not answer at all for a while: nothing fails, and what was pushed meanwhile is published. Ten
// minutes of it pass in virtual time, in publish/daemon.
func TestNoAnswerFromS3(t *testing.T) {
	t.Parallel()
	h, p, bucket := bucketHost(t)
	p.Inject(func(faultproxy.Request) faultproxy.Fault { return faultproxy.Reset })
	h.start()
	u := spackmirror.New(spackmirror.V3, 20)
	drop(t, mirrorOf(t, u, u.Range(0, 10)), h.source)
	h.until("the mirror waits", func() bool { return h.status().Mirrors[0].Paused != "" })
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.must("push", h.source)
	time.Sleep(5 * time.Second)
	if s := h.status(); len(s.Failed) != 0 || !s.Healthy {
		t.Errorf("%+v", s)
	}
	p.Inject(nil)
	h.must("drain", "--wait")
	wantWhole(t, bucket, 20)
}

// Who is not allowed to is refused, and named, although the file system would let him.
func TestAnotherUsersPush(t *testing.T) {
	rootOnly(t)
	t.Parallel()
	h, _, bucket := bucketHost(t)
	const stranger, member = 54321, 54322
	h.extra = "allow_groups: [\"54300\"]\n"
	if err := os.Chmod(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.start()
	for path, mode := range map[string]os.FileMode{filepath.Dir(h.socket): 0o755, h.socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	u := spackmirror.New(spackmirror.V3, 2)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	bin := filepath.Join(h.dir, "publish") // where everybody may run it
	if err := os.Link(h.bin, bin); err != nil {
		content, err := os.ReadFile(h.bin)
		if err == nil {
			err = os.WriteFile(bin, content, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	as := func(user uint32, groups []uint32, args ...string) (said string, err error) {
		cmd := exec.Command(bin, args...)
		cmd.Dir = "/"
		cmd.Env = []string{"PUBLISH_SOCKET=" + h.socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user, Groups: groups}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{{"push", h.source}, {"drain", "--wait"}, {"retry"}, {"status"}} {
		if said, err := as(stranger, nil, args...); err == nil || !strings.Contains(said, "user 54321") || !strings.Contains(said, "not allowed") {
			t.Errorf("%v: %v, %s", args, err, said)
		}
	}
	if said, err := as(member, []uint32{54300}, "push", "--wait", h.source); err != nil {
		t.Errorf("a member of the group: %v\n%s", err, said)
	}
	wantWhole(t, bucket, 2)
}
