package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// deepest is how many directories below a source are watched in each other. A scan names what is nested deeper.
const deepest = 100

// again is how long to wait before a watch that broke is set up anew.
const again = time.Minute

// watch asks the file system for hints where to look, until ctx ends. A hint may be missed: the
// next scan finds what it was about. Where there are no hints to be had, scans are all there is.
func (k *worker) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := k.watchOnce(ctx); err != nil && ctx.Err() == nil {
			k.d.o.Log.Warn("no hints from the file system; packages are found by scanning", "mirror", k.m.Name, "every", k.m.Scan.String(), "reason", err.Error())
		}
		wait(ctx, again)
	}
	return ctx.Err()
}

func (k *worker) watchOnce(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := k.watchBelow(ctx, w, k.m.Source); err != nil {
		return err
	}
	k.look("") // what appeared before we watched
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
			k.d.counts.of(k.m.Name, func(m *MirrorCounts) { m.Overflows++ })
			k.look("")
		case e, ok := <-w.Events:
			if !ok {
				return errors.New("the watch has ended")
			}
			if err := k.hinted(ctx, w, e); err != nil {
				return err
			}
		}
	}
}

// hinted follows a hint. A new directory is watched first and then looked through, so that
// nothing falls in between.
func (k *worker) hinted(ctx context.Context, w *fsnotify.Watcher, e fsnotify.Event) error {
	name, err := filepath.Rel(k.m.Source, e.Name)
	if err != nil {
		return err
	}
	name = filepath.ToSlash(name)
	if e.Name == k.m.Source && e.Has(fsnotify.Remove|fsnotify.Rename) {
		return fmt.Errorf("%s is gone", e.Name)
	}
	if !e.Has(fsnotify.Create|fsnotify.Write) || !k.m.Work.MayHold(name) {
		return nil
	}
	if e.Has(fsnotify.Create) && isDir(e.Name) {
		if err := k.watchBelow(ctx, w, e.Name); err != nil {
			return err
		}
		k.look(name)
		return nil
	}
	k.look(dirOf(name))
	return nil
}

// watchBelow watches a directory and those below it that may hold documents.
func (k *worker) watchBelow(ctx context.Context, w *fsnotify.Watcher, dir string) error {
	return filepath.WalkDir(dir, func(full string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) && full != k.m.Source || err == nil && !e.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(k.m.Source, full)
		if err != nil {
			return err
		}
		if strings.Count(name, string(filepath.Separator)) >= deepest {
			return fs.SkipDir
		}
		if !k.m.Work.MayHold(filepath.ToSlash(name)) {
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
