// Package hints receives from the file system the directories in which new documents may be. A hint may be missed,
// so hints make scanning faster and never replace it.
package hints

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// deepest is the maximum depth of watched directories below a source. A scan reports deeper ones.
const deepest = 100

// A Tree is a directory in which documents appear. Names are slash-separated and relative to it.
type Tree struct {
	Dir     string
	MayHold func(name string) bool // reports whether a directory may hold documents at any depth
	Look    func(name string)      // called for a directory that may have new documents; "" is everything
	Lost    func()                 // called when events were lost; Look("") follows
}

// Watch follows the events of a directory until ctx ends, or the system provides none.
func Watch(ctx context.Context, t Tree) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := t.watchBelow(ctx, w, t.Dir); err != nil {
		return err
	}
	t.Look("") // for documents that appeared before the watch
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err, ok := <-w.Errors:
			if !ok {
				return errors.New("the watch has ended")
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return err
			}
			t.Lost()
			t.Look("")
		case e, ok := <-w.Events:
			if !ok {
				return errors.New("the watch has ended")
			}
			if err := t.hinted(ctx, w, e); err != nil {
				return err
			}
		}
	}
}

// hinted handles an event. A new directory is first watched and then scanned, so that nothing is missed in between.
func (t Tree) hinted(ctx context.Context, w *fsnotify.Watcher, e fsnotify.Event) error {
	name, err := filepath.Rel(t.Dir, e.Name)
	if err != nil {
		return err
	}
	name = filepath.ToSlash(name)
	if e.Name == t.Dir && e.Has(fsnotify.Remove|fsnotify.Rename) {
		return fmt.Errorf("%s is gone", e.Name)
	}
	if !e.Has(fsnotify.Create|fsnotify.Write) || !t.MayHold(name) {
		return nil
	}
	if e.Has(fsnotify.Create) && isDir(e.Name) {
		if err := t.watchBelow(ctx, w, e.Name); err != nil {
			return err
		}
		t.Look(name)
		return nil
	}
	t.Look(path.Dir(name))
	return nil
}

// watchBelow watches a directory and the directories below it that may hold documents.
func (t Tree) watchBelow(ctx context.Context, w *fsnotify.Watcher, dir string) error {
	return filepath.WalkDir(dir, func(full string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) && full != t.Dir || err == nil && !e.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(t.Dir, full)
		if err != nil {
			return err
		}
		if strings.Count(name, string(filepath.Separator)) >= deepest {
			return fs.SkipDir
		}
		if !t.MayHold(filepath.ToSlash(name)) {
			return fs.SkipDir
		}
		if err := w.Add(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("watch %s: %w", full, err)
		}
		return nil
	})
}

func isDir(full string) bool {
	info, err := os.Lstat(full)
	return err == nil && info.IsDir()
}
