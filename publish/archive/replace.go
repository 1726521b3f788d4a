package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// Replaceable returns an error for names under which no export can be written, and for existing files except
// earlier exports that this export does not build on.
func Replaceable(name string, bases []string) error {
	if scheme, _, ok := strings.Cut(name, "://"); ok {
		return fmt.Errorf("%s: FILE is the path of a file on this machine, not an address with %s://", name, scheme)
	}
	if dir, err := os.Stat(filepath.Dir(name)); name == "" || err != nil || !dir.IsDir() {
		return errors.Join(fmt.Errorf("FILE is %q: want the path of a file in a directory that exists", name), err)
	}
	for _, written := range []string{name, name + partial} {
		info, err := os.Lstat(written)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is %s, %w: an export would replace it; give another name", written, userfile.Kind(info.Mode()), userfile.ErrNotRegular)
		}
		for _, base := range bases {
			if other, err := os.Stat(base); err == nil && os.SameFile(info, other) {
				return fmt.Errorf("%s is the earlier export %s, which this one builds on and would replace: give another name", written, base)
			}
		}
	}
	r, err := Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer r.Close()
	}
	if err == nil && !r.exported() {
		err = fmt.Errorf("%s: %w", name, ErrFormat)
	}
	if err != nil {
		return fmt.Errorf("%w; only a file that publish export wrote is replaced: remove this one if it is not needed, or give another name", err)
	}
	return nil
}

// exported reports whether a Writer has written the file, from a mirror with an index.
func (r *Reader) exported() bool {
	return !r.foreign && slices.ContainsFunc(r.names, func(name string) bool {
		return strings.HasPrefix(name, "v3/") || strings.HasPrefix(name, "build_cache/")
	})
}

// ours reports whether a Writer could have written a header: without a time and an owner.
func ours(h *tar.Header) bool {
	return h.ModTime.Unix() == 0 && h.Uid == 0 && h.Gid == 0 && h.Uname == "" && h.Gname == "" && h.Mode == mode
}
