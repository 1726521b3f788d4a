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

// Places parses SOURCE and DESTINATION, and returns the directory of SOURCE and the URL of DESTINATION. It
// recognises typical mistakes: a misspelt command, swapped arguments, the inside of a mirror. It makes no
// request.
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

// CheckPlace returns an error for an invalid destination, and for a directory inside of a mirror. It makes no
// request.
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

// CheckUpstream returns all mistakes in the names of further mirrors of clients. It makes no request.
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

// absent returns an error if a place to read is neither a directory nor in S3.
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

// misread returns what the arguments were meant to be if SOURCE does not exist; nil if that is unclear.
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

// inside lists the names of the directories of a mirror.
var inside = []string{"v3", "blobs", "manifests", "build_cache"}

// InsideOf returns the mirror that a directory is part of; empty: none.
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

// OuterOf returns the parent of a place in S3 that is named like a part of a mirror; empty: it is not. Only a
// request can tell whether a mirror is there.
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
