package dir_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
)

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		os.Exit(runChild())
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, path string) *dir.Dir {
	t.Helper()
	d, err := dir.Open(path, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestMirror(t *testing.T) {
	for name, fresh := range map[string]func(t *testing.T) *dir.Mirror{
		"at the top": func(t *testing.T) *dir.Mirror { return open(t, t.TempDir()).Mirror(".") },
		"below, in a directory to be made": func(t *testing.T) *dir.Mirror {
			return open(t, filepath.Join(inMemory(t), "not", "yet")).Mirror("slurm/25.11/buildcache")
		},
		"without hard links": func(t *testing.T) *dir.Mirror {
			d := open(t, inMemory(t))
			d.WithoutLinks(syscall.EPERM)
			return d.Mirror(".")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for the disk, or for each other, most of the time
			mirrortest.Run(t, func(t *testing.T) mirrortest.Store { return fresh(t) })
		})
	}
}

// inMemory is t.TempDir on a file system that has no disk to wait for, where there is one.
func inMemory(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "dir-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	return path
}

func upload(name, content string) mirror.Upload {
	return mirror.Upload{Name: name, Content: blob.Bytes([]byte(content)), Digest: blob.DigestOf([]byte(content))}
}

func create(t *testing.T, m mirror.Writer, name, content string) {
	t.Helper()
	if err := m.Create(t.Context(), upload(name, content)); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, m mirror.Lister) []string {
	t.Helper()
	var names []string
	for info, err := range m.List(t.Context(), mirror.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

func wantList(t *testing.T, m mirror.Lister, want ...string) {
	t.Helper()
	if got := list(t, m); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}

func mustWrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadingMakesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not", "yet")
	m := open(t, path).Mirror("v3")
	wantList(t, m)
	if _, err := m.Stat(t.Context(), "a"); !errors.Is(err, mirror.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
	if err := m.Delete(t.Context(), "a", "version"); err != nil {
		t.Errorf("delete: %v", err)
	}
	for l, err := range m.Leftovers(t.Context(), "") {
		t.Errorf("leftover %v, %v", l, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading has made %s", filepath.Dir(path))
	}
	create(t, m, "a", "a")
	wantList(t, m, "a")
}

func TestOpenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	mustWrite(t, path, "")
	if _, err := dir.Open(path, dir.Options{}); err == nil {
		t.Error("opened a file")
	}
}

// TestModes: the umask decides, except that strangers never may write.
func TestModes(t *testing.T) {
	for _, test := range []struct {
		umask     int
		file, dir fs.FileMode
	}{
		{0o022, 0o644, 0o755},
		{0o002, 0o664, 0o775},
		{0o000, 0o664, 0o775},
		{0o077, 0o600, 0o700},
	} {
		old := syscall.Umask(test.umask)
		path := filepath.Join(t.TempDir(), "mirror")
		m := open(t, path).Mirror(".")
		create(t, m, "d/created", "x")
		_, err := m.Swap(t.Context(), upload("d/swapped", "x"), mirror.Absent)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]fs.FileMode{"d/created": test.file, "d/swapped": test.file, "d": test.dir | fs.ModeDir, ".": test.dir | fs.ModeDir} {
			info, err := os.Stat(filepath.Join(path, name))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != want {
				t.Errorf("umask %03o: %s has mode %v, want %v", test.umask, name, info.Mode(), want)
			}
		}
	}
}

func TestNames(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	create(t, d.Mirror("."), "a", "a")
	for _, test := range []struct{ below, name string }{
		{".", ".publish/lock"}, {".", ".publish"}, {".publish", "new/x"}, {".", "../a"}, {"x", "../a"}, {".", "/a"},
		{".", "."}, {".", ""}, {".", "b/./c"}, {".", "b/"}, {"..", "a"}, {"/etc", "a"}, {".", "nul\x00"}, {".", "\xff"},
	} {
		m := d.Mirror(test.below)
		if err := m.Create(t.Context(), upload(test.name, "a")); err == nil {
			t.Errorf("created %q below %q", test.name, test.below)
		}
		if _, err := m.Open(t.Context(), test.name); err == nil {
			t.Errorf("opened %q below %q", test.name, test.below)
		}
		if err := m.Discard(t.Context(), mirror.Leftover{Name: test.name, ID: "1-00"}); err == nil {
			t.Errorf("discarded %q below %q", test.name, test.below)
		}
	}
	if err := d.Mirror(".").Discard(t.Context(), mirror.Leftover{Name: "x", ID: "/../../a"}); err != nil {
		t.Error(err)
	}
	wantList(t, d.Mirror("."), "a")
	create(t, d.Mirror("x"), ".publish/fine", "hidden is the one at the top alone")
	wantList(t, d.Mirror("."), "a", "x/.publish/fine")
}

// TestForeign: what others have put into the directory.
func TestForeign(t *testing.T) {
	top := t.TempDir()
	outside := filepath.Join(top, "outside")
	path := filepath.Join(top, "mirror")
	mustWrite(t, filepath.Join(outside, "secret"), "secret")
	mustWrite(t, filepath.Join(path, "real/x"), "x")
	for link, to := range map[string]string{
		"link": "real", "real/file": "x", "real/up": "..", "dangling": "nothing", "out": "../outside", "abs": outside, "outfile": "../outside/secret",
	} {
		if err := os.Symlink(to, filepath.Join(path, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(path, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := open(t, path).Mirror(".")
	wantList(t, m, "link/file", "link/x", "real/file", "real/x")
	for _, name := range list(t, m) {
		if got, _, err := mirror.Read(t.Context(), m, name, 10); err != nil || string(got) != "x" {
			t.Errorf("%s: read %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"fifo", "real", "dangling"} {
		if _, err := m.Open(t.Context(), name); !errors.Is(err, mirror.ErrNotExist) {
			t.Errorf("open %s: %v", name, err)
		}
		if err := m.Create(t.Context(), upload(name, "y")); !errors.Is(err, mirror.ErrExist) {
			t.Errorf("create %s: %v", name, err)
		}
		if _, err := m.Swap(t.Context(), upload(name, "y"), mirror.Absent); !errors.Is(err, mirror.ErrExist) {
			t.Errorf("swap %s: %v", name, err)
		}
	}
	for _, name := range []string{"out/secret", "out/new", "outfile", "abs/new"} {
		if o, err := m.Open(t.Context(), name); err == nil {
			o.Body.Close()
			t.Errorf("opened %s", name)
		}
		if err := m.Create(t.Context(), upload(name, "y")); err == nil {
			t.Errorf("created %s", name)
		}
	}
	if err := m.Create(t.Context(), upload("real/x/y", "y")); err == nil {
		t.Error("created an object below another")
	}
	if got, _ := os.ReadDir(outside); len(got) != 1 {
		t.Errorf("outside the directory: %v", got)
	}
}

func TestShortenedWhileRead(t *testing.T) {
	path := t.TempDir()
	m := open(t, path).Mirror(".")
	create(t, m, "a", strings.Repeat("a", 100))
	o, err := m.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	if err := os.Truncate(filepath.Join(path, "a"), 50); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(o.Body); err == nil {
		t.Error("the end of a body that was cut off looks like the end of the object")
	}
}

// TestTemps: what is written is under its writer's lock, and what the dead have left is
// cleared away by the next publisher, but not what is alive.
func TestTemps(t *testing.T) {
	path := t.TempDir()
	m := open(t, path).Mirror("sub")
	if err := m.Abandon(t.Context(), "dead"); err != nil {
		t.Fatal(err)
	}
	begun, finish := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		u := upload("alive", "alive")
		u.Content = slow{u.Content, sync.OnceFunc(func() { close(begun); <-finish })}
		if err := m.Create(t.Context(), u); err != nil {
			t.Error(err)
		}
	})
	<-begun
	next := open(t, path)
	create(t, next.Mirror("."), "other", "other")
	if left := leftovers(t, next.Mirror(".")); !slices.Equal(left, []string{"sub/alive"}) {
		t.Errorf("left after a sweep: %q", left)
	}
	if left := leftovers(t, next.Mirror("other")); len(left) != 0 {
		t.Errorf("left of another mirror: %q", left)
	}
	close(finish)
	wg.Wait()
	wantList(t, next.Mirror("."), "other", "sub/alive")
	if left := leftovers(t, m); len(left) != 0 {
		t.Errorf("left at the end: %q", left)
	}
}

// TestDiscardAlive: who discards the upload of one who is still at it does no more harm
// than that it is begun anew.
func TestDiscardAlive(t *testing.T) {
	for _, act := range []string{"create", "swap"} {
		m := open(t, t.TempDir()).Mirror(".")
		u := upload("a", "content")
		u.Content = slow{u.Content, sync.OnceFunc(func() {
			for l, err := range m.Leftovers(t.Context(), "") {
				if err != nil || time.Since(l.Started).Abs() > time.Hour {
					t.Errorf("%+v, %v", l, err)
				}
				if err := m.Discard(t.Context(), l); err != nil {
					t.Error(err)
				}
			}
		})}
		var err error
		if act == "create" {
			err = m.Create(t.Context(), u)
		} else {
			_, err = m.Swap(t.Context(), u, mirror.Absent)
		}
		if err != nil {
			t.Errorf("%s: %v", act, err)
		}
		wantList(t, m, "a")
	}
}

// TestDirectoryRemoved: who removes what is empty, or hidden, while we write.
func TestDirectoryRemoved(t *testing.T) {
	path := t.TempDir()
	m := open(t, path).Mirror(".")
	for _, remove := range []string{"d", ".publish", ".publish/new"} {
		create(t, m, "d/e/a", "a")
		if err := os.RemoveAll(filepath.Join(path, remove)); err != nil {
			t.Fatal(err)
		}
		create(t, m, "d/e/a", "a")
		create(t, m, "d/e/b", "b")
		if _, err := m.Swap(t.Context(), upload("d/pointer", remove), versionOf(t, m, "d/pointer")); err != nil {
			t.Errorf("swap without %s: %v", remove, err)
		}
		wantList(t, m, "d/e/a", "d/e/b", "d/pointer")
	}
}

func versionOf(t *testing.T, m mirror.Reader, name string) mirror.Version {
	t.Helper()
	info, err := m.Stat(t.Context(), name)
	if err != nil && !errors.Is(err, mirror.ErrNotExist) {
		t.Fatal(err)
	}
	return info.Version
}

// TestVersionsDiffer: states of one size that follow each other at once, in inodes that
// are given out again, have versions of their own.
func TestVersionsDiffer(t *testing.T) {
	m := open(t, t.TempDir()).Mirror(".")
	seen := map[mirror.Version]bool{}
	is := mirror.Absent
	for n := range 200 {
		var err error
		if is, err = m.Swap(t.Context(), upload("p", string([]byte{byte(n)})), is); err != nil {
			t.Fatal(err)
		}
		if seen[is] {
			t.Fatalf("state %d has the version of an earlier one", n)
		}
		seen[is] = true
	}
}

// TestVersionInTheFuture: a clock that was wrong once must not make two states alike.
func TestVersionInTheFuture(t *testing.T) {
	path := t.TempDir()
	m := open(t, path).Mirror(".")
	create(t, m, "p", "a")
	future := time.Now().Add(24 * time.Hour)
	if err := os.Chtimes(filepath.Join(path, "p"), future, future); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Swap(t.Context(), upload("p", "b"), versionOf(t, m, "p")); err != nil {
		t.Fatal(err)
	}
	if info, err := m.Stat(t.Context(), "p"); err != nil || !info.Modified.After(future) {
		t.Errorf("the next state is of %v, %v", info.Modified, err)
	}
}

func TestLockIsWaitedFor(t *testing.T) {
	path := t.TempDir()
	m := open(t, path).Mirror(".")
	is, err := m.Swap(t.Context(), upload("p", "a"), mirror.Absent)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(path, ".publish/lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := m.Swap(ctx, upload("p", "b"), is); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("swap while another holds the lock: %v", err)
	}
	if err := m.Delete(ctx, "p", is); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("delete while another holds the lock: %v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { f.Close() })
	if _, err := m.Swap(t.Context(), upload("p", "b"), is); err != nil {
		t.Errorf("swap when the lock is free again: %v", err)
	}
}

// In a directory that is setgid, whoever made it so, files and directories get its group, as if they had been made
// there.
func TestGroupsOfDirectories(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root has several groups for sure")
		return
	}
	path := t.TempDir()
	mustWrite(t, filepath.Join(path, "sub/other"), "")
	for dir, gid := range map[string]int{".": 2001, "sub": 2002} {
		if err := os.Chown(filepath.Join(path, dir), -1, gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(path, dir), 0o775|fs.ModeSetgid); err != nil {
			t.Fatal(err)
		}
	}
	m := open(t, path).Mirror(".")
	create(t, m, "a/b", "x")
	create(t, m, "sub/b", "x")
	create(t, m, "sub/deep/b", "x")
	if _, err := m.Swap(t.Context(), upload("sub/b", "y"), versionOf(t, m, "sub/b")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{"a": 2001, "a/b": 2001, "sub/b": 2002, "sub/deep": 2002, "sub/deep/b": 2002} {
		info, err := os.Stat(filepath.Join(path, name))
		if err != nil {
			t.Fatal(err)
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; gid != want {
			t.Errorf("%s has group %d, want %d", name, gid, want)
		}
	}
}

// A directory below a link to nothing, or where none can be made, is an error at once, and so is a file in its place.
func TestADirectoryThatCannotBeMade(t *testing.T) {
	top := t.TempDir()
	mustWrite(t, filepath.Join(top, "file"), "")
	for link, to := range map[string]string{"dangling": "/nonexistent/x", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	for where, want := range map[string]string{
		top + "/dangling/a/b": "dangling is a symbolic link to /nonexistent/x", "/proc/nowhere/a/b": "/proc/nowhere",
		top + "/loop/a": "loop", top + "/file/a": "not a directory", "/sys/nowhere/a": "/sys/nowhere",
	} {
		d, err := dir.Open(where, dir.Options{})
		if err == nil {
			err = d.Mirror(".").Create(t.Context(), upload("x", "x"))
			d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", where, err, want)
		}
	}
}

// once is content that can be read once, in order.
type once struct {
	t       *testing.T
	content []byte
	opened  int
	off     int64
}

func (o *once) Size() int64 { return int64(len(o.content)) }

func (o *once) Open() (blob.Reader, error) {
	o.opened++
	return o, nil
}

func (o *once) ReadAt(p []byte, off int64) (int, error) {
	if off != o.off {
		o.t.Errorf("read at %d after %d", off, o.off)
	}
	n := copy(p, o.content[off:])
	o.off += int64(n)
	return n, nil
}

func (*once) Close() error { return nil }

// What has a digest is read once and in order, as mirror.Streamer promises, and not at all if it is there.
func TestContentIsReadOnceAndInOrder(t *testing.T) {
	m := open(t, inMemory(t)).Mirror(".")
	text := make([]byte, 700_001)
	content := &once{t: t, content: text}
	u := mirror.Upload{Name: "a", Content: content, Digest: blob.DigestOf(text)}
	for range 2 {
		if err := m.Create(t.Context(), u); err != nil || content.opened != 1 {
			t.Errorf("created: opened %d times, %v", content.opened, err)
		}
	}
	content.off, u.Name = 0, "b"
	if _, err := m.Swap(t.Context(), u, mirror.Absent); err != nil || content.opened != 2 {
		t.Errorf("swapped: opened %d times, %v", content.opened-1, err)
	}
}
