// Package spec reads concrete Spack specs: a package with all its dependencies.
//
// A spec is accepted only if the readers of Spack accept it (contract.go): a single unreadable node in an
// index hides all packages of the mirror.
//
// Only the parts that publishing needs are decoded. The JSON of a node is kept verbatim, because an index
// must repeat it exactly, including members of newer versions of Spack.
package spec

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
)

// Formats of Spack's spec file. Each format has its own version of the index (package index).
const (
	Format4 = 4 // Spack 0.21 to 0.23: the compiler is a member of a node
	Format5 = 5 // Spack 1.0: the compiler is a node of its own
	Format6 = 6 // Spack 1.3: nodes name the virtual packages that they provide
)

// maxLayout is the newest buildcache_layout_version that Spack accepts in mirrors of layout v3 (spack 1.2,
// url_buildcache.py), and maxLayoutV2 in those of layout v2 (spack 0.23, binary_distribution.py). Spack itself writes
// 2 into both.
const (
	maxLayout   = 3
	maxLayoutV2 = 2
)

// A Hash is Spack's DAG hash: 32 characters of lower-case base32.
type Hash string

// ParseHash returns s as a Hash. It is an error if s is not a DAG hash.
func ParseHash(s string) (Hash, error) {
	if len(s) != 32 {
		return "", fmt.Errorf("hash %q: want 32 characters", s)
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return "", fmt.Errorf("hash %q: want characters a-z and 2-7", s)
		}
	}
	return Hash(s), nil
}

// Short returns the short form in which Spack displays a hash.
func (h Hash) Short() string { return string(h[:min(7, len(h))]) }

// A Node is one package of a spec. Specs share their common nodes, so a Node must not be changed.
type Node struct {
	Name, Version string
	Hash          Hash
	OS, Target    string
	External      bool   // installed outside Spack, never in a buildcache
	Dependencies  []Hash // direct ones, each once

	// Record is the node as `spack buildcache update-index` writes it into an index: the node's JSON,
	// compact, without "direct" in its edges, and upgraded to the format of the index.
	Record []byte

	edges     []edge
	buildSpec Hash // for a spliced package: the spec that it was built as; otherwise empty
}

// BuildSpec returns the spec that a spliced package was built as; empty for other packages.
func (n *Node) BuildSpec() Hash { return n.buildSpec }

// ID returns a readable name of the node: zlib@1.3.1/hyibvwk.
func (n *Node) ID() string { return n.Name + "@" + n.Version + "/" + n.Hash.Short() }

// A Spec is a package with all its dependencies.
type Spec struct {
	// Format is the format of the records of its nodes.
	Format int
	Nodes  []*Node // the package itself first; each hash once; all dependencies included
	// Tarball is the SHA-256 of the package's .spack file. Only documents of layout v2 have it.
	Tarball blob.Digest
}

// Root returns the package that the spec describes.
func (s *Spec) Root() *Node { return s.Nodes[0] }

// Needed returns the packages that must be installed with the root, directly or indirectly. It leaves out
// external packages and the packages that only they need.
func (s *Spec) Needed() []*Node {
	nodes := make(map[Hash]*Node)
	for _, n := range s.Nodes {
		nodes[n.Hash] = n
	}
	var found []*Node
	seen := make(map[Hash]bool)
	for next := s.Root().Needs(); len(next) > 0; next = next[1:] {
		n := nodes[next[0]]
		if n == nil || n.External || seen[n.Hash] {
			continue
		}
		seen[n.Hash] = true
		found = append(found, n)
		next = append(next, n.Needs()...)
	}
	return found
}

// A FormatError reports a spec format that this release cannot index, because it is too old or of a newer
// Spack. Such packages are left alone.
type FormatError struct {
	Got  int
	Want int // the newest known format for this layout
}

func (e *FormatError) Error() string {
	if e.Got > e.Want {
		return fmt.Sprintf("spec: it has format %d, and this release knows %d for this layout: a newer Spack wrote it", e.Got, e.Want)
	}
	return fmt.Sprintf("spec: it has format %d, older than %d: to upgrade it needs its package's recipe, so push it again with a newer Spack", e.Got, Format4)
}

