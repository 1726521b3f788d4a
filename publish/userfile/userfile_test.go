package userfile_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// What is not a regular file is refused without waiting, and the error says which file it is and what it is.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	t.Chdir(t.TempDir()) // the name of a socket must be short
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pipe", "link"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, want := range map[string]string{
		"pipe": "a pipe", "link": "a pipe", "socket": "a socket", ".": "a directory", "/dev/zero": "a device",
	} {
		_, readErr := userfile.Read(name)
		for _, err := range []error{readErr, userfile.Check(name)} {
			var path *fs.PathError
			if !errors.As(err, &path) || path.Path != name || !errors.Is(err, userfile.ErrNotRegular) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want one with %q", name, err, want)
			}
		}
	}
}

func TestAFileIsReadToItsEndAndNoFurtherThanMaxSize(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	link := name + ".link"
	if err := os.WriteFile(name, make([]byte, userfile.MaxSize), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	for _, as := range []string{name, link} {
		if b, err := userfile.Read(as); err != nil || len(b) != userfile.MaxSize {
			t.Errorf("%s: %d bytes, %v", as, len(b), err)
		}
	}
	if _, err := userfile.ReadNoLink(name); err != nil {
		t.Error(err)
	}
	if _, err := userfile.ReadNoLink(link); !errors.Is(err, userfile.ErrNotRegular) {
		t.Errorf("a link: %v", err)
	}
	if b, err := userfile.Read("/proc/self/status"); err != nil || len(b) == 0 {
		t.Errorf("a file that does not tell its size: %d bytes, %v", len(b), err)
	}
	if err := os.Truncate(name, userfile.MaxSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := userfile.Read(name); !errors.Is(err, userfile.ErrTooLarge) {
		t.Errorf("a file that is too large: %v", err)
	}
	if _, err := userfile.Read(name + ".gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A key in the place of its file's name is not shown.
func TestTheTextOfAKeyIsNotShown(t *testing.T) {
	const text = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQVYB\n"
	if _, err := userfile.Read(text); err == nil || strings.Contains(err.Error(), "lQVYB") || strings.Contains(err.Error(), "BEGIN") {
		t.Errorf("%v", err)
	}
}
