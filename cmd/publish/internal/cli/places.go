package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/shell"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// Places understands SOURCE and DESTINATION as they are written, and returns the directory of the one and the URL of the
// other. It recognises typical mistakes: a misspelt command, swapped arguments, the inside of a mirror. No request is made.
func Places(source, destination string, commands []string) (from, to string, err error) {
	from, err = target.Path(source)
	to = target.Canonical(destination)
	if err != nil {
		err = field.Wrap("source", err)
	}
	if apart := target.Apart(from, to); apart != nil {
		return from, to, field.Wrap("destination", apart)
	}
	if there(from) {
		if parent := InsideOf(from); parent != "" {
			err = errors.Join(err, field.Wrap("source", fmt.Errorf("SOURCE %s is the inside of a mirror: give its parent, %s", source, shell.Quote(parent))))
		}
	} else if meant := misread(source, destination, commands); meant != nil {
		return from, to, field.Wrap("source", meant)
	}
	return from, to, errors.Join(err, field.Wrap("destination", CheckPlace(destination)))
}

// CheckPlace refuses what can be no destination, and a directory inside of a mirror. No request is made.
func CheckPlace(where string) error {
	if err := target.Check(where); err != nil {
		return err
	}
	if dir, err := target.Path(where); err == nil {
		if parent := InsideOf(dir); parent != "" {
			return fmt.Errorf("destination %s is the inside of a mirror: give its parent, %s", redact.URL(where), shell.Quote(parent))
		}
	}
	return nil
}

// CheckUpstream returns all that is wrong with mirrors that clients have besides. No request is made.
func CheckUpstream(upstream []string) error {
	var errs []error
	for _, where := range upstream {
		var err error
		if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
			err = target.CheckPublicURL(where)
		} else if err = CheckPlace(where); err == nil {
			err = absent(where)
		}
		errs = append(errs, FailedAt(field.Place{Name: "--upstream"}, err))
	}
	return errors.Join(errs...)
}

// absent says that a place that is read is no directory, and nil if it is one, or in S3.
func absent(where string) error {
	dir, err := target.Path(where)
	if err != nil || strings.Contains(dir, "://") || there(dir) {
		return err
	}
	if host, _, _ := strings.Cut(dir, "/"); looksLikeHost.MatchString(host) {
		return Fail(ExitUsage, fmt.Errorf("destination %s is no directory here: want https://%[1]s or http://%[1]s if it is on a server", redact.URL(where)))
	}
	return fmt.Errorf("destination %s: %w: there is no such directory", redact.URL(where), buildcache.ErrNoMirror)
}

// looksLikeHost matches names such as cache.example.org and 127.0.0.1:8080, but not ../mirror.
var looksLikeHost = regexp.MustCompile(`^([A-Za-z0-9-]+\.)+[A-Za-z0-9-]+(:[0-9]+)?$|^[A-Za-z0-9-]+:[0-9]+$`)

// misread says what the arguments were meant to be if SOURCE is not there; nil if that cannot be told.
func misread(source, destination string, commands []string) error {
	if !strings.ContainsAny(source, "/.:") {
		given := shell.Quote(redact.URL(destination))
		switch n := help.Meant(source, commands); n {
		case "":
		case help.MainJob:
			return fmt.Errorf("%q is neither a directory nor a command: did you mean publish %s DESTINATION?", source, given)
		default:
			return fmt.Errorf("%q is neither a directory nor a command: did you mean publish %s %s?", source, n, given)
		}
	}
	dir, err := target.Path(destination)
	switch {
	case err == nil && there(dir) && (strings.Contains(source, "://") || HoldsMirror(dir)) || strings.HasPrefix(source, "s3://") && !strings.Contains(destination, "://"):
		return fmt.Errorf("SOURCE %s is not there, and DESTINATION %s is a directory: are the arguments swapped? want publish %s %s",
			redact.URL(source), redact.URL(destination), shell.Quote(redact.URL(destination)), shell.Quote(redact.URL(source)))
	case strings.Contains(source, "://") && !strings.HasPrefix(source, "file://"):
		return fmt.Errorf("SOURCE %s: want a directory of this machine: its path, or file:///directory", redact.URL(source))
	}
	return nil
}

func there(name string) bool {
	_, err := os.Stat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// inside are the names of directories that a mirror consists of.
var inside = []string{"v3", "blobs", "manifests", "build_cache"}

// InsideOf returns the mirror that a directory is a part of; empty: it is none.
func InsideOf(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil || !slices.Contains(inside, filepath.Base(abs)) || HoldsMirror(abs) {
		return ""
	}
	parent := filepath.Dir(strings.TrimRight(dir, "/"))
	if filepath.Base(abs) == "manifests" {
		parent = filepath.Dir(parent)
	}
	if !HoldsMirror(parent) {
		return ""
	}
	return parent
}

// HoldsMirror reports whether a directory looks like a mirror.
func HoldsMirror(dir string) bool {
	isDir := func(name string) bool {
		info, err := os.Stat(filepath.Join(dir, name))
		return err == nil && info.IsDir()
	}
	return slices.ContainsFunc(buildcache.Layouts(), func(l buildcache.Layout) bool { return l.Detect(isDir) })
}

// OuterOf returns the place around one in S3 that is called as a part of a mirror is; empty: it is not. Whether a mirror is there is
// for a request to say.
func OuterOf(where string) string {
	bucket, prefix, err := target.BucketAndPrefix(where)
	dir, name := path.Split(prefix)
	if err != nil || !slices.Contains(inside, name) {
		return ""
	}
	outer := strings.TrimSuffix(dir, "/")
	if name == "manifests" {
		outer = strings.TrimSuffix(path.Dir("/"+outer), "/")
	}
	return strings.TrimSuffix("s3://"+path.Join(bucket, outer), "/")
}
