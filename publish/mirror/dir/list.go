package dir

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// List yields the regular files of a range. It does not read directories that lie outside the range. A symbolic
// link counts as its target if that is below the directory.
func (m *Mirror) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		begun := false
		list := func() error {
			return m.list(ctx, r, func(info mirror.Info) bool { begun = true; return yield(info, nil) })
		}
		err := list()
		for n := 1; n < attempts && !begun && errors.Is(err, syscall.ESTALE); n++ {
			m.dir.renew(nil)
			err = list()
		}
		if err != nil && !errors.Is(err, errEnough) {
			yield(mirror.Info{}, m.failed("list", "read", r.Prefix, err))
		}
	}
}

// errEnough ends a walk whose caller wants no more.
var errEnough = errors.New("enough")

func (m *Mirror) list(ctx context.Context, r mirror.Range, yield func(mirror.Info) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	top, err := m.dir.existing()
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	w := walk{top: top, within: m.full(r), yield: func(full string, info fs.FileInfo) bool {
		return yield(infoOf(strings.TrimPrefix(full, m.below), info))
	}}
	// Names of the range start with the prefix, so the walk starts at its last slash.
	start := "."
	if slash := strings.LastIndexByte(w.within.Prefix, '/'); slash >= 0 {
		start = w.within.Prefix[:slash]
	}
	if start != "." && check(start) != nil {
		return nil // no object has such a name
	}
	return w.dir(ctx, start, nil)
}

// full converts a range of names into one of paths.
func (m *Mirror) full(r mirror.Range) mirror.Range {
	r.Prefix = m.below + r.Prefix
	if r.After != "" {
		r.After = m.below + r.After
	}
	if r.Until != "" {
		r.Until = m.below + r.Until
	}
	return r
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// maxDepth is the maximum number of directories in a name: S3 allows 1,024 bytes, and each directory takes two or
// more. Deeper files are not objects.
const maxDepth = 512

// A walk yields the files within a range.
type walk struct {
	top    *os.Root
	within mirror.Range
	yield  func(full string, info fs.FileInfo) bool
}

// dir walks a directory. A root of its own saves the system from resolving the whole path of each file.
func (w *walk) dir(ctx context.Context, at string, above []fs.FileInfo) error {
	if len(above) > maxDepth {
		return nil
	}
	here, err := w.top.OpenRoot(at)
	if gone(err) {
		return nil // no longer a directory
	}
	if err != nil {
		return err
	}
	defer here.Close()
	itself, err := here.Stat(".")
	if err != nil {
		return err
	}
	if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, itself) }) {
		return nil // a link to a parent
	}
	above = append(slices.Clip(above), itself)

	entries, err := w.entries(here, at)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.dir {
			err = w.dir(ctx, e.full, above)
		} else {
			err = w.file(here, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// An entry of a directory is a file or, by its name or through a link, a directory.
type entry struct {
	full      string
	dir, link bool
}

// sortKey returns the key by which entries sort as their names, or the names below them, do.
func (e entry) sortKey() string {
	if e.dir {
		return e.full + "/"
	}
	return e.full
}

// entries returns the entries of a directory that concern the range, in byte order of their names.
func (w *walk) entries(here *os.Root, at string) ([]entry, error) {
	f, err := here.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var in []entry
	for _, a := range all {
		e := entry{full: path.Join(at, a.Name()), dir: a.IsDir(), link: a.Type()&fs.ModeSymlink != 0}
		if check(e.full) != nil {
			continue
		}
		if e.link {
			info, err := w.top.Stat(e.full)
			if err != nil {
				continue // a dangling link, or one out of the directory
			}
			e.dir = info.IsDir()
		}
		if w.concerns(e) {
			in = append(in, e)
		}
	}
	slices.SortFunc(in, func(a, b entry) int { return cmp.Compare(a.sortKey(), b.sortKey()) })
	return in, nil
}

// concerns reports whether the range holds the entry or may hold something below it.
func (w *walk) concerns(e entry) bool {
	r, key := w.within, e.sortKey()
	// The key of a directory is a prefix of all names below it and sorts before them.
	return (strings.HasPrefix(key, r.Prefix) || e.dir && strings.HasPrefix(r.Prefix, key)) &&
		(r.After == "" || key > r.After || e.dir && strings.HasPrefix(r.After, key)) &&
		(r.Until == "" || key < r.Until)
}

func (w *walk) file(here *os.Root, e entry) error {
	look, name := here.Lstat, path.Base(e.full)
	if e.link {
		look, name = w.top.Stat, e.full
	}
	info, err := look(name)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() && !w.yield(e.full, info) {
		return errEnough
	}
	return nil
}
