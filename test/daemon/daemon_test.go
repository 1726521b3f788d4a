package daemon

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

func TestMain(m *testing.M) {
	// Most of these tests wait most of the time, each for a host of its own. They can do so together.
	flag.Parse()
	if n := flag.Lookup("test.parallel"); n.Value.String() == n.DefValue {
		flag.Set("test.parallel", "4")
	}
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// bucketHost publishes to a bucket of its own, through a proxy.
func bucketHost(t *testing.T) (h *host, p *faultproxy.Proxy, bucket string) {
	t.Helper()
	server := s3server.Start(t)
	p = faultproxy.Start(t, server.Endpoint)
	name := server.Bucket(t)
	h = newHost(t, "s3://"+name+"/noble", append(server.Environ(), "AWS_ENDPOINT_URL="+p.URL))
	return h, p, filepath.Join(server.Path(name), "noble")
}

// mirrorOf writes a mirror of a universe somewhere.
func mirrorOf(t *testing.T, u *spackmirror.Universe, members []int) string {
	t.Helper()
	dir := t.TempDir()
	if err := u.Write(dir, members); err != nil {
		t.Fatal(err)
	}
	return dir
}

// wantWhole fails the test unless the mirror in dir works and offers so many specs.
func wantWhole(t *testing.T, dir string, specs int) {
	t.Helper()
	m := reader.V3(reader.Dir(dir))
	if !m.Works() || len(m.Odd) > 0 || len(m.Specs) != specs {
		t.Errorf("want %d specs, got %d, broken %v, odd %v", specs, len(m.Specs), m.Broken, m.Odd)
	}
}

// From an empty build host to the first published package, with the smallest configuration.
func TestTheFirstPackage(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	h.start()
	u := spackmirror.New(spackmirror.V3, 20)
	began := time.Now()
	drop(t, mirrorOf(t, u, u.Range(0, 1)), h.source)
	h.until("the package is published", func() bool { return h.jobs("published") == 1 })
	took := time.Since(began)
	wantWhole(t, bucket, 1)
	t.Logf("%v after it was complete", took)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	if out := h.must("push", "--wait", h.source); !strings.Contains(out, "20 packages: ") || !strings.Contains(out, ": published: ") {
		t.Errorf("push says:\n%s", out)
	}
	wantWhole(t, bucket, 20)
	if out := h.must("drain", "--wait"); !strings.Contains(out, "failed 0, not complete 0") {
		t.Errorf("drain says: %s", out)
	}
	if out := h.must("status"); !strings.Contains(out, "20") {
		t.Errorf("status says:\n%s", out)
	}
	if code := h.stop(); code != 0 {
		t.Errorf("stopped with exit code %d", code)
	}
}

// A thousand packages within ten seconds, more than inotify can tell of: all are published, and none
// twice.
func TestAThousandAtOnce(t *testing.T) {
	const n = 1000
	h, p, bucket := bucketHost(t)
	u := spackmirror.New(spackmirror.V3, n)
	whole := mirrorOf(t, u, u.All())
	h.start()
	drop(t, mirrorOf(t, u, u.Range(0, 1)), h.source) // so that there are directories to watch
	h.until("the first is published", func() bool { return h.jobs("published") == 1 })
	time.Sleep(time.Second)
	overflow := overflowing(t)
	began := time.Now()
	// The hints of the daemon are late as long as it stands still, so its queue overflows.
	h.cmd.Process.Signal(syscall.SIGSTOP)
	drop(t, whole, h.source)
	noise(t, h.source, overflow)
	h.cmd.Process.Signal(syscall.SIGCONT)
	t.Logf("%d packages appeared within %v", n, time.Since(began))
	h.until("all are published", func() bool { return h.jobs("published") == n })
	t.Logf("all were published after %v", time.Since(began))
	wantWhole(t, bucket, n)
	created := make(map[string]int)
	for _, r := range p.Log() {
		if r.Operation == "PutObject" && r.Status == 200 && strings.Contains(r.Key, "/spec/") {
			created[r.Key]++
		}
	}
	for key, times := range created {
		if times != 1 {
			t.Errorf("%s was stored %d times", key, times)
		}
	}
	if len(created) != n {
		t.Errorf("%d documents were stored", len(created))
	}
	if h.metric("publish_hint_overflows_total") == 0 {
		t.Error("the queue of hints did not overflow: this tested less than it says")
	}
}

// overflowing is how many events are more than the kernel keeps.
func overflowing(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	var n int
	fmt.Sscan(string(text), &n)
	return n + 1000
}

// noise makes events about nothing.
func noise(t *testing.T, source string, events int) {
	t.Helper()
	a, b := filepath.Join(source, "v3/manifests/noise-a"), filepath.Join(source, "v3/manifests/noise-b")
	for i := range events {
		name := a
		if i%2 == 1 {
			name = b
		}
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("x")
		f.Close()
	}
	os.Remove(a)
	os.Remove(b)
}

// Whatever becomes of files while they are written: defined, and nothing wrong is published.
func TestFilesThatChange(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	h.mirror = "    stuck_after: 2s\n    scan_interval: 1s\n"
	u := spackmirror.New(spackmirror.V3, 8)
	whole := mirrorOf(t, u, u.All())
	h.start()
	document := func(i int) string {
		name, version := u.Name(i)
		return fmt.Sprintf("v3/manifests/spec/%s/%s-%s-%s.spec.manifest.json", name, name, version, u.Hash(i))
	}
	blobs := filesBelow(t, filepath.Join(whole, "blobs"))
	// Documents first: nothing that they point at is there.
	for i := range 8 {
		move(t, filepath.Join(whole, document(i)), filepath.Join(h.source, document(i)))
	}
	h.until("all are stuck", func() bool { return len(h.status().Stuck) == 8 })
	if n := h.jobs("failed"); n != 0 {
		t.Errorf("%d failed because they are incomplete", n)
	}
	// All blobs arrive, half of each.
	for _, b := range blobs {
		content, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		half := filepath.Join(h.source, "blobs", strings.TrimPrefix(b, filepath.Join(whole, "blobs")))
		if err := os.MkdirAll(filepath.Dir(half), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(half, content[:len(content)/2], 0o666); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(3 * time.Second)
	if n := h.jobs("published"); n != 0 {
		t.Errorf("%d were published of halves", n)
	}
	// One package is deleted, one moves away, one document is cut off and one is replaced by another build's.
	os.Remove(filepath.Join(h.source, document(0)))
	os.Rename(filepath.Join(h.source, document(1)), filepath.Join(h.dir, "moved"))
	os.Truncate(filepath.Join(h.source, document(2)), 50)
	move(t, filepath.Join(whole, document(4)), filepath.Join(h.source, document(3)))
	drop(t, filepath.Join(whole, "blobs"), filepath.Join(h.source, "blobs"))
	h.must("drain") // looks again now
	h.until("those that are whole are published", func() bool { return h.jobs("published") == 4 })
	wantWhole(t, bucket, 4)
	h.until("what is gone is cancelled", func() bool { return h.jobs("cancelled") == 4 })
	h.until("what carries another package is refused", func() bool { return h.jobs("failed") == 1 })
	s := h.status()
	if !strings.Contains(s.Failed[0].Reason, "renamed") {
		t.Errorf("failed: %+v", s.Failed)
	}
	if r := h.run("drain", "--wait"); r.Code != 4 || !strings.Contains(r.Stdout, "not complete 1") {
		t.Errorf("with one document cut off: %v", r)
	}
	// And they come back.
	for i := range 4 {
		move(t, filepath.Join(whole, document(i)), filepath.Join(h.source, document(i)))
	}
	h.must("push", "--wait", h.source)
	wantWhole(t, bucket, 8)
}

func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Without any event of the file system packages are found all the same.
func TestADirectoryWithoutEvents(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	h.mirror = "    watch: false\n    scan_interval: 1s\n"
	h.start()
	u := spackmirror.New(spackmirror.V3, 5)
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.until("all are published", func() bool { return h.jobs("published") == 5 })
	wantWhole(t, bucket, 5)
}

// A destination that cannot be used loses nothing, whatever it says, and is gone back to.
func TestTheDestinationIsAway(t *testing.T) {
	t.Parallel()
	h, p, bucket := bucketHost(t)
	h.start()
	u := spackmirror.New(spackmirror.V3, 60)
	for i, row := range []struct {
		fault  faultproxy.Fault
		reason string
	}{
		{faultproxy.Expired, "ExpiredToken"},
		{faultproxy.Denied, "access denied"},
		{faultproxy.NoBucket, "no such bucket"},
	} {
		p.Inject(func(faultproxy.Request) faultproxy.Fault { return row.fault })
		drop(t, mirrorOf(t, u, u.Range(i*10, i*10+10)), h.source)
		h.until("the mirror waits for its destination", func() bool {
			s := h.status()
			return strings.Contains(s.Mirrors[0].Paused, row.reason) && s.Mirrors[0].Jobs["ready"] == 10 && s.Healthy
		})
		if r := h.run("drain", "--wait"); r.Code != 5 || !strings.Contains(r.Stderr, row.reason) {
			t.Errorf("drain while it is away: %v", r)
		}
		p.Inject(nil)
		h.must("drain", "--wait")
		wantWhole(t, bucket, i*10+10)
	}
	if n := h.jobs("failed"); n != 0 {
		t.Errorf("%d failed", n)
	}
}

// Somebody else publishes to the same mirror: nobody loses anything.
func TestAnotherPublisher(t *testing.T) {
	t.Parallel()
	h, p, bucket := bucketHost(t)
	other := newHost(t, h.destination, h.env)
	h.start()
	other.start()
	u := spackmirror.New(spackmirror.V3, 60)
	var wg sync.WaitGroup
	for i := range 6 {
		whole := mirrorOf(t, u, u.Range(i*10, i*10+10))
		wg.Go(func() {
			switch i % 3 {
			case 0:
				drop(t, whole, h.source)
			case 1:
				drop(t, whole, other.source)
			default:
				if r, err := program.Run(h.env, h.bin, whole, h.destination); err != nil || r.Code != 0 {
					t.Error(err, r)
				}
			}
		})
	}
	wg.Wait()
	h.must("drain", "--wait")
	other.must("drain", "--wait")
	wantWhole(t, bucket, 60)
	_ = p
}

// Killed at any moment, started again: what was acknowledged is published in the end, all of it, and
// what a reader sees always works.
func TestKilled(t *testing.T) {
	t.Parallel()
	rounds := 20
	if testing.Short() {
		rounds = 8
	}
	h, p, bucket := bucketHost(t)
	const each = 10
	u := spackmirror.New(spackmirror.V3, rounds*each)
	u.Tarball = spackmirror.Kilobytes(30)
	for round := range rounds {
		h.start()
		drop(t, mirrorOf(t, u, u.Range(round*each, (round+1)*each)), h.source)
		if r := h.run("push", h.source); r.Code != 0 {
			t.Fatal(r)
		}
		if rand.IntN(2) == 0 {
			time.Sleep(rand.N(2 * time.Second))
		} else {
			atRequest(h, p, 1+rand.IntN(40))
		}
		h.kill()
		p.Inject(nil)
		p.Wait()
		if m := reader.V3(reader.Dir(bucket)); !m.Works() {
			t.Fatalf("round %d: what the dead daemon left does not work: %v", round, m.Broken)
		}
	}
	h.start()
	h.must("drain", "--wait")
	wantWhole(t, bucket, rounds*each)
	if n := h.jobs("published"); n != rounds*each {
		t.Errorf("%d jobs are published, %d were acknowledged", n, rounds*each)
	}
}

// atRequest kills the daemon when it makes its n-th request from now on, or after some seconds.
func atRequest(h *host, p *faultproxy.Proxy, n int) {
	var seen atomic.Int64
	killed := make(chan struct{})
	once := sync.OnceFunc(func() { close(killed) })
	cmd := h.cmd
	p.Inject(func(faultproxy.Request) faultproxy.Fault {
		if seen.Add(1) != int64(n) {
			return faultproxy.Fault{}
		}
		act := func() { cmd.Process.Kill(); once() }
		if rand.IntN(2) == 0 {
			return faultproxy.Before(act)
		}
		return faultproxy.After(act)
	})
	select {
	case <-killed:
	case <-time.After(4 * time.Second):
	}
}

// A configuration that is loaded anew takes effect, and one that is wrong changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	h.start()
	u := spackmirror.New(spackmirror.V3, 20)
	drop(t, mirrorOf(t, u, u.Range(0, 10)), h.source)
	h.until("ten are published", func() bool { return h.jobs("published") == 10 })
	first := h.destination
	h.destination = "nonsense: ["
	h.configure()
	h.cmd.Process.Signal(syscall.SIGHUP)
	h.until("the log says that it is wrong", func() bool { return strings.Contains(h.log.String(), "the old one stays") })
	h.destination = strings.Replace(first, "noble", "jammy", 1)
	h.configure()
	h.cmd.Process.Signal(syscall.SIGHUP)
	h.until("the mirror has another destination", func() bool { return h.status().Mirrors[0].Name == h.destination })
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.must("drain", "--wait")
	wantWhole(t, bucket, 10)
	wantWhole(t, filepath.Join(filepath.Dir(bucket), "jammy"), 20)
}

// A daemon that is told to stop ends what can be ended in time, and the next one goes on from there.
func TestStopped(t *testing.T) {
	t.Parallel()
	h, p, bucket := bucketHost(t)
	h.extra = "stop_timeout: 1s\n"
	h.start()
	u := spackmirror.New(spackmirror.V3, 10)
	release := make(chan struct{})
	p.Inject(func(r faultproxy.Request) faultproxy.Fault {
		if r.Operation == "PutObject" && strings.Contains(r.Key, "manifests/spec") {
			return faultproxy.Hold(func() { <-release })
		}
		return faultproxy.Fault{}
	})
	drop(t, mirrorOf(t, u, u.All()), h.source)
	h.until("a run is under way", func() bool { return h.jobs("publishing") == 10 })
	began := time.Now()
	code := h.stop()
	close(release)
	if took := time.Since(began); code != 0 || took > 20*time.Second {
		t.Errorf("exit code %d after %v", code, took)
	}
	p.Inject(nil)
	h.start()
	h.must("drain", "--wait")
	wantWhole(t, bucket, 10)
}

// What keeps a daemon from starting is said, with what to do.
func TestWhatKeepsItFromStarting(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, want string
		break_     func(h *host)
	}{
		{"a long socket", "a socket can have 107", func(h *host) { h.socket = "/tmp/" + strings.Repeat("x", 300) }},
		{"a socket that is a file", "another kind of file has that name", func(h *host) { h.socket = h.source; h.socket += "/file"; os.WriteFile(h.socket, nil, 0o600) }},
		{"another daemon on the socket", "another daemon answers", func(h *host) {
			other := newHost(h.t, h.destination, h.env)
			other.start()
			h.socket = other.socket
		}},
		{"another daemon in the state directory", "each needs one of its own", func(h *host) {
			other := newHost(h.t, h.destination, h.env)
			other.start()
			h.state = other.state
		}},
		{"a queue that is damaged", "move queue.db", func(h *host) {
			os.MkdirAll(h.state, 0o700)
			os.WriteFile(h.state+"/queue.db", []byte(strings.Repeat("not a database ", 1000)), 0o600)
		}},
		{"a state directory that is none", "not a directory", func(h *host) { os.WriteFile(h.state, nil, 0o600) }},
		{"no configuration", "no such file", func(h *host) { os.Remove(h.dir + "/config.yaml") }},
	} {
		h := newHost(t, "file://"+t.TempDir(), []string{"PATH=" + os.Getenv("PATH")})
		h.configure()
		row.break_(h)
		if row.name != "no configuration" {
			h.configure()
		}
		r := h.run("daemon", "--config", h.dir+"/config.yaml")
		if r.Code != 2 || !strings.Contains(r.Stderr, row.want) {
			t.Errorf("%s: %v", row.name, r)
		}
	}
}

// Whoever asks a daemon that is not there is told what to do.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	h := newHost(t, "file:///nowhere", []string{"PATH=" + os.Getenv("PATH")})
	for _, args := range [][]string{{"push", h.source}, {"status"}, {"drain", "--wait"}, {"retry"}} {
		if r := h.run(args...); r.Code != 5 || !strings.Contains(r.Stderr, "no daemon answers") || !strings.Contains(r.Stderr, "hint: start it") {
			t.Errorf("%v", r)
		}
	}
	if r := h.run("retry", "x"); r.Code != 2 {
		t.Errorf("%v", r)
	}
	if r := h.run("status", "--socket", "/tmp/"+strings.Repeat("x", 300)); !strings.Contains(r.Stderr, "a socket can have 107") {
		t.Errorf("%v", r)
	}
}

