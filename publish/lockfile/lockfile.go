// Package lockfile reads spack.lock, which lists the packages of a Spack environment.
//
// Lock files of format 4 and later are read by their structure, because Spack raises the number without changing
// the parts that are read here. Older formats are errors: they name packages by hashes that no current buildcache
// has.
package lockfile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// oldest is the oldest supported format: that of Spack 0.18.
const oldest = 4

// maxDepth is the maximum depth of environments that include each other. Spack uses one or two levels.
const maxDepth = 100

// A Node is a package of an environment.
type Node struct {
	Name, Version string
	Hash          spec.Hash
	External      bool // installed outside Spack, never in a buildcache

	needs  []spec.Hash // by link and run
	builds []spec.Hash // by build and test
}

// ID names the package for people: zlib@1.3.1/hyibvwk.
func (n *Node) ID() string { return n.Name + "@" + n.Version + "/" + n.Hash.Short() }

// A Lock is the content of a lock file, including the environments that it includes.
type Lock struct {
	nodes map[spec.Hash]*Node
	roots []spec.Hash // may have duplicates
}

// Has reports whether a package belongs to the environment: as a root, as a dependency of any kind, or installed
// outside Spack.
func (l *Lock) Has(h spec.Hash) bool { return l.nodes[h] != nil }

// Hashes returns the hashes of all packages of the environment, sorted.
func (l *Lock) Hashes() []spec.Hash { return slices.Sorted(maps.Keys(l.nodes)) }

// Len returns the number of packages of the environment.
func (l *Lock) Len() int { return len(l.nodes) }

// All returns every package of the environment, in the order of their hashes: roots, dependencies of any kind,
// and packages installed outside Spack.
func (l *Lock) All() []*Node {
	return slices.SortedFunc(maps.Values(l.nodes), byHash)
}

func byHash(a, b *Node) int { return strings.Compare(string(a.Hash), string(b.Hash)) }

// Roots returns the roots of the environment, except those installed outside Spack, in the order of their
// hashes.
func (l *Lock) Roots() []*Node {
	var roots []*Node
	for _, h := range slices.Compact(slices.Sorted(slices.Values(l.roots))) {
		if n := l.nodes[h]; !n.External {
			roots = append(roots, n)
		}
	}
	return roots
}

// Needed returns the packages that are installed with the environment, in the order of their hashes: its roots,
// and their link and run dependencies. With builds it also returns their build dependencies. External packages,
// and packages that only they depend on, are left out.
func (l *Lock) Needed(builds bool) []*Node {
	needed := make(map[spec.Hash]*Node)
	for next := slices.Clone(l.roots); len(next) > 0; next = next[1:] {
		n := l.nodes[next[0]]
		if n.External || needed[n.Hash] != nil {
			continue
		}
		needed[n.Hash] = n
		next = append(next, n.needs...)
		if builds {
			next = append(next, n.builds...)
		}
	}
	return slices.SortedFunc(maps.Values(needed), byHash)
}

// An environment is a lock file, or the part of one about an included environment.
type environment struct {
	Meta *struct {
		Type    string         `json:"file-type"`
		Version jsontext.Value `json:"lockfile-version"`
	} `json:"_meta"`
	Roots []struct {
		Hash string `json:"hash"`
		Spec string `json:"spec"`
	} `json:"roots"`
	Specs   map[string]jsontext.Value `json:"concrete_specs"`
	Include map[string]environment    `json:"include_concrete"`
}

// Parse reads a lock file.
func Parse(text []byte) (*Lock, error) {
	var e environment
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("not a lock file of Spack: %w", err)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	l := &Lock{nodes: make(map[spec.Hash]*Node)}
	if err := l.add(e, 0); err != nil {
		return nil, err
	}
	for _, n := range l.nodes {
		for _, h := range slices.Concat(n.needs, n.builds) {
			if l.nodes[h] == nil {
				return nil, fmt.Errorf("%s depends on /%s, which the lock file does not hold", n.ID(), h)
			}
		}
	}
	return l, nil
}

