package workflow

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// Read returns the content of a regular file in the workspace or in the temporary directory. Symbolic links may
// lead from one to the other, but to no other place.
func (r *Runner) Read(path string) ([]byte, error) {
	name, err := r.resolved(path, r.Here(path))
	if err != nil {
		return nil, err
	}
	content, err := userfile.ReadNoLink(name)
	var of *fs.PathError
	if errors.As(err, &of) {
		of.Path = path // the path that the workflow gave
	}
	return content, err
}

// A File is an output file for later steps.
type File struct {
	runner *Runner
	place  place
	rel    string
}

// File returns the file at a path of the workflow. It must be in the workspace or the temporary directory: the
// rest of the container is removed at the end.
func (r *Runner) File(path string) (*File, error) {
	p, rel, ok := r.place(r.Here(path), asItIs)
	switch {
	case ok && rel != ".":
		return &File{r, p, rel}, nil
	case rel != "" && rel != ".":
		return nil, fmt.Errorf("%q belongs to the runner", path)
	}
	return nil, fmt.Errorf("%q is neither below github.workspace nor below runner.temp, and the rest of this container is removed", path)
}

// Path is the path of the file in the container.
func (f *File) Path() string { return filepath.Join(f.place.here, f.rel) }

// Write replaces the file, and creates its directory. A later step sees the old file or the complete new one.
// File and directory get the owner of the place, because the next checkout cannot remove files of root from a
// workspace. Write follows no symbolic link, and replaces no file of the runner.
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
		if err := makeDir(root, f.rel[:i], owner); err != nil {
			return err
		}
	}
	if err := f.replaceable(root); err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(f.rel), ".publish-"+strings.ToLower(rand.Text()))
	err = writeNew(root, temp, content, owner)
	if err == nil {
		err = root.Rename(temp, f.rel)
	}
	if err != nil {
		_ = root.Remove(temp)
	}
	return err
}

// makeDir makes a directory unless it exists; a link to a directory is an error.
func makeDir(root *os.Root, name string, owner fs.FileInfo) error {
	switch err := root.Mkdir(name, 0o755); {
	case err == nil:
		return give(root, name, owner)
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	info, err := root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%q is no directory but %s", name, kind(info))
	}
	return err
}

func kind(info fs.FileInfo) string {
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeDir:
		return "a directory"
	case 0:
		return "a file"
	}
	return "a device or a pipe"
}

// fileCommands are the files that the runner reads and executes after a step.
var fileCommands = []string{"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_EVENT_PATH"}

// replaceable returns an error if the file must not be replaced.
func (f *File) replaceable(root *os.Root) error {
	is, err := root.Lstat(f.rel)
	if err == nil && !is.Mode().IsRegular() {
		return fmt.Errorf("%q is there: it is no regular file but %s", f.rel, kind(is))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, err := root.Lstat(filepath.Dir(f.rel))
	if err != nil {
		return err
	}
	for _, variable := range fileCommands {
		command := f.runner.getenv(variable)
		if command == "" {
			continue
		}
		// Compare the files, not the paths: the same directory may be mounted twice.
		its, err := os.Stat(filepath.Dir(command))
		if err == nil && filepath.Dir(f.rel) != "." && os.SameFile(its, dir) {
			return fmt.Errorf("%q is where the runner keeps $%s", f.rel, variable)
		}
		if one, err := os.Stat(command); err == nil && is != nil && os.SameFile(one, is) {
			return fmt.Errorf("%q is $%s", f.rel, variable)
		}
	}
	return nil
}

// writeNew writes a file that does not exist.
func writeNew(root *os.Root, name string, content []byte, owner fs.FileInfo) error {
	w, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err = w.Write(content); err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	return give(root, name, owner)
}

// give sets the owner and group of a file to those of to.
func give(root *os.Root, name string, to fs.FileInfo) error {
	want, ok := to.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if is, ok := info.Sys().(*syscall.Stat_t); ok && is.Uid == want.Uid && is.Gid == want.Gid {
		return nil
	}
	return root.Lchown(name, int(want.Uid), int(want.Gid))
}
