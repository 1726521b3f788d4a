package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// reference matches the image in action.yml: a version for people, and a digest for machines.
var reference = regexp.MustCompile(`docker://` + regexp.QuoteMeta(repository) + `:([0-9A-Za-z.+-]+)@(sha256:[0-9a-f]{64})`)

func (s *source) actionFile() string { return filepath.Join(s.dir, "action.yml") }

// pinned returns the version and the digest in action.yml.
func (s *source) pinned() (version, digest string, err error) {
	text, err := os.ReadFile(s.actionFile())
	if err != nil {
		return "", "", err
	}
	found := reference.FindAllStringSubmatch(string(text), -1)
	if len(found) != 1 {
		return "", "", fmt.Errorf("%s: %d images of the form docker://%s:VERSION@sha256:DIGEST, not one", s.actionFile(), len(found), repository)
	}
	return found[0][1], found[0][2], nil
}

// pin writes the image of this source into action.yml.
func (s *source) pin(digest string) error {
	if _, _, err := s.pinned(); err != nil {
		return err
	}
	text, err := os.ReadFile(s.actionFile())
	if err != nil {
		return err
	}
	text = reference.ReplaceAll(text, fmt.Appendf(nil, "docker://%s:%s@%s", repository, s.version, digest))
	return os.WriteFile(s.actionFile(), text, 0o644)
}

// checkPin checks the image in action.yml. digest is that of the image of this source. If action.yml names this
// version, it must name this digest. While the version ends in -dev, between two releases, action.yml may still
// name an earlier release, whose image can be pulled.
func (s *source) checkPin(digest string) error {
	version, pinned, err := s.pinned()
	switch {
	case err != nil:
		return err
	case version == s.version && pinned == digest:
		return nil
	case version == s.version:
		return fmt.Errorf("action.yml names %s as the image of %s, and this source makes %s: run make digest", pinned, version, digest)
	case !strings.HasSuffix(s.version, "-dev") || !releasedBefore(version, s.version):
		return fmt.Errorf("action.yml names an image of %s, and this is the source of %s: run make digest", version, s.version)
	}
	return nil
}

// releasedBefore reports whether version is a release that is earlier than dev, a version under development.
func releasedBefore(version, dev string) bool {
	v, err := parseVersion(version)
	if err != nil {
		return false
	}
	d, err := parseVersion(strings.TrimSuffix(dev, "-dev"))
	if err != nil {
		return false
	}
	for i := range v {
		if v[i] != d[i] {
			return v[i] < d[i]
		}
	}
	return false
}

// parseVersion parses MAJOR.MINOR.PATCH. Any other form is an error.
func parseVersion(s string) (v [3]int, err error) {
	parts := strings.Split(s, ".")
	if len(parts) != len(v) {
		return v, fmt.Errorf("version %q is not MAJOR.MINOR.PATCH", s)
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || strconv.Itoa(n) != p || n < 0 {
			return v, fmt.Errorf("version %q is not MAJOR.MINOR.PATCH", s)
		}
		v[i] = n
	}
	return v, nil
}

// checkRelease checks that the whole source names the version of the release tag. The error lists all differences.
func (s *source) checkRelease(tag string) error {
	version, ok := strings.CutPrefix(tag, "v")
	if !ok {
		return fmt.Errorf("tag %q is not vMAJOR.MINOR.PATCH", tag)
	}
	if _, err := parseVersion(version); err != nil {
		return fmt.Errorf("tag %s: %w", tag, err)
	}
	var wrong []error
	if s.version != version {
		wrong = append(wrong, fmt.Errorf("tag %s: the version in cmd/publish/main.go is %s", tag, s.version))
	}
	if pinned, _, err := s.pinned(); err != nil {
		wrong = append(wrong, err)
	} else if pinned != version {
		wrong = append(wrong, fmt.Errorf("tag %s: action.yml names an image of %s", tag, pinned))
	}
	changes, err := os.ReadFile(filepath.Join(s.dir, "CHANGELOG.md"))
	if err != nil {
		wrong = append(wrong, err)
	} else if !strings.Contains(string(changes), "\n## ["+version+"]") {
		wrong = append(wrong, fmt.Errorf("tag %s: CHANGELOG.md has no section [%s]", tag, version))
	}
	return errors.Join(wrong...)
}
