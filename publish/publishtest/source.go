package publishtest

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
)

// DocumentFile is the document of a package in a directory.
func DocumentFile(t testing.TB, dir, pkg string) string {
	t.Helper()
	for name := range ContentOf(t, dir) {
		if id, ok := layout.ParseV3Spec(name); ok && id.Package == pkg {
			return filepath.Join(dir, name)
		}
		if _, ok := layout.ParseV2Spec(name); ok && strings.Contains(name, "-gcc-13.4.0-"+pkg+"-") {
			return filepath.Join(dir, name)
		}
	}
	t.Fatalf("no document of %s", pkg)
	return ""
}

func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func MustRead(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	Must(t, err)
	return content
}

// ReplaceFile puts another thing where a file was.
func ReplaceFile(t testing.TB, name string, with func(name string) error) {
	t.Helper()
	Must(t, os.Remove(name))
	Must(t, with(name))
}

func Fifo(name string) error { return syscall.Mkfifo(name, 0o644) }

func LeadingOut(name string) error { return os.Symlink("/etc/hostname", name) }
