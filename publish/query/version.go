package query

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Version is a version as Spack compares it (spack 1.2, version/version_types.py).
type Version struct {
	text       string
	release    []component
	prerelease []component // the kind of prerelease, and its number if it has one

	// The version of a git reference, such as git.main=develop, compares as the version after the equals sign.
	// Without an equals sign it cannot be compared.
	ref     string
	git     bool
	unknown bool // a git version without a version after the equals sign
}

// A component is a part of a version: a word, a number or one of the endless words.
type component struct {
	kind componentKind
	text string // a word, or a number without leading zeros
	rank int    // order of an endless word or of a kind of prerelease
}

type componentKind int

const (
	word componentKind = iota
	number
	endless
)

// endlessWords are greater than every number, in this order.
var endlessWords = []string{"stable", "nightly", "trunk", "head", "master", "main", "develop"}

var prereleases = map[string]int{"alpha": 0, "beta": 1, "rc": 2, "final": final}

// final is the kind of a version that is not a prerelease.
const final = 3

var (
	validVersion = regexp.MustCompile(`^[A-Za-z0-9_.-][=A-Za-z0-9_.-]*$`)
	segment      = regexp.MustCompile(`(?:([0-9]+)|([a-zA-Z]+))[_.-]*`)
	commitHash   = regexp.MustCompile(`^[A-Fa-f0-9]{40}$`)
)

// ParseVersion reads the version of a package.
func ParseVersion(text string) (Version, error) {
	git := strings.HasPrefix(text, "git.") || commitHash.MatchString(text) || text != "" && strings.Contains(text[1:], "=")
	if !git {
		return parseStandard(text)
	}
	ref, version, known := strings.Cut(strings.TrimPrefix(text, "git."), "=")
	if !known {
		return Version{text: text, ref: ref, git: true, unknown: true}, nil
	}
	v, err := parseStandard(version)
	v.text, v.ref, v.git = text, ref, true
	return v, err
}

func parseStandard(text string) (Version, error) {
	trimmed := strings.TrimSpace(text)
	if trimmed != "" && !validVersion.MatchString(trimmed) {
		return Version{}, fmt.Errorf("%q is no version", text)
	}
	segments := segment.FindAllStringSubmatch(trimmed, -1)
	v := Version{text: text, prerelease: []component{rankOf(final)}}
	n := len(segments)
	if n >= 3 && segments[n-1][1] != "" && isPrerelease(segments[n-2][2]) {
		v.prerelease = []component{rankOf(prereleases[segments[n-2][2]]), numberOf(segments[n-1][1])}
		segments = segments[:n-2]
	} else if n >= 2 && isPrerelease(segments[n-1][2]) {
		v.prerelease = []component{rankOf(prereleases[segments[n-1][2]])}
		segments = segments[:n-1]
	}
	for _, s := range segments {
		if s[1] != "" {
			v.release = append(v.release, numberOf(s[1]))
		} else {
			v.release = append(v.release, wordOf(s[2]))
		}
	}
	return v, nil
}

func isPrerelease(text string) bool {
	_, ok := prereleases[text]
	return ok
}

func rankOf(n int) component { return component{kind: number, text: "", rank: n} }

func numberOf(digits string) component {
	return component{kind: number, text: strings.TrimLeft(digits, "0")}
}

func wordOf(text string) component {
	if i := slices.Index(endlessWords, text); i >= 0 {
		return component{kind: endless, rank: i}
	}
	return component{kind: word, text: text}
}

// String returns the version as it was written.
func (v Version) String() string { return v.text }

// Compare orders versions as Spack does.
func (v Version) Compare(w Version) int {
	return cmp.Or(
		slices.CompareFunc(v.release, w.release, component.compare),
		slices.CompareFunc(v.prerelease, w.prerelease, component.compare),
	)
}

func (c component) compare(d component) int {
	switch {
	case c.kind != d.kind:
		return cmp.Compare(c.kind, d.kind)
	case c.kind == word:
		return cmp.Compare(c.text, d.text)
	case c.kind == endless || c.text == "" && d.text == "":
		return cmp.Compare(c.rank, d.rank)
	}
	return cmp.Or(cmp.Compare(len(c.text), len(d.text)), cmp.Compare(c.text, d.text))
}

