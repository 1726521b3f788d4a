package query

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Node is a concrete package as queries see it. Nodes share their dependencies and must not be changed.
type Node struct {
	Name, Namespace string
	Hash            string
	Version         Version
	Platform, OS    string
	Target          string
	Variants        []Variant // sorted by name
	Flags           map[string][]string
	External        bool // installed outside Spack, never in a buildcache
	Dependencies    []Dependency
	Provides        []string // virtual packages, with @version if the spec names it
	Compiler        string   // name of its package, for specs before format 5; empty: none
	CompilerVersion Version
	before5         bool // a spec before format 5: its compiler is not a dependency
}

// A Variant is the value of a parameter: a bool, or strings.
type Variant struct {
	Name       string
	IsBool, On bool
	List       bool // it can have several values
	Values     []string
}

// A Dependency is an edge to another package.
type Dependency struct {
	Types    DepTypes
	Virtuals []string
	To       *Node
}

type nodeJSON struct {
	Name         string                    `json:"name"`
	Version      string                    `json:"version"`
	Namespace    string                    `json:"namespace"`
	Arch         archJSON                  `json:"arch"`
	Parameters   map[string]jsontext.Value `json:"parameters"`
	External     jsontext.Value            `json:"external"`
	Patches      []string                  `json:"patches"`
	Provides     []string                  `json:"provided_virtuals"`
	Dependencies []dependencyJSON          `json:"dependencies"`
	Compiler     *compilerJSON             `json:"compiler"`
	Annotations  *annotationsJSON          `json:"annotations"`
	Hash         string                    `json:"hash"`
}

type archJSON struct {
	Platform string         `json:"platform"`
	OS       string         `json:"platform_os"`
	Target   jsontext.Value `json:"target"`
}

type dependencyJSON struct {
	Hash       string `json:"hash"`
	Parameters struct {
		Types    []string `json:"deptypes"`
		Virtuals []string `json:"virtuals"`
	} `json:"parameters"`
}

type compilerJSON struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type annotationsJSON struct {
	Format   int    `json:"original_specfile_version"`
	Compiler string `json:"compiler"`
}

// A Graph holds the packages of an index by their hashes.
type Graph struct {
	nodes     map[string]*Node
	edges     map[*Node][]dependencyJSON // until Link
	providers map[string]map[*Node]bool  // of virtual packages
}

// NewGraph returns a graph without packages.
func NewGraph() *Graph {
	return &Graph{nodes: make(map[string]*Node), edges: make(map[*Node][]dependencyJSON), providers: make(map[string]map[*Node]bool)}
}

// Node returns the package with a hash, or nil.
func (g *Graph) Node(hash string) *Node { return g.nodes[hash] }

// Add adds a package from its JSON in an index. If the graph has a package with this hash, Add returns that one.
func (g *Graph) Add(text []byte) (*Node, error) {
	var j nodeJSON
	if err := json.Unmarshal(text, &j, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return nil, err
	}
	if n := g.nodes[j.Hash]; n != nil {
		return n, nil
	}
	v, err := ParseVersion(j.Version)
	if err != nil {
		return nil, err
	}
	n := &Node{
		Name: j.Name, Namespace: j.Namespace, Hash: j.Hash, Version: v,
		Platform: j.Arch.Platform, OS: j.Arch.OS, Target: targetOf(j.Arch.Target),
		External: len(j.External) > 0 && j.External.Kind() == '{', Provides: j.Provides,
	}
	if err := n.parameters(&j); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	n.compiler(&j)
	g.nodes[n.Hash] = n
	g.edges[n] = j.Dependencies
	return n, nil
}

// targetOf returns the name of a target. Older specs store a target as an object. The name is empty if the target
// cannot be read.
func targetOf(v jsontext.Value) string {
	var text string
	if json.Unmarshal(v, &text) == nil {
		return text
	}
	var object struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(v, &object) // the name stays empty
	return object.Name
}

