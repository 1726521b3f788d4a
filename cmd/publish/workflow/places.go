package workflow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A place is a directory that our container shares with the machine it runs on.
type place struct {
	name  string // what workflows call it
	here  string // its path in the container
	there string // its path on the machine, by which other steps know it; empty: not known
}

// visible reports whether the directory is here at all.
func (p place) visible() bool {
	info, err := os.Stat(p.here)
	return p.here != "" && err == nil && info.IsDir()
}

// places are the workspace and the temporary directory. The runner tells us their paths
// in here; those on the machine follow from where it keeps the workspaces of a
// repository, which it does not translate.
func (r *Runner) places() []place {
	workspace := place{name: "github.workspace", here: r.getenv("GITHUB_WORKSPACE")}
	temp := place{name: "runner.temp", here: r.getenv("RUNNER_TEMP")}
	if workspace.here == "" {
		workspace.here, _ = os.Getwd()
	}
	_, repository, _ := strings.Cut(r.getenv("GITHUB_REPOSITORY"), "/")
	if of := r.getenv("RUNNER_WORKSPACE"); of != "" && repository != "" {
		workspace.there = filepath.Join(of, repository)
		temp.there = filepath.Join(filepath.Dir(of), "_temp")
	}
	return []place{workspace, temp}
}

// below returns what comes after dir in path, and whether it is there at all.
func below(path, dir string) (string, bool) {
	if dir == "" || !filepath.IsAbs(path) {
		return "", false
	}
	rel, err := filepath.Rel(dir, path)
	return rel, err == nil && filepath.IsLocal(rel)
}

// Here returns the path in this container of what a workflow calls path: relative to
// the workspace, or absolute, in here or on the machine.
func (r *Runner) Here(path string) string {
	path = strings.TrimPrefix(path, "file://")
	places := r.places()
	if !filepath.IsAbs(path) {
		return filepath.Join(places[0].here, path)
	}
	for _, p := range places {
		if rel, ok := below(path, p.there); ok && p.visible() {
			return filepath.Join(p.here, rel)
		}
	}
	return filepath.Clean(path)
}

// There returns the path by which other steps know a file that is called path in here.
func (r *Runner) There(path string) string {
	for _, p := range r.places() {
		if rel, ok := below(path, p.here); ok && p.there != "" {
			return filepath.Join(p.there, rel)
		}
	}
	return path
}

// Directory returns where a directory is in here. One that is not is an error that says
// what could have been meant.
func (r *Runner) Directory(path string) (string, error) {
	dir := r.Here(path)
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return dir, nil
	case err == nil:
		return "", fmt.Errorf("%q is no directory", path)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	temp := r.places()[1]
	for _, of := range []string{temp.here, temp.there} {
		if _, ok := below(dir, of); ok && !temp.visible() {
			return "", fmt.Errorf("%q is below runner.temp, which container actions see from version 2.329.0 of the runner on: update the runner, or have the buildcache below github.workspace", path)
		}
	}
	return "", fmt.Errorf("%q is not there. An action in a container sees of its machine only %s", path, r.sight())
}

// maxListed is how much of a directory a message lists.
const maxListed = 20

// sight says what there is to see.
func (r *Runner) sight() string {
	var all []string
	for _, p := range r.places() {
		if !p.visible() {
			continue
		}
		entries, err := os.ReadDir(p.here)
		if err != nil {
			continue
		}
		var names []string
		for _, e := range entries {
			name := fmt.Sprintf("%q", e.Name())
			if e.IsDir() {
				name = fmt.Sprintf("%q", e.Name()+"/")
			}
			names = append(names, name)
		}
		holds := "empty"
		if n := len(names); n > maxListed {
			holds = fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], " "), n-maxListed)
		} else if n > 0 {
			holds = strings.Join(names, " ")
		}
		all = append(all, fmt.Sprintf("%s (%s)", p.name, holds))
	}
	return strings.Join(all, " and ")
}

// A File is one that is to be written where later steps can read it.
type File struct {
	place place
	rel   string
}

// File returns the file that a workflow calls path. It must be in the workspace or the
// temporary directory: nothing else of us is left when we have ended.
func (r *Runner) File(path string) (*File, error) {
	here := r.Here(path)
	for _, p := range r.places() {
		if rel, ok := below(here, p.here); ok && rel != "." && p.visible() {
			return &File{p, rel}, nil
		}
	}
	return nil, fmt.Errorf("%q is neither below github.workspace nor below runner.temp, and nothing else of this container is left", path)
}

// Path is where the file is in here.
func (f *File) Path() string { return filepath.Join(f.place.here, f.rel) }

// Write writes the file, and makes its directory. Both belong to whom the place belongs
// to: what root owns in a workspace, the next checkout cannot remove. No symbolic link
// leads out of the place.
func (f *File) Write(content []byte) error {
	root, err := os.OpenRoot(f.place.here)
	if err != nil {
		return err
	}
	defer root.Close()
	owner, err := root.Stat(".")
	if err != nil {
		return err
	}
	for i, c := range f.rel {
		if c != filepath.Separator {
			continue
		}
		err := root.Mkdir(f.rel[:i], 0o755)
		if err == nil {
			err = give(root, f.rel[:i], owner)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if info, err := root.Stat(f.rel); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%q is there and no regular file", f.rel)
	}
	if err := root.WriteFile(f.rel, content, 0o644); err != nil {
		return err
	}
	return give(root, f.rel, owner)
}

// give makes a file somebody's.
func give(root *os.Root, name string, to fs.FileInfo) error {
	want, ok := to.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := root.Stat(name)
	if err != nil {
		return err
	}
	if is, ok := info.Sys().(*syscall.Stat_t); ok && is.Uid == want.Uid && is.Gid == want.Gid {
		return nil
	}
	return root.Chown(name, int(want.Uid), int(want.Gid))
}
