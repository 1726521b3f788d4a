// Package alike groups equal messages about many files.
package alike

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

const (
	manyAlike  = 3  // this many equal findings become one line
	namedAlike = 5  // packages that such a line names
	maxLines   = 50 // lines at most
)

// A Remark is a message about one file. String is a line of its own.
type Remark interface {
	// Parts returns the file, the message, in one line, and a kind: remarks of two kinds are never grouped.
	Parts() (kind, file, reason string)
	String() string
}

// Lines returns remarks as a bounded number of lines, in their order. Equal remarks about several files become
// one line: 11 packages are not signed: zlib-1.3.1-hyibvwk, gcc-13.4.0-fncqki5 and 9 more. If whole is set,
// each is a line of its own.
func Lines[R Remark](remarks []R, whole bool) []string {
	var lines []string
	if whole {
		for _, r := range remarks {
			lines = append(lines, r.String())
		}
		return lines
	}
	type same struct{ kind, reason string }
	files := make(map[same][]string)
	for _, r := range remarks {
		kind, file, reason := r.Parts()
		reason = general(reason)
		files[same{kind, reason}] = append(files[same{kind, reason}], file)
	}
	said := 0
	for _, r := range remarks {
		kind, _, reason := r.Parts()
		reason = general(reason)
		alike := files[same{kind, reason}]
		switch {
		case len(alike) == 0: // printed already
		case len(lines) == maxLines:
			return append(lines, fmt.Sprintf("and %d more", len(remarks)-said))
		case len(alike) < manyAlike:
			lines = append(lines, r.String())
			said++
		default:
			said += len(alike)
			lines = append(lines, textOf(reason, slices.Compact(alike)))
			files[same{kind, reason}] = nil
		}
	}
	return lines
}

// content matches the name of the content of a package: a blob of layout v3, or a tarball of layout v2.
var content = regexp.MustCompile(`\bblobs/sha256/[0-9a-f]{2}/[0-9a-f]{64}\b|\bbuild_cache/\S+\.spack\b`)

// general returns a message about a file without the name of its content, which is different for each file.
func general(reason string) string { return content.ReplaceAllLiteralString(reason, "its content") }

// Few names the first five of a list, and counts the rest.
func Few(names []string) string {
	if len(names) <= namedAlike {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:namedAlike], ", "), len(names)-namedAlike)
}

// OneLine returns untrusted text unchanged if it has only visible characters, and otherwise quoted as in Go: a
// name in it must not look like a line of ours.
func OneLine(text string) string {
	if spec.Readable(text) {
		return text
	}
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

// textOf returns a message about several files.
func textOf(reason string, files []string) string {
	what := "packages"
	names := make([]string, 0, len(files))
	for _, f := range files {
		name, ok := shortName(f)
		if !ok {
			what, name = "objects", fmt.Sprintf("%q", f)
		}
		names = append(names, name)
	}
	text := fmt.Sprintf("%d %s", len(files), what)
	if said, ok := ofMany(reason); ok {
		text += " " + said
	} else {
		text += ": " + reason
	}
	return text + ": " + Few(names)
}

// ofMany turns a message about one file into the plural; false if that takes more than another verb.
func ofMany(reason string) (string, bool) {
	for one, many := range map[string]string{"it is ": "are ", "it has ": "have ", "it depends on ": "depend on "} {
		if rest, ok := strings.CutPrefix(reason, one); ok && !strings.Contains(rest, " it ") {
			return many + rest, true
		}
	}
	return "", false
}

// shortName returns the name of a package in a list: the name of its document, with a short hash, below the
// path of its mirror in a tree. It returns false if the file is not the document of a package.
func shortName(file string) (string, bool) {
	dir, base := path.Split(file)
	for _, suffix := range []string{".spec.manifest.json", ".spec.json.sig", ".spec.json"} {
		if name, ok := strings.CutSuffix(base, suffix); ok {
			if at := strings.LastIndexByte(name, '-'); at > 0 && len(name)-at > 8 {
				name = name[:at+8]
			}
			if !spec.Readable(dir + name) {
				return "", false
			}
			for _, inside := range []string{"v3/manifests/", "build_cache/"} {
				if at := strings.Index("/"+dir, "/"+inside); at >= 0 {
					dir = dir[:at]
				}
			}
			return dir + name, true
		}
	}
	return "", false
}
