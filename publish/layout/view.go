package layout

import (
	"fmt"
	"regexp"
	"strings"
)

// viewManifest is the last part of the name of every index pointer of layout v3.
const viewManifest = "index.manifest.json"

// V3View returns the name of the pointer of a named index. For an empty name it is the pointer of the whole
// mirror's index.
func V3View(view string) string {
	if view == "" {
		return V3Index
	}
	return V3Indices + view + "/" + viewManifest
}

// ParseV3View parses the name of the pointer of a named index, and returns the index's name.
func ParseV3View(name string) (view string, ok bool) {
	rest, ok := strings.CutPrefix(name, V3Indices)
	if !ok || name == V3Index {
		return "", false
	}
	return strings.CutSuffix(rest, "/"+viewManifest)
}

// maxView is the maximum length of a view's name in bytes. It keeps the keys of objects below the limit of
// S3.
const maxView = 200

var (
	viewPart = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	// Spack's clients split the key of their cache, URL__v3__NAME, at the last match.
	cacheKey = regexp.MustCompile(`__v[0-9]`)
)

// CheckView returns an error for a view's name that Spack's clients cannot find or would confuse with another
// name.
func CheckView(view string) error {
	wrong := func(reason string) error {
		return fmt.Errorf("%q cannot be the name of a view: %s; use letters, digits, '.', '_', '-', and '/' between parts, such as slurm/25.11", view, reason)
	}
	if len(view) > maxView {
		return wrong(fmt.Sprintf("it has more than %d bytes", maxView))
	}
	for part := range strings.SplitSeq(view, "/") {
		switch {
		case part == "":
			return wrong("a part of it is empty")
		case !viewPart.MatchString(part):
			return wrong(fmt.Sprintf("%q does not begin with a letter or digit, or has other characters", part))
		case strings.Contains(part, ".."):
			return wrong("it contains ..")
		case strings.HasSuffix(part, ".manifest.json"):
			return wrong("a part of it ends like the name of a manifest")
		}
	}
	if cacheKey.MatchString(view) {
		return wrong("Spack misreads __v followed by a digit")
	}
	return nil
}
