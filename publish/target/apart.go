package target

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// Apart returns an error if SOURCE and a DESTINATION directory contain each other, because each run would publish
// what the previous run has written. It resolves symbolic links and mounts. A directory that does not exist yet is
// judged by its nearest existing parent.
func Apart(source, destination string) error {
	u, err := url.Parse(Canonical(destination))
	if err != nil || u.Scheme != "file" || source == "" || u.Path == "" {
		return nil // not a directory, or invalid: opening it returns the error
	}
	var problem string
	switch from, to := above(source), above(u.Path); {
	case from.there && to.there && os.SameFile(from.dirs[0], to.dirs[0]):
		return refused(fmt.Errorf("SOURCE and DESTINATION are the same directory, %s: `publish index DESTINATION` makes its index", source))
	case from.there && to.has(from.dirs[0]):
		problem = "DESTINATION is inside of SOURCE"
	case to.there && from.has(to.dirs[0]):
		problem = "SOURCE is inside of DESTINATION"
	default:
		return nil
	}
	return refused(fmt.Errorf("%s: %s and %s: a run would publish what the last one has written; give a directory beside it", problem, source, u.Path))
}

// A lineage is a directory, if it exists, and all directories above it.
type lineage struct {
	there bool
	dirs  []fs.FileInfo
}

func (l lineage) has(dir fs.FileInfo) bool {
	for _, d := range l.dirs {
		if os.SameFile(d, dir) {
			return true
		}
	}
	return false
}

func above(dir string) (l lineage) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return l
	}
	real, err := filepath.EvalSymlinks(abs)
	l.there = err == nil
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(abs) != abs {
		abs = filepath.Dir(abs)
		real, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return l
	}
	for {
		info, err := os.Stat(real)
		if err != nil {
			return lineage{}
		}
		l.dirs = append(l.dirs, info)
		if filepath.Dir(real) == real {
			return l
		}
		real = filepath.Dir(real)
	}
}
