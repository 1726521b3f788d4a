package spec

import (
	"fmt"
	"regexp"
	"strings"
)

// The syntax of versions (spack 0.23 to 1.2, version/version_types.py and version/common.py).
var (
	standardVersion = regexp.MustCompile(`^[A-Za-z0-9_.-][=A-Za-z0-9_.-]*$`)
	commit          = regexp.MustCompile(`^[a-f0-9]{40}$`)
)

// checkVersion refuses text that Spack cannot parse as a version. A version is a standard version such as
// 1.2-rc1, or a git version such as git.feature/x=1.2, whose reference may contain anything but another
// equals sign.
func checkVersion(s string) error {
	standard := s
	if isGitVersion(s) {
		_, version, paired := strings.Cut(strings.TrimPrefix(s, "git."), "=")
		if !paired {
			return nil
		}
		if strings.Contains(version, "=") {
			return fmt.Errorf("%.80q is a git version with more than one =", s)
		}
		standard = version
	}
	standard = strings.TrimSpace(standard)
	if standard != "" && !standardVersion.MatchString(standard) {
		return fmt.Errorf("%.80q is no version", s)
	}
	for _, number := range strings.FieldsFunc(standard, func(r rune) bool { return r < '0' || r > '9' }) {
		if len(number) > maxDigits {
			return fmt.Errorf("it has a number of %d digits, more than Python's %d", len(number), maxDigits)
		}
	}
	return nil
}

// isGitVersion reports whether s is a git version, like Spack's function of that name.
func isGitVersion(s string) bool {
	return strings.HasPrefix(s, "git.") || commit.MatchString(s) || s != "" && strings.Contains(s[1:], "=")
}
