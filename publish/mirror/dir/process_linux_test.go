package dir_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// mounted has a child see a file system of its own in its directory. Whoever is not root may mount one where he is
// root of a user namespace.
func mounted(cmd *exec.Cmd, what string) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	script := `mount --make-rprivate / && mount ` + what + ` "$DIR_TEST_PATH" && exec "$0"`
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", script, cmd.Path}
}

// TestFull needs a file system that is soon full: a small tmpfs, which only the child sees.
func TestFull(t *testing.T) {
	path := t.TempDir()
	cmd := command(t, "fill", path, "")
	mounted(cmd, "-t tmpfs -o size=1m none")
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	if got, _ := filepath.Glob(path + "/*"); len(got) != 0 {
		t.Errorf("written beside the small file system: %q", got)
	}
}

func TestDenied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mirror")
	for name, mode := range map[string]fs.FileMode{"closed": 0, "readonly": 0o555} {
		sub := filepath.Join(path, name)
		mustWrite(t, filepath.Join(sub, "a"), "a")
		if err := os.Chmod(sub, mode); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(sub, 0o755) })
	}
	m := open(t, path).Mirror(".")
	if os.Geteuid() == 0 {
		becomeNobody(t, path)
	}
	want := func(err error, action string) {
		t.Helper()
		var denied *mirror.DeniedError
		if !errors.As(err, &denied) || denied.Action != action || !errors.Is(err, mirror.ErrDenied) {
			t.Errorf("got error %v, want that %s is denied", err, action)
		}
	}
	_, err := m.Stat(t.Context(), "closed/a")
	want(err, "read")
	_, err = m.Open(t.Context(), "closed/a")
	want(err, "read")
	for _, err = range m.List(t.Context(), mirror.Range{}) {
		if err != nil {
			break
		}
	}
	want(err, "read")
	want(m.Create(t.Context(), upload("readonly/b", "b")), "write")
	_, err = m.Swap(t.Context(), upload("readonly/b", "b"), mirror.Absent)
	want(err, "write")
	want(m.Delete(t.Context(), "readonly/a", versionOf(t, m, "readonly/a")), "write")

	// The source that we may not read is no fault of the destination.
	u := upload("b", "b")
	u.Content = unreadable{u.Content}
	err = m.Create(t.Context(), u)
	if errors.Is(err, mirror.ErrDenied) || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got error %v, want the source's", err)
	}
}

// becomeNobody makes this thread's file accesses, until the test ends, those of a user
// who owns top and nothing below.
func becomeNobody(t *testing.T, top string) {
	t.Helper()
	const nobody = 65534
	if err := os.Chown(top, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	setFSUID(t, nobody)
	t.Cleanup(func() {
		setFSUID(t, 0)
		runtime.UnlockOSThread()
	})
}

func setFSUID(t *testing.T, uid int) {
	t.Helper()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, uintptr(uid), 0, 0); errno != 0 {
		t.Fatal(errno)
	}
}
