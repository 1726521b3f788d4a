package blob_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
)

// What is a FIFO when it is opened does not block, as a file or as a directory to list, although nothing writes
// into it: it may have been a file when it was looked at.
func TestOpeningNeverBlocks(t *testing.T) {
	top := t.TempDir()
	for name := range map[string]bool{"file": true, "dir": true} {
		if err := syscall.Mkfifo(filepath.Join(top, name), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	d, err := blob.OpenDir(top)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	write(t, filepath.Join(top, "was"), "x")
	info, err := d.Stat("was")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if r, err := blob.File(d, "file", info).Open(); !errors.Is(err, blob.ErrChanged) {
			t.Errorf("a FIFO in the place of a file: %v, %v", r, err)
		}
		if f, err := d.Open("file"); err == nil {
			f.Close()
		}
		if entries, err := fs.ReadDir(d.FS(), "dir"); err == nil {
			t.Errorf("a FIFO in the place of a directory: %v", entries)
		}
		if f, err := d.FS().Open("file"); err == nil {
			f.Close()
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("it blocks")
		for _, name := range []string{"file", "dir"} { // let it go
			if f, err := os.OpenFile(filepath.Join(top, name), os.O_RDWR, 0); err == nil {
				defer f.Close()
			}
		}
		<-done
	}
}

// A walk sees what fs.WalkDir sees, ends with its context, and names what is nested too deep without entering it.
func TestWalk(t *testing.T) {
	top := t.TempDir()
	write(t, filepath.Join(top, "a/b/file"), "x")
	write(t, filepath.Join(top, "z"), "x")
	if err := os.Symlink("..", filepath.Join(top, "a/up")); err != nil {
		t.Fatal(err)
	}
	deep(t, filepath.Join(top, "deep"), 1000)
	d, err := blob.OpenDir(top)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var seen []string
	var tooDeep []string
	err = d.Walk(t.Context(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, blob.ErrTooDeep):
			tooDeep = append(tooDeep, name)
		case err != nil:
			return err
		case !strings.HasPrefix(name, "deep/"):
			seen = append(seen, name)
		}
		return nil
	})
	if err != nil || !slices.Equal(seen, []string{".", "a", "a/b", "a/b/file", "a/up", "deep", "z"}) {
		t.Errorf("seen %q, %v", seen, err)
	}
	if len(tooDeep) != 1 || strings.Count(tooDeep[0], "/") != blob.MaxDepth {
		t.Errorf("too deep: %q", tooDeep)
	}
	ctx, cancel := context.WithCancel(t.Context())
	entered := 0
	err = d.Walk(ctx, ".", func(string, fs.DirEntry, error) error {
		if entered++; entered == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || entered != 3 {
		t.Errorf("cancelled: %v after %d", err, entered)
	}
}

// deep makes n directories in each other, whatever the longest path is.
func deep(t *testing.T, dir string, n int) {
	t.Helper()
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := root.Mkdir("d", 0o777); err != nil {
			t.Fatal(err)
		}
		next, err := root.OpenRoot("d")
		root.Close()
		if err != nil {
			t.Fatal(err)
		}
		root = next
	}
	root.Close()
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}