// Nothing outside of the sources is published, however it is named.
func TestPathsOutsideOfTheSources(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	u := spackmirror.New(spackmirror.V3, 1)
	outside := mirrorOf(t, u, u.All())
	if err := os.Symlink(outside, filepath.Join(h.source, "link")); err != nil {
		t.Fatal(err)
	}
	h.start()
	for _, path := range []string{outside, filepath.Join(h.source, "link"), filepath.Join(h.source, "link/v3"), h.source + "/../../etc/passwd", "/etc/passwd"} {
		if r := h.run("push", path); r.Code != 2 {
			t.Errorf("%v", r)
		}
	}
	if r := h.run("push", "/etc/passwd"); !strings.Contains(r.Stderr, h.source) {
		t.Errorf("no hint what the sources are: %v", r)
	}
	h.must("drain", "--wait")
	if _, err := os.Stat(bucket); err == nil {
		t.Error("something was published")
	}
}

// With catalog: true, the page of the mirror follows the index: it is there with the first package, and has the second when that is published.
func TestThePageFollowsTheIndex(t *testing.T) {
	t.Parallel()
	h, _, bucket := bucketHost(t)
	h.mirror = "    catalog: true\n"
	h.start()
	u := spackmirror.New(spackmirror.V3, 20)
	shown := func() int {
		page, err := os.ReadFile(filepath.Join(bucket, "index.html"))
		if err != nil {
			return 0
		}
		m := regexp.MustCompile(`"packages":(\d+)`).FindSubmatch(page)
		if m == nil {
			t.Fatalf("no number of packages in the page:\n%s", page)
		}
		n, _ := strconv.Atoi(string(m[1]))
		return n
	}
	for _, n := range []int{1, 20} {
		drop(t, mirrorOf(t, u, u.Range(0, n)), h.source)
		h.until("the page shows what is published", func() bool { return h.jobs("published") >= n && shown() == n })
		wantWhole(t, bucket, n)
	}
	if code := h.stop(); code != 0 {
		t.Errorf("stopped with exit code %d", code)
	}
}
