package cloudfront

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

const (
	// LongestPath is how many bytes a path may have.
	LongestPath = 4000
	// maxPaths is how many paths CloudFront works at at one time for a distribution.
	maxPaths = 3000
	// MaxWildcards is how many paths that end with * it works at, beside the others.
	MaxWildcards = 15
)

// Path is what to invalidate for an object: what viewers ask for, which is the object's
// name after prefix. Where the distribution's origin path already leads into the bucket,
// or a behaviour adds something, prefix is the rest; it may be empty or like /x/y.
//
// A name with a ~ yields a wildcard that ends before it: CloudFront refuses a bare ~, and
// takes %7E without forgetting what viewers got under ~ (aws-sdk-js-v3#4042).
func Path(prefix, name string) string {
	p := "/" + name
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		p = "/" + prefix + p
	}
	known, _, tilde := strings.Cut(p, "~")
	if tilde {
		return encode(known) + "*"
	}
	return encode(p)
}

// encode encodes what CloudFront wants to be encoded, the characters that RFC 1738 calls
// unsafe and those beyond ASCII, and a ?, which would begin a query. What else is encoded
// it would take for another path.
func encode(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`<>"#%{}|\^[]`+"`?", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Paths is what to invalidate for objects: the Path of each, sorted, or, if these are more
// than limit or than CloudFront takes, one wildcard for the directory that all are in. No
// limit below 1 binds.
func Paths(prefix string, names []string, limit int) []string {
	var paths []string
	for _, name := range names {
		paths = append(paths, Path(prefix, name))
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	if limit < 1 || limit > maxPaths {
		limit = maxPaths
	}
	if len(paths) > limit || wildcards(paths) > MaxWildcards {
		return []string{commonDirectory(paths) + "*"}
	}
	return paths
}

func wildcards(paths []string) int {
	n := 0
	for _, p := range paths {
		if strings.HasSuffix(p, "*") {
			n++
		}
	}
	return n
}

// commonDirectory is the longest directory, with the slash at its end, of sorted paths.
func commonDirectory(paths []string) string {
	// What the first and the last have in common, all between them have.
	first, last := paths[0], paths[len(paths)-1]
	n := 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	return first[:strings.LastIndexByte(first[:n], '/')+1]
}

// Reference is the CallerReference of an invalidation: the same for the same paths and
// the same token, so that whoever repeats a request whose answer was lost, be it
// another process on another day, gets the invalidation that there is.
func Reference(distribution, token string, paths []string) string {
	h := sha256.New()
	for _, s := range append([]string{distribution, token}, slices.Sorted(slices.Values(paths))...) {
		fmt.Fprintf(h, "%d:%s,", len(s), s) // so that no two lists look alike
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}
