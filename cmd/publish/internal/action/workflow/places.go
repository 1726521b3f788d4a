package workflow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A place is a directory that the container shares with its host.
type place struct {
	name  string // name in workflows
	here  string // its path in the container
	there string // path on the host, as other steps know it; empty: unknown
}

// visible reports whether the directory exists in the container.
func (p place) visible() bool {
	info, err := os.Stat(p.here)
	return p.here != "" && err == nil && info.IsDir()
}

// places are the workspace and the temporary directory. The runner gives their paths in the container. Their
// paths on the host follow from the directory of the workspaces of a repository, which the runner does not
// translate.
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

// below returns the part of path below dir, and whether path is below dir.
func below(path, dir string) (string, bool) {
	if dir == "" || !filepath.IsAbs(path) {
		return "", false
	}
	rel, err := filepath.Rel(dir, path)
	return rel, err == nil && filepath.IsLocal(rel)
}

// Here returns the path in the container of a path in a workflow: relative to the workspace, or absolute, in
// the container or on the host.
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

// There returns the path by which other steps know a path in the container.
func (r *Runner) There(path string) string {
	for _, p := range r.places() {
		if rel, ok := below(path, p.here); ok && p.there != "" {
			return filepath.Join(p.there, rel)
		}
	}
	return path
}

// owned lists the directories below runner.temp that belong to the runner. It executes files in some of them.
var owned = []string{"_runner_file_commands", "_github_home", "_github_workflow"}

// place returns the place that a path in the container is in, and the path below it.
func (r *Runner) place(path string, resolve func(string) (string, error)) (in place, rel string, ok bool) {
	for _, p := range r.places() {
		dir, err := resolve(p.here)
		if rel, ok := below(path, dir); ok && err == nil && p.visible() {
			first, _, _ := strings.Cut(rel, string(filepath.Separator))
			return p, rel, !slices.Contains(owned, first)
		}
	}
	return place{}, "", false
}

func asItIs(path string) (string, error) { return path, nil }

// resolved follows the symbolic links in a path in the container. It is an error if the result is outside of
// the workspace and the temporary directory. given is the path in the workflow.
func (r *Runner) resolved(given, path string) (string, error) {
	is, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	if _, _, ok := r.place(is, filepath.EvalSymlinks); !ok {
		if _, _, looks := r.place(path, asItIs); looks {
			return "", fmt.Errorf("%q leads by a symbolic link to %q, which is neither in github.workspace nor in runner.temp", given, is)
		}
		return "", fmt.Errorf("%q is neither in github.workspace nor in runner.temp", given)
	}
	return is, nil
}

// Directory returns the path of a directory in the container, without symbolic links. It is the workspace, the
// temporary directory, or in one of them. For a missing directory the error suggests another.
func (r *Runner) Directory(path string) (string, error) {
	dir := r.Here(path)
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return r.resolved(path, dir)
	case err == nil:
		return "", fmt.Errorf("%q is no directory", path)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	temp := r.places()[1]
	for _, of := range []string{temp.here, temp.there} {
		if _, ok := below(dir, of); ok && !temp.visible() {
			return "", fmt.Errorf("%q is below runner.temp, which container actions see since version 2.329.0 of the runner: update the runner, or have the buildcache below github.workspace", path)
		}
	}
	return "", fmt.Errorf("%q is not there. Of its host, an action in a container sees only %s", path, r.sight())
}

// maxListed is how many entries of a directory a message lists.
const maxListed = 20

// sight describes the visible directories.
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