type document struct {
	Spec struct {
		Meta struct {
			Version jsontext.Value `json:"version"`
		} `json:"_meta"`
		Nodes []jsontext.Value `json:"nodes"`
	} `json:"spec"`
	Layout   jsontext.Value `json:"buildcache_layout_version"`
	Checksum *struct {
		Algorithm string `json:"hash_algorithm"`
		Hash      string `json:"hash"`
	} `json:"binary_cache_checksum"`
}

// Parse reads one spec document: see Reader.Parse.
func Parse(text []byte, format int) (*Spec, error) { return NewReader(0).Parse(text, format) }

// Parse reads a spec document: the uncompressed content of a v3 spec blob, or the text of a v2 .spec.json.
// The records of its nodes are in format. A spec of Format4 is upgraded to it, because `spack buildcache
// migrate` leaves such specs in mirrors of layout v3. The error is a *ContractError if Spack's reader would
// fail, and a *FormatError if the document's format cannot be used.
func (r *Reader) Parse(text []byte, format int) (*Spec, error) {
	if err := CheckJSON(text); err != nil {
		return nil, err
	}
	var doc document
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	if err := checkLayout(doc.Layout, format); err != nil {
		return nil, err
	}
	if len(doc.Spec.Nodes) == 0 {
		return nil, errors.New("spec: it has no nodes")
	}
	written, err := formatOf(doc.Spec.Meta.Version)
	if err != nil {
		return nil, err
	}
	if written < Format4 || format == Format4 && written > Format4 {
		return nil, &FormatError{Got: written, Want: format}
	}
	s := &Spec{Format: format}
	if c := doc.Checksum; c != nil {
		if c.Algorithm != "sha256" {
			return nil, fmt.Errorf("spec: binary_cache_checksum uses %q, want sha256", c.Algorithm)
		}
		if s.Tarball, err = blob.ParseDigest(c.Hash); err != nil {
			return nil, fmt.Errorf("spec: binary_cache_checksum: %w", err)
		}
	}
	return s, r.join(s, doc.Spec.Nodes, dialect{written: written, index: format})
}

// checkLayout checks buildcache_layout_version, which old documents lack.
func checkLayout(v jsontext.Value, format int) error {
	const member = "buildcache_layout_version"
	limit := maxLayout
	if format == Format4 {
		limit = maxLayoutV2
	}
	if v == nil {
		return nil
	}
	if !isInteger(v) {
		return within(member, broken("is no integer", "TypeError"))
	}
	if n, err := strconv.Atoi(string(v)); err != nil || n > limit {
		return within(member, broken(fmt.Sprintf("is %.20s, newer than %d", v, limit), "unsupported layout"))
	}
	return nil
}

func formatOf(v jsontext.Value) (int, error) {
	if !isInteger(v) {
		return 0, within("_meta.version", unusual("is no integer"))
	}
	n, err := strconv.Atoi(string(v))
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxInt, nil // newer than any known format
	}
	return n, err
}

// join reads the nodes of a spec and checks that they are consistent.
func (r *Reader) join(s *Spec, raw []jsontext.Value, d dialect) error {
	byHash := make(map[Hash]*Node, len(raw))
	s.Nodes = make([]*Node, 0, len(raw))
	for _, v := range raw {
		n, err := r.node(v, d)
		if err != nil {
			return err
		}
		switch known := byHash[n.Hash]; {
		case known == nil:
			byHash[n.Hash] = n
			s.Nodes = append(s.Nodes, n)
		case string(known.Record) != string(n.Record):
			return fmt.Errorf("spec: two nodes have the hash of %s and differ", n.ID())
		}
	}
	for _, n := range s.Nodes {
		if err := n.fits(byHash); err != nil {
			return err
		}
	}
	s.Nodes = needed(s.Nodes, byHash)
	return nil
}

// needed returns the root and all its dependencies, in the order of the document. The document of a spliced
// package also has the nodes of its build spec, which Spack does not add to an index.
func needed(nodes []*Node, byHash map[Hash]*Node) []*Node {
	seen := map[*Node]bool{nodes[0]: true}
	for next := nodes[:1:1]; len(next) > 0; next = next[1:] {
		for _, d := range next[0].Dependencies {
			if n := byHash[d]; !seen[n] {
				seen[n] = true
				next = append(next, n)
			}
		}
	}
	return slices.DeleteFunc(nodes, func(n *Node) bool { return !seen[n] })
}
