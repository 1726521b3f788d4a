// Package query selects packages by Spack's syntax for specs: hdf5@1.14: +mpi %gcc@13 target=zen4: ^openmpi@5.
//
// Parsing and matching agree with Spack's own Spec.satisfies, as testdata records it. Facts that only recipes
// contain are not known here: a package provides a virtual package if the index says so, or if another package
// depends on it for that virtual package. The package does no I/O.
package query

import (
	"fmt"
	"strings"
)

// maxQuery is the longest query in bytes. Spack has no limit.
const maxQuery = 16 << 10

// A Query is one or more specs. A package matches if it satisfies any of them.
type Query struct {
	text  string
	specs []*constraint
}

// String returns the query as it was parsed.
func (q *Query) String() string { return q.text }

// A constraint is the requirements of one spec, or of a dependency in it.
type constraint struct {
	name, namespace string
	hash            string // a prefix
	versions        [][]versionRange
	platform, os    []string
	targets         [][]targetRange
	variants        []variant
	flags           map[string][]string // of compilers
	edges           []*edge
}

// A variant is the requirement for one parameter. Unless exact is set, a package may have more values.
type variant struct {
	name       string
	isBool, on bool
	values     []string
	exact      bool
	propagated bool // all dependencies that have the variant must satisfy it
}

// An edge is a required dependency.
type edge struct {
	direct   bool // %: a direct dependency
	types    DepTypes
	virtuals []string
	to       *constraint
}

// Parse parses a query. The error is a *SyntaxError, unless the query is too long.
func Parse(text string) (*Query, error) {
	if len(text) > maxQuery {
		return nil, fmt.Errorf("the query has %d bytes, more than %d", len(text), maxQuery)
	}
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{query: text, tokens: tokens}
	q := &Query{text: text}
	for len(p.tokens) > 0 {
		before := len(p.tokens)
		c, err := p.spec()
		if err != nil {
			return nil, err
		}
		if len(p.tokens) == before {
			return nil, p.fail("unexpected text")
		}
		q.specs = append(q.specs, c)
	}
	return q, nil
}

// All reports whether the query is empty, so that every package matches.
func (q *Query) All() bool { return len(q.specs) == 0 }

// Names returns the names of packages and dependencies in the query.
func (q *Query) Names() []string {
	var all []string
	var walk func(c *constraint)
	walk = func(c *constraint) {
		if c.name != "" {
			all = append(all, c.name)
		}
		for _, e := range c.edges {
			walk(e.to)
		}
	}
	for _, c := range q.specs {
		walk(c)
	}
	return all
}

// A parser reads specs from tokens.
type parser struct {
	query  string
	tokens []token
}

func (p *parser) accept(kind tokenKind) (token, bool) {
	if len(p.tokens) == 0 || p.tokens[0].kind != kind {
		return token{}, false
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t, true
}

func (p *parser) fail(reason string) error {
	at := len(p.query)
	if len(p.tokens) > 0 {
		at = p.tokens[0].at
	}
	return &SyntaxError{p.query, at, reason}
}

func (p *parser) wrong(t token, reason string) error { return &SyntaxError{p.query, t.at, reason} }

// spec reads a package and the dependencies after it. A % belongs to the package or to the ^dependency before it.
func (p *parser) spec() (*constraint, error) {
	root := new(constraint)
	if err := p.node(root); err != nil {
		return nil, err
	}
	current := root
	for {
		e, ok, err := p.edge()
		if err != nil || !ok {
			return root, err
		}
		at := p.tokens
		if err := p.node(e.to); err != nil {
			return nil, err
		}
		if len(at) == len(p.tokens) && e.to.name == "" {
			return nil, p.fail("the name of a dependency, or what is asked of it, is missing")
		}
		parent := root
		if e.direct {
			parent = current
			if builtin, ok := compilers[e.to.name]; ok {
				e.to.name = builtin
			}
		}
		added, err := parent.add(e)
		if err != nil {
			return nil, p.fail(err.Error())
		}
		if !e.direct {
			current = added
		}
	}
}

// compilers maps earlier names of compilers to their packages.
var compilers = map[string]string{
	"clang": "llvm", "oneapi": "intel-oneapi-compilers", "rocmcc": "llvm-amdgpu",
	"intel": "intel-oneapi-compilers-classic", "arm": "acfl",
}

// edge reads the sign of a dependency and its attributes. It returns false if there is no dependency.
func (p *parser) edge() (*edge, bool, error) {
	e := &edge{to: new(constraint)}
	t, ok := p.accept(dependency)
	if !ok {
		if t, ok = p.accept(edgeBegins); !ok {
			return nil, false, nil
		}
		e.direct = t.text[0] == '%'
		end, err := p.attributes(e)
		if err != nil {
			return nil, false, err
		}
		t = end
	} else {
		e.direct = t.text[0] == '%'
	}
	if t.virtuals != "" {
		e.virtuals = append(e.virtuals, strings.Split(t.virtuals, ",")...)
		e.to.setName(t.substitute)
	}
	return e, true, nil
}

// attributes reads [deptypes=build virtuals=mpi].
func (p *parser) attributes(e *edge) (token, error) {
	for {
		if end, ok := p.accept(edgeEnds); ok {
			return end, nil
		}
		t, ok := p.accept(pair)
		if !ok {
			return token{}, p.fail("want deptypes=, virtuals= or ] in the attributes of a dependency")
		}
		values := strings.Split(strings.Trim(t.value, `'" `), ",")
		switch strings.TrimSuffix(t.key, ":") {
		case "virtuals":
			e.virtuals = values
		case "deptypes":
			types, err := ParseDepTypes(values)
			if err != nil {
				return token{}, p.wrong(t, err.Error())
			}
			e.types = types
		case "when":
			return token{}, p.wrong(t, "when= is for recipes, and packages in a cache have no conditions:")
		default:
			return token{}, p.wrong(t, "want deptypes= or virtuals=, not")
		}
	}
}

func (c *constraint) setName(text string) {
	if i := strings.LastIndex(text, "."); i >= 0 {
		c.namespace, text = text[:i], text[i+1:]
	}
	c.name = text
}

// node reads the name and the requirements of one package.
func (p *parser) node(c *constraint) error {
	if c.name == "" {
		if t, ok := p.accept(name); ok {
			if t.text != "*" {
				c.name = t.text
			}
		} else if t, ok := p.accept(qualifiedName); ok {
			c.setName(t.text)
		} else if t, ok := p.accept(file); ok {
			return p.wrong(t, "a query names packages, not files:")
		}
	}
	for len(p.tokens) > 0 {
		t := p.tokens[0]
		var err error
		switch t.kind {
		case versions:
			err = c.setVersions(t)
		case propagatedFlag, flag:
			err = c.setFlag(t)
		case propagatedPair, pair:
			err = c.setPair(t)
		case hash:
			if c.hash != "" {
				return nil // another spec begins
			}
			c.hash = t.value
		default:
			return nil
		}
		if err != nil {
			return p.wrong(t, err.Error()+":")
		}
		p.tokens = p.tokens[1:]
	}
	return nil
}