// A versionRange holds the versions from lo up to, but not including, end. A single version is exact.
type versionRange struct {
	lo, end Version
	exact   bool
	all     bool // the range ":", which has every version
}

// lowest and highest are the ends of a range without bounds.
var (
	lowest  = Version{prerelease: []component{rankOf(0)}}
	highest = Version{release: []component{{kind: endless, rank: len(endlessWords)}}, prerelease: []component{rankOf(final)}}
)

// parseVersions parses the text after the @ of a query: versions and ranges, separated by commas.
func parseVersions(text string) ([]versionRange, error) {
	text = strings.Join(strings.Fields(text), "")
	var all []versionRange
	for _, part := range strings.Split(text, ",") {
		r, err := parseRange(part)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func parseRange(text string) (versionRange, error) {
	from, to, ranged := strings.Cut(text, ":")
	if exact, ok := strings.CutPrefix(text, "="); ok && !ranged {
		v, err := ParseVersion(exact)
		return versionRange{lo: v, exact: true}, err
	}
	if !ranged {
		v, err := ParseVersion(text)
		if err != nil {
			return versionRange{}, err
		}
		if v.git {
			return versionRange{lo: v, exact: true}, nil
		}
		return versionRange{lo: v, end: v.next()}, nil
	}
	lo, hi := lowest, highest
	var err error
	if from != "" {
		if lo, err = parseStandard(from); err != nil {
			return versionRange{}, err
		}
	}
	if to != "" {
		if hi, err = parseStandard(to); err != nil {
			return versionRange{}, err
		}
	}
	r := versionRange{lo: lo, end: hi.next(), all: from == "" && to == ""}
	if r.end.Compare(r.lo) < 0 {
		return r, fmt.Errorf("%q is an empty range of versions", text)
	}
	return r, nil
}

// holds reports whether a version is in the range.
func (r versionRange) holds(v Version) bool {
	switch {
	case r.exact && r.lo.git:
		return v.git && v.ref == r.lo.ref && v.unknown == r.lo.unknown && v.Compare(r.lo) == 0
	case r.exact:
		return !v.git && v.Compare(r.lo) == 0
	case v.unknown:
		return r.all
	}
	return r.lo.Compare(v) <= 0 && v.Compare(r.end) < 0
}

// meets reports whether a version can be in both ranges.
func (r versionRange) meets(s versionRange) bool {
	switch {
	case r.exact:
		return s.holds(r.lo)
	case s.exact:
		return r.holds(s.lo)
	}
	return r.lo.Compare(s.end) < 0 && s.lo.Compare(r.end) < 0
}

// next returns the first version after v and all versions that begin with v: 1.3 for 1.2, 1.2-rc2 for 1.2-rc1.
func (v Version) next() Version {
	w := Version{release: slices.Clone(v.release), prerelease: slices.Clone(v.prerelease)}
	switch last := len(w.release) - 1; {
	case w.prerelease[0].rank != final && len(w.prerelease) > 1:
		w.prerelease[1] = w.prerelease[1].next()
	case w.prerelease[0].rank != final:
		w.prerelease = append(w.prerelease, numberOf("0"))
	case last < 0:
		w.release = []component{{kind: word, text: "A"}}
	default:
		w.release[last] = w.release[last].next()
	}
	return w
}

func (c component) next() component {
	switch c.kind {
	case endless:
		c.rank++
	case number:
		c.text = increment(c.text)
	case word:
		for c.text = nextWord(c.text); slices.Contains(endlessWords, c.text); {
			c.text = nextWord(c.text)
		}
	}
	return c
}

// increment adds one to a number of any length.
func increment(digits string) string {
	sum := []byte(digits)
	for i := len(sum) - 1; i >= 0; i-- {
		if sum[i]++; sum[i] <= '9' {
			return string(sum)
		}
		sum[i] = '0'
	}
	return "1" + string(sum)
}

// nextWord returns the next word in the order of words of letters.
func nextWord(w string) string {
	if w == "" || w[len(w)-1] == 'z' {
		return w + "A"
	}
	last := w[len(w)-1] + 1
	if w[len(w)-1] == 'Z' {
		last = 'a'
	}
	return w[:len(w)-1] + string(last)
}
