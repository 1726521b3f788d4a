// Package spackmirror writes mirrors as Spack writes them, of any size and always the
// same for the same arguments.
//
// A Universe is a set of specs that depend on each other; a mirror holds some of them,
// and its index holds the whole closure of those. Two mirrors of one universe agree to
// the byte on what they share, as two pushes from one store do.
package spackmirror

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math/rand/v2"
	"strings"
)

// A Layout is the version of Spack's layout.
type Layout int

// The layouts that Spack has written.
const (
	V2 Layout = 2
	V3 Layout = 3
)

func (l Layout) String() string { return fmt.Sprintf("v%d", int(l)) }

// A Universe is a set of specs of one layout, numbered from 0. Lower numbers come
// first in the order of dependencies.
type Universe struct {
	Layout Layout
	// Tarball is the size in bytes that the tarball of spec i has at least, without the
	// about 700 bytes that any tarball has.
	Tarball func(i int) int

	patches int // that each spec has

	glibc *node // the external that everything depends on
	specs []*node
	need  [][]*node // what each spec depends on, directly or not, in preorder, each once
}

// group is how many specs in a row may depend on each other. It bounds closures.
const group = 12

// New makes a universe of n specs. Tarballs have a few hundred bytes until
// u.Tarball is set.
func New(l Layout, n int) *Universe { return Patched(l, n, 0) }

// maxNames is how many names of packages a universe of Patched has: about as many as Spack.
const maxNames = 8000

// Patched is New with specs that name so many patches each, which makes them as large as
// those of a real mirror: with 5, about 1.1 KB. There are no more names of packages than in
// Spack, so that many specs are of one package.
func Patched(l Layout, n, patches int) *Universe {
	u := &Universe{Layout: l, Tarball: func(int) int { return 0 }, patches: patches}
	u.glibc = u.node("glibc", "2.35", nil)
	u.glibc.External = &external{Path: "/usr", ExtraAttributes: struct{}{}}
	u.glibc.seal()
	names := n
	if patches > 0 {
		names = maxNames
	}
	random := rand.New(rand.NewPCG(uint64(l), uint64(n)))
	for i := range n {
		first := i - i%group
		needs := []edge{u.glibc.edge("link")}
		for d := first; d < i; d++ {
			if random.IntN(4) == 0 {
				needs = append(needs, u.specs[d].edge("build", "link"))
			}
		}
		version := fmt.Sprintf("%d.%d.%d", 1+i%7, i%10, i%3)
		if i >= names {
			version += fmt.Sprintf(".%d", i/names)
		}
		s := u.node(fmt.Sprintf("%s-%d", words[i%len(words)], i%names), version, needs)
		s.seal()
		u.specs = append(u.specs, s)
		u.need = append(u.need, u.closure(s, first))
	}
	return u
}

// words are what names are made of: some with a dash, as Spack's have.
var words = []string{"zlib", "gcc-runtime", "openssl", "py-numpy", "hwloc", "lib_x", "slurm", "munge"}

// Len is the number of specs.
func (u *Universe) Len() int { return len(u.specs) }

// All returns the numbers of all specs.
func (u *Universe) All() []int { return u.Range(0, u.Len()) }

// Range returns the numbers from first to before end.
func (u *Universe) Range(first, end int) []int {
	var members []int
	for i := first; i < end; i++ {
		members = append(members, i)
	}
	return members
}

// Hash returns the hash of spec i.
func (u *Universe) Hash(i int) string { return u.specs[i].Hash }

// Name returns the name and version of spec i.
func (u *Universe) Name(i int) (name, version string) { return u.specs[i].Name, u.specs[i].Version }

// closure returns what s needs, in preorder. All of it is in the group that starts
// at first, or external.
func (u *Universe) closure(s *node, first int) []*node {
	byHash := map[string]*node{u.glibc.Hash: u.glibc}
	for _, other := range u.specs[first:] {
		byHash[other.Hash] = other
	}
	var need []*node
	var visit func(*node)
	visit = func(n *node) {
		for _, d := range n.Dependencies {
			if dep := byHash[d.Hash]; dep != nil {
				delete(byHash, d.Hash)
				need = append(need, dep)
				visit(dep)
			}
		}
	}
	visit(s)
	return need
}

// A node is what Spack knows of one spec. The fields are in the order in which
// Spack writes them, since the hash depends on it.
type node struct {
	Name         string       `json:"name"`
	Version      string       `json:"version"`
	Arch         arch         `json:"arch"`
	Compiler     *compiler    `json:"compiler,omitempty"` // layout v2
	Namespace    string       `json:"namespace"`
	Parameters   parameters   `json:"parameters"`
	External     *external    `json:"external,omitempty"`
	PackageHash  string       `json:"package_hash"`
	Dependencies []edge       `json:"dependencies,omitempty"`
	Annotations  *annotations `json:"annotations,omitempty"` // layout v3
	Hash         string       `json:"hash,omitempty"`
}

type arch struct {
	Platform   string `json:"platform"`
	PlatformOS string `json:"platform_os"`
	Target     string `json:"target"`
}

type compiler struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type parameters struct {
	BuildSystem string   `json:"build_system"`
	Shared      bool     `json:"shared"`
	Cflags      []string `json:"cflags"`
	Cppflags    []string `json:"cppflags"`
	Cxxflags    []string `json:"cxxflags"`
	Fflags      []string `json:"fflags"`
	Ldflags     []string `json:"ldflags"`
	Ldlibs      []string `json:"ldlibs"`
	Patches     []string `json:"patches,omitempty"`
}

type external struct {
	Path            string   `json:"path"`
	Module          []string `json:"module"`
	ExtraAttributes struct{} `json:"extra_attributes"`
}

type edge struct {
	Name       string         `json:"name"`
	Hash       string         `json:"hash"`
	Parameters edgeParameters `json:"parameters"`
}

type edgeParameters struct {
	Deptypes []string `json:"deptypes"`
	Virtuals []string `json:"virtuals"`
}

type annotations struct {
	OriginalSpecfileVersion int `json:"original_specfile_version"`
}

func (u *Universe) node(name, version string, needs []edge) *node {
	none := []string{}
	n := &node{
		Name: name, Version: version,
		Arch:         arch{"linux", "ubuntu22.04", "x86_64_v3"},
		Namespace:    "builtin",
		Parameters:   parameters{"generic", true, none, none, none, none, none, none, nil},
		PackageHash:  hashOf([]byte("package "+name)) + "====",
		Dependencies: needs,
	}
	for i := range u.patches {
		n.Parameters.Patches = append(n.Parameters.Patches, fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, name, i))))
	}
	if u.Layout == V2 {
		n.Compiler = &compiler{"gcc", "13.4.0"}
	} else {
		n.Annotations = &annotations{5}
	}
	return n
}

// seal gives n its hash, which covers all else.
func (n *node) seal() { n.Hash = hashOf(compact(n)) }

// hashOf is the DAG hash of a node whose JSON, without the hash, is text.
func hashOf(text []byte) string {
	sum := sha1.Sum(text)
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))
}

func (n *node) edge(deptypes ...string) edge {
	return edge{n.Name, n.Hash, edgeParameters{deptypes, []string{}}}
}
