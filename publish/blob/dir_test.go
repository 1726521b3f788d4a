package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A Dir opens what an os.Root opens, and fails as that fails.
func TestDirIsARoot(t *testing.T) {
	outside := t.TempDir()
	top := filepath.Join(outside, "top")
	for _, dir := range []string{"a/b", "closed"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"../secret": "s", "file": "f", "a/b/deep": "deep", "closed/file": "c"} {
		if err := os.WriteFile(filepath.Join(top, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"inside": "a/b/deep", "a/up": "../file", "out": "../secret", "a/out": "../../secret", "absolute": filepath.Join(top, "file"),
		"circle": "circle", "dangling": "nothing", "dir": "a/b", "magic": "/proc/self/cwd",
	} {
		if err := os.Symlink(to, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(top, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(top, "closed"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(top, "closed"), 0o755) })

	d, err := OpenDir(top)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	opened := 0
	for _, name := range []string{
		"file", "a/b/deep", "a/../file", "./file", "inside", "a/up", "dir/deep", "dir", "a",
		"../secret", "out", "a/out", "a/../../secret", "absolute", "circle", "dangling", "nothing", "file/below", "magic", "/etc/passwd", "", "closed/file", "fifo",
	} {
		info, err := d.Stat(name)
		want, wantErr := d.Root.Stat(name)
		same(t, "stat", name, info, want, err, wantErr)
		if name == "fifo" {
			continue // opening one waits for who writes to it
		}
		f, err := d.Open(name)
		root, wantErr := d.Root.Open(name)
		if err == nil && wantErr == nil {
			opened++
			got, _ := f.Stat()
			want, _ := root.Stat()
			same(t, "open", name, got, want, nil, nil)
			f.Close()
			root.Close()
			continue
		}
		same(t, "open", name, nil, nil, err, wantErr)
	}
	if opened < 9 {
		t.Errorf("only %d were opened", opened)
	}
	if _, err := OpenDir(filepath.Join(top, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func same(t *testing.T, act, name string, got, want fs.FileInfo, err, wantErr error) {
	t.Helper()
	if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
		t.Errorf("%s %q: got error %v, want %v", act, name, err, wantErr)
		return
	}
	if got != nil && want != nil && (!os.SameFile(got, want) || got.Name() != want.Name() || got.Size() != want.Size() || !got.ModTime().Equal(want.ModTime()) || got.Mode() != want.Mode()) {
		t.Errorf("%s %q: got %v, want %v", act, name, got, want)
	}
}

// One system call is what it is about: without it these cost several times as much.
func BenchmarkOpen(b *testing.B) {
	top := b.TempDir()
	name := "v3/manifests/spec/zlib/zlib.spec.manifest.json"
	if err := os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, name), nil, 0o644); err != nil {
		b.Fatal(err)
	}
	d, err := OpenDir(top)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	for way, open := range map[string]func(string) (*os.File, error){"dir": d.Open, "root": d.Root.Open} {
		b.Run("way="+way, func(b *testing.B) {
			for b.Loop() {
				f, err := open(name)
				if err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
	}
}