func (e *environment) check() error {
	if e.Meta == nil || e.Meta.Type != "spack-lockfile" {
		return errors.New("not a lock file of Spack: its _meta has no file-type spack-lockfile")
	}
	var version int
	if err := json.Unmarshal(e.Meta.Version, &version); err != nil {
		return errors.New("its lockfile-version is no number")
	}
	if version < oldest {
		return fmt.Errorf("it has lockfile-version %d, older than %d, whose hashes are those of no buildcache today: write it again with `spack concretize --force`", version, oldest)
	}
	if e.Specs == nil {
		return fmt.Errorf("it has lockfile-version %d and no concrete_specs, so this release cannot read it", version)
	}
	return nil
}

// add adds the packages of an environment and of the environments that it includes.
func (l *Lock) add(e environment, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("more than %d environments include each other", maxDepth)
	}
	for key, v := range e.Specs {
		h, err := spec.ParseHash(key)
		if err != nil {
			return fmt.Errorf("concrete_specs: %w", err)
		}
		n, err := nodeOf(h, v)
		if err != nil {
			return fmt.Errorf("concrete_specs: /%s: %w", h, err)
		}
		l.nodes[h] = n
	}
	for _, r := range e.Roots {
		h, err := spec.ParseHash(r.Hash)
		if err != nil {
			return fmt.Errorf("roots: %w", err)
		}
		if l.nodes[h] == nil {
			return fmt.Errorf("roots: /%s is not among the concrete_specs", h)
		}
		l.roots = append(l.roots, h)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Include)) {
		if err := l.add(e.Include[name], depth+1); err != nil {
			return fmt.Errorf("include_concrete: %q: %w", name, err)
		}
	}
	return nil
}

func nodeOf(h spec.Hash, v jsontext.Value) (*Node, error) {
	var doc struct {
		Name     string         `json:"name"`
		Version  string         `json:"version"`
		Hash     string         `json:"hash"`
		External jsontext.Value `json:"external"`
		Needs    []struct {
			Hash       string         `json:"hash"`
			Type       jsontext.Value `json:"type"` // before Spack 0.21
			Parameters struct {
				Types jsontext.Value `json:"deptypes"`
			} `json:"parameters"`
		} `json:"dependencies"`
	}
	if err := json.Unmarshal(v, &doc); err != nil {
		return nil, err
	}
	if doc.Hash != "" && doc.Hash != string(h) {
		return nil, fmt.Errorf("its hash is %q, so the key is not the hash of a package", doc.Hash)
	}
	if doc.Name == "" || !spec.Readable(doc.Name) || !spec.Readable(doc.Version) {
		return nil, errors.New("it has no name and version that can be read")
	}
	n := &Node{Name: doc.Name, Version: doc.Version, Hash: h, External: doc.External != nil && doc.External.Kind() != 'n'}
	for _, d := range doc.Needs {
		dep, err := spec.ParseHash(d.Hash)
		if err != nil {
			return nil, fmt.Errorf("dependencies: %w", err)
		}
		types, err := typesOf(d.Type, d.Parameters.Types)
		if err != nil {
			return nil, fmt.Errorf("dependencies: /%s: %w", dep, err)
		}
		if slices.Contains(types, "link") || slices.Contains(types, "run") {
			n.needs = append(n.needs, dep)
		} else {
			n.builds = append(n.builds, dep)
		}
	}
	return n, nil
}

// typesOf returns the types of a dependency from the first place that has them.
func typesOf(places ...jsontext.Value) ([]string, error) {
	for _, v := range places {
		if v == nil {
			continue
		}
		var types []string
		if err := json.Unmarshal(v, &types); err != nil {
			return nil, errors.New("its kinds are no list")
		}
		return types, nil
	}
	return nil, errors.New("it does not say of which kind it is")
}