func (n *Node) parameters(j *nodeJSON) error {
	for name, value := range j.Parameters {
		if slices.Contains(compilerFlags, name) {
			var flags []string
			if err := json.Unmarshal(value, &flags); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if n.Flags == nil {
				n.Flags = make(map[string][]string)
			}
			n.Flags[name] = flags
			continue
		}
		v := Variant{Name: name}
		switch value.Kind() {
		case 't', 'f':
			v.IsBool, v.On = true, value.Kind() == 't'
		case '[':
			v.List = true
			if err := json.Unmarshal(value, &v.Values); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case '"':
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			v.set(text)
		default:
			v.set(value.String())
		}
		n.Variants = append(n.Variants, v)
	}
	if len(j.Patches) > 0 {
		n.Variants = slices.DeleteFunc(n.Variants, func(v Variant) bool { return v.Name == "patches" })
		n.Variants = append(n.Variants, Variant{Name: "patches", List: true, Values: j.Patches})
	}
	slices.SortFunc(n.Variants, func(a, b Variant) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func (v *Variant) set(text string) {
	switch strings.ToUpper(text) {
	case "TRUE", "FALSE":
		v.IsBool, v.On = true, strings.ToUpper(text) == "TRUE"
	default:
		v.Values = []string{text}
	}
}

// String returns a variant as Spack shows it: +mpi, ~mpi or api=v18.
func (v Variant) String() string {
	switch {
	case v.IsBool && v.On:
		return "+" + v.Name
	case v.IsBool:
		return "~" + v.Name
	}
	return v.Name + "=" + v.Text()
}

// Text returns the value of a variant.
func (v Variant) Text() string {
	if v.IsBool {
		return map[bool]string{true: "True", false: "False"}[v.On]
	}
	return strings.Join(v.Values, ",")
}

// compiler sets the compiler of a package whose compiler is not a dependency.
func (n *Node) compiler(j *nodeJSON) {
	c := j.Compiler
	switch {
	case j.Annotations == nil:
		n.before5 = true
	default:
		n.before5, c = j.Annotations.Format < 5, nil
		if name, version, ok := strings.Cut(j.Annotations.Compiler, "@"); ok {
			c = &compilerJSON{name, strings.TrimPrefix(version, "=")}
		}
	}
	if c == nil {
		return
	}
	if v, err := ParseVersion(strings.TrimPrefix(c.Version, "=")); err == nil {
		n.Compiler, n.CompilerVersion = c.Name, v
	}
}

// Link connects the added packages with their dependencies. It omits dependencies that were not added.
func (g *Graph) Link() {
	for n, edges := range g.edges {
		for _, e := range edges {
			to := g.nodes[e.Hash]
			if to == nil {
				continue
			}
			types, _ := ParseDepTypes(e.Parameters.Types) // the reader of the index has checked the names
			n.Dependencies = append(n.Dependencies, Dependency{types, e.Parameters.Virtuals, to})
			for _, virtual := range e.Parameters.Virtuals {
				g.provide(virtual, to)
			}
		}
		for _, provided := range n.Provides {
			virtual, _, _ := strings.Cut(provided, "@")
			g.provide(virtual, n)
		}
	}
	clear(g.edges)
}

func (g *Graph) provide(virtual string, n *Node) {
	if g.providers[virtual] == nil {
		g.providers[virtual] = make(map[*Node]bool)
	}
	g.providers[virtual][n] = true
}

// virtual reports whether a name is that of a virtual package: some package provides it.
func (g *Graph) virtual(name string) bool { return g.providers[name] != nil }

// Names returns the names of all packages, sorted and without duplicates.
func (g *Graph) Names() []string {
	var names []string
	for n := range g.All() {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Unknown returns the names in a query that are neither packages nor virtual packages. It also returns all names of
// packages.
func (g *Graph) Unknown(q *Query) (unknown, known []string) {
	known = g.Names()
	return slices.DeleteFunc(q.Names(), func(name string) bool {
		_, ok := slices.BinarySearch(known, name)
		return ok || g.virtual(name)
	}), known
}

// All yields the packages in any order.
func (g *Graph) All() iter.Seq[*Node] { return maps.Values(g.nodes) }
