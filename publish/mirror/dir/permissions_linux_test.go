package dir_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
)

// setfacl changes ACLs as an administrator does.
func setfacl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("setfacl", args...).CombinedOutput(); err != nil {
		t.Fatalf("setfacl %q (apt-get install acl): %v: %s", args, err, out)
	}
}

// permissions are the mode, the group and the ACL of a file.
func permissions(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	acl := make([]byte, 4096)
	n, err := unix.Getxattr(path, "system.posix_acl_access", acl)
	if err != nil && !errors.Is(err, unix.ENODATA) {
		t.Fatal(err)
	}
	return fmt.Sprintf("mode %v, group %d, ACL %x", info.Mode(), info.Sys().(*syscall.Stat_t).Gid, acl[:max(n, 0)])
}

// wantAsIfMadeThere compares an object with a file that the system makes in the same directory.
func wantAsIfMadeThere(t *testing.T, path string) {
	t.Helper()
	other := filepath.Join(filepath.Dir(path), "made by the system")
	f, err := os.OpenFile(other, os.O_CREATE|os.O_EXCL, 0o664)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	defer os.Remove(other)
	if got, want := permissions(t, path), permissions(t, other); got != want {
		t.Errorf("%s has %s, a file that is made there %s", path, got, want)
	}
}

// ways are the ways by which an object gets its name.
func ways(t *testing.T, path string) map[string]func(name string) {
	d, unlinked := open(t, path), open(t, path)
	unlinked.WithoutLinks(syscall.EXDEV)
	swap := func(d *dir.Dir, name, content string) {
		t.Helper()
		if _, err := d.Mirror(".").Swap(t.Context(), upload(name, content), versionOf(t, d.Mirror("."), name)); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]func(string){
		"created":               func(name string) { create(t, d.Mirror("."), name, "x") },
		"created without links": func(name string) { create(t, unlinked.Mirror("."), name, "x") },
		"swapped":               func(name string) { swap(d, name, "x") },
		"swapped without links": func(name string) { swap(unlinked, name, "x") },
		"replaced":              func(name string) { swap(d, name, "x"); swap(d, name, "y") },
	}
}

// An object has the permissions of a file that is made in its directory, whatever the directory gives, and since
// whenever. That it was made in another one and moved makes no difference.
func TestFilesHaveThePermissionsOfTheirDirectory(t *testing.T) {
	const team, guests = "d:u::rwX,d:g::rX,d:g:2003:rwX,d:m::rwx,d:o::-", "d:u::rwx,d:u:2004:r,d:g::-,d:o::-"
	for name, prepare := range map[string]func(t *testing.T, top, sub string){
		"nothing": func(t *testing.T, top, sub string) {},
		"a default ACL of the whole tree": func(t *testing.T, top, sub string) {
			setfacl(t, "-m", team, top, sub)
		},
		"a default ACL of the subdirectory only": func(t *testing.T, top, sub string) {
			setfacl(t, "-m", guests, sub)
		},
		"one above, another below": func(t *testing.T, top, sub string) {
			setfacl(t, "-m", guests, top)
			setfacl(t, "-m", team, sub)
		},
		"a default ACL above that the subdirectory does not have": func(t *testing.T, top, sub string) {
			setfacl(t, "-m", guests, top)
		},
		"one above without names, which the mode alone shows": func(t *testing.T, top, sub string) {
			setfacl(t, "-m", "d:u::rwx,d:g::-,d:o::-", top)
		},
		"one below without names, wider than the umask": func(t *testing.T, top, sub string) {
			setfacl(t, "-m", "d:u::rwx,d:g::rwx,d:o::rwx", sub)
		},
		"setgid above only": func(t *testing.T, top, sub string) {
			setgid(t, top, 2001)
		},
		"setgid below, with a default ACL above": func(t *testing.T, top, sub string) {
			setfacl(t, "-m", team, top)
			setgid(t, sub, 2002)
		},
	} {
		for _, when := range []string{"before the first publish", "afterwards"} {
			t.Run(name+" "+when, func(t *testing.T) {
				path := t.TempDir()
				sub := filepath.Join(path, "sub")
				if err := os.Mkdir(sub, 0o755); err != nil {
					t.Fatal(err)
				}
				act := ways(t, path)
				if when == "afterwards" {
					act["created"]("a")
					act["created"]("sub/a")
				}
				prepare(t, path, sub)
				for way, make := range act {
					for _, below := range []string{"", "sub/", "sub/deep/"} {
						make(below + way)
						wantAsIfMadeThere(t, filepath.Join(path, below+way))
					}
				}
			})
		}
	}
}

func setgid(t *testing.T, dir string, gid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		gid = os.Getegid() // only root has several groups for sure
	}
	if err := os.Chown(dir, -1, gid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o775|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
}

// What a directory gives may change while an object is being written.
func TestADefaultACLThatIsSetMeanwhile(t *testing.T) {
	path := t.TempDir()
	m := open(t, path).Mirror(".")
	create(t, m, "sub/a", "a")
	u := upload("sub/b", "b")
	u.Content = slow{u.Content, func() { setfacl(t, "-m", "d:u::rwx,d:g::-,d:o::-", filepath.Join(path, "sub")) }}
	if err := m.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	wantAsIfMadeThere(t, filepath.Join(path, "sub/b"))
	setfacl(t, "-k", filepath.Join(path, "sub"))
	create(t, m, "sub/c", "c")
	wantAsIfMadeThere(t, filepath.Join(path, "sub/c"))
}

// The umask decides where an ACL was taken from the file, and is left alone.
func TestTheUmaskDecidesWhereTheSubdirectoryHasNoACL(t *testing.T) {
	for _, umask := range []int{0o002, 0o027, 0o077} {
		path := t.TempDir()
		if err := os.Mkdir(filepath.Join(path, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		setfacl(t, "-m", "d:u::rwx,d:u:2004:rwx,d:g::rwx,d:o::rwx", path)
		old := syscall.Umask(umask)
		create(t, open(t, path).Mirror("."), "sub/a", "a")
		wantAsIfMadeThere(t, filepath.Join(path, "sub/a"))
		if is := syscall.Umask(old); is != umask {
			t.Errorf("the umask is %03o, want %03o", is, umask)
		}
	}
}

// A file system without ACLs is as good as one that has none set.
func TestNoACLs(t *testing.T) {
	path := t.TempDir()
	cmd := command(t, "modes", path, "")
	mounted(cmd, "-t ramfs none")
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	if got, _ := filepath.Glob(path + "/*"); len(got) != 0 {
		t.Errorf("written beside the file system: %q", got)
	}
}

func init() { children["modes"] = modes }

// modes stores objects on a file system that has no ACLs.
func modes(m *dir.Mirror, _ string) error {
	path := os.Getenv("DIR_TEST_PATH")
	if _, err := unix.Getxattr(path, "system.posix_acl_default", nil); !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("the file system has ACLs: %v", err)
	}
	syscall.Umask(0o027)
	ctx := context.Background()
	if err := m.Create(ctx, upload("d/created", "x")); err != nil {
		return err
	}
	if _, err := m.Swap(ctx, upload("d/swapped", "x"), mirror.Absent); err != nil {
		return err
	}
	for _, name := range []string{"d/created", "d/swapped"} {
		info, err := os.Stat(filepath.Join(path, name))
		if err != nil {
			return err
		}
		if info.Mode() != 0o640 {
			return fmt.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	return nil
}
