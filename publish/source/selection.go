package source

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/lockfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Selection selects packages of the source.
type Selection struct {
	// Include and Exclude hold patterns: a name (slurm), a name and a version (slurm@25.*), or a slash and
	// the beginning of a hash (/hyibvwk). Names and versions may contain *, ? and [...]. @FILE stands for
	// every package of a lock file. Without an Include pattern, everything is included.
	Include, Exclude []string
	// Locks are the lock files of the patterns @FILE, by FILE: see ReadLocks.
	Locks map[string]*lockfile.Lock
	// Documents are the names, below SOURCE, of the documents to read. No other documents are searched. Nil:
	// all documents.
	Documents []string
	// OS and Target are patterns such as ubuntu22.04 and x86_64*. One of each must match what a package was
	// built for. A package that matches none is refused, not left out.
	OS, Target []string
	// Layout selects mirrors of layout v3 or v2. Empty: both.
	Layout string
	// NoKeys leaves out the public keys of the source.
	NoKeys bool
	// Files are patterns of plain files to publish next to the mirrors, below SOURCE:
	// dist/*.tar.gz.
	Files []string
}

// Validate returns everything that is wrong with a selection, as errors of package field.
func (s Selection) Validate() error {
	var wrong []error
	each := func(setting string, patterns []string, check func(string) error) {
		for _, p := range patterns {
			wrong = append(wrong, field.Wrap(setting, check(p)))
		}
	}
	each("include", s.Include, checkPattern)
	each("exclude", s.Exclude, checkPattern)
	if _, known := buildcache.LayoutNamed(s.Layout); s.Layout != "" && !known {
		wrong = append(wrong, field.Wrap("layout", fmt.Errorf("layout %q: want %s", s.Layout, strings.Join(buildcache.LayoutNames(), " or "))))
	}
	each("expect-os", s.OS, checkGlob)
	each("expect-target", s.Target, checkGlob)
	each("files", s.Files, checkGlob)
	return errors.Join(wrong...)
}

func checkPattern(p string) error {
	name, version, _ := strings.Cut(p, "@")
	if strings.HasPrefix(p, "/") || strings.HasPrefix(p, "@") {
		name, version = p[1:], ""
	}
	if strings.HasPrefix(p, "-") {
		return fmt.Errorf("pattern %q: this is a flag, and the one before it lacks its value", p)
	}
	if name == "" || !strings.HasPrefix(p, "@") && (!valid(name) || !valid(version)) {
		return fmt.Errorf("pattern %q: want name, name@version, /hash or @spack.lock", p)
	}
	return nil
}

func checkGlob(p string) error {
	if strings.HasPrefix(p, "--") {
		return fmt.Errorf("pattern %q: this is a flag, and the one before it lacks its value", p)
	}
	if p == "" || !valid(p) {
		return fmt.Errorf("pattern %q: want a name that may hold *, ? and [...]", p)
	}
	return nil
}

// ReadLocks reads the lock files that patterns name.
func (s *Selection) ReadLocks(read func(name string) ([]byte, error)) error {
	s.Locks = nil
	for _, p := range append(append([]string{}, s.Include...), s.Exclude...) {
		file, ok := strings.CutPrefix(p, "@")
		if !ok || s.Locks[file] != nil {
			continue
		}
		text, err := read(file)
		if err != nil {
			return fmt.Errorf("pattern %q: %w", p, err)
		}
		lock, err := lockfile.Parse(text)
		if err != nil {
			return fmt.Errorf("pattern %q: %s: %w", p, file, err)
		}
		if s.Locks == nil {
			s.Locks = make(map[string]*lockfile.Lock)
		}
		s.Locks[file] = lock
	}
	return nil
}

// reportLacking warns about root packages of a lock file that SOURCE does not have.
func (src *Source) reportLacking(sel Selection) {
	has := make(map[spec.Hash]bool)
	for _, m := range src.Mirrors {
		for _, p := range m.Packages {
			has[p.Hash] = true
		}
		for p := range m.Refused {
			has[p.Hash] = true
		}
	}
	for _, pattern := range sel.Include {
		file, ok := strings.CutPrefix(pattern, "@")
		if lock := sel.Locks[file]; ok && lock != nil {
			for _, n := range lock.Roots() {
				named := &buildcache.Package{SpecName: layout.SpecName{Package: n.Name, Version: n.Version, Hash: n.Hash}}
				src.match(sel, named)
				if !has[n.Hash] && !sel.matches(sel.Exclude, named) {
					src.report(buildcache.Warning, file, "the environment is made for "+n.ID()+", which is not in SOURCE")
				}
			}
		}
	}
}

// match records the patterns that match a package.
func (src *Source) match(sel Selection, p *buildcache.Package) {
	src.idle = slices.DeleteFunc(src.idle, func(pattern string) bool { return sel.matches([]string{pattern}, p) })
}

// reportIdle warns about patterns that match no package, since a misspelt pattern excludes nothing. names are
// the package names in SOURCE.
func (src *Source) reportIdle(names []string) {
	for _, p := range src.idle {
		if strings.HasPrefix(p, "@") {
			continue // reportLacking names the missing packages
		}
		name, _, _ := strings.Cut(p, "@")
		meant := ""
		if _, there := slices.BinarySearch(names, name); !there {
			meant = nearest.DidYouMean(name, names)
		}
		src.report(buildcache.Warning, "", fmt.Sprintf("the pattern %s matches no package%s", p, meant))
	}
}

func valid(pattern string) bool {
	_, err := path.Match(pattern, "")
	return err == nil
}

func (s Selection) layout(f buildcache.Layout) bool { return s.Layout == "" || s.Layout == f.Name() }

func (s Selection) picks(p *buildcache.Package) bool {
	return (len(s.Include) == 0 || s.matches(s.Include, p)) && !s.matches(s.Exclude, p)
}

func (s Selection) matches(patterns []string, p *buildcache.Package) bool {
	for _, pattern := range patterns {
		if file, ok := strings.CutPrefix(pattern, "@"); ok {
			if lock := s.Locks[file]; lock != nil && lock.Has(p.Hash) {
				return true
			}
			continue
		}
		if hash, ok := strings.CutPrefix(pattern, "/"); ok {
			if strings.HasPrefix(string(p.Hash), hash) {
				return true
			}
			continue
		}
		name, version, hasVersion := strings.Cut(pattern, "@")
		if match(name, p.Package) && (!hasVersion || match(version, p.Version)) {
			return true
		}
	}
	return false
}

// match is like path.Match, but * and ? also match a slash, since versions may contain one.
func match(pattern, s string) bool {
	ok, _ := path.Match(unslashed.Replace(pattern), unslashed.Replace(s))
	return ok
}

// unslashed replaces the slash, which path.Match treats specially, by a character that no name contains.
var unslashed = strings.NewReplacer("/", "\x00")

// Mismatch returns how a package differs from the expected OS or target; empty if it matches.
func (s Selection) Mismatch(p *buildcache.Package) string {
	root := p.Spec.Root()
	if reason := mismatch("os", root.OS, s.OS); reason != "" {
		return reason
	}
	return mismatch("target", root.Target, s.Target)
}

func mismatch(what, got string, patterns []string) string {
	if len(patterns) == 0 {
		return ""
	}
	for _, p := range patterns {
		if match(p, got) {
			return ""
		}
	}
	return fmt.Sprintf("it was built for the %s %s, expected is %s", what, got, strings.Join(patterns, " or "))
}
