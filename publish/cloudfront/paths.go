package cloudfront

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

const (
	// LongestPath is the maximum length of a path in bytes.
	LongestPath = 4000
	// maxPaths is the maximum number of paths that CloudFront processes at a time for a distribution.
	maxPaths = 3000
	// MaxWildcards is the maximum number of paths ending in * that it processes at a time, beside the others.
	MaxWildcards = 15
)

// Path returns the path to invalidate for an object, as viewers request it: the object's name after prefix. If the
// distribution's origin path leads into the bucket, or a behaviour adds something, prefix is the rest. It may be
// empty or like /x/y.
//
// A name with a ~ yields a wildcard that ends before it: CloudFront refuses a bare ~, and accepts %7E without
// invalidating what viewers requested with ~ (aws-sdk-js-v3#4042).
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

// encode encodes the characters that CloudFront requires to be encoded: those that RFC 1738 calls unsafe, those
// beyond ASCII, and ?, which would begin a query. CloudFront would take any other encoding for another path.
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

// Paths returns the paths to invalidate for objects: the Path of each, sorted. If there are more than limit or more
// than CloudFront accepts, it returns one wildcard for their common directory. A limit below 1 means no limit.
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

// commonDirectory returns the longest common directory of sorted paths, with a trailing slash.
func commonDirectory(paths []string) string {
	// The common beginning of the first and the last is common to all between them.
	first, last := paths[0], paths[len(paths)-1]
	n := 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	return first[:strings.LastIndexByte(first[:n], '/')+1]
}

// Reference returns the CallerReference of an invalidation. It is the same for the same paths and token, so that
// repeating a request whose answer was lost, even in another process on another day, returns the existing
// invalidation.
func Reference(distribution, token string, paths []string) string {
	h := sha256.New()
	for _, s := range append([]string{distribution, token}, slices.Sorted(slices.Values(paths))...) {
		fmt.Fprintf(h, "%d:%s,", len(s), s) // so that different lists have different encodings
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}
