package prune

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A graph holds packages and their dependencies in little memory: there may be hundreds of thousands.
type graph struct {
	at    map[spec.Hash]int32
	nodes []node
	edges []int32
	texts map[string]string // each name and version once
	place history.Place     // that an index of layout v2 says
}

type node struct {
	hash          spec.Hash
	name, version string
	from, to      int32 // its dependencies, in edges
	known         bool  // a record lists its dependencies
	offered       bool  // by an index
}

func newGraph() *graph { return &graph{at: make(map[spec.Hash]int32), texts: make(map[string]string)} }

// id returns the position of a package. It adds the package if necessary.
func (g *graph) id(h spec.Hash) int32 {
	if at, ok := g.at[h]; ok {
		return at
	}
	at := int32(len(g.nodes))
	h = spec.Hash(strings.Clone(string(h)))
	g.at[h] = at
	g.nodes = append(g.nodes, node{hash: h})
	return at
}

func (g *graph) text(s string) string {
	if t, ok := g.texts[s]; ok {
		return t
	}
	s = strings.Clone(s)
	g.texts[s] = s
	return s
}

// add adds a package with its dependencies. If two records of a package differ, the dependencies of both count.
func (g *graph) add(n *spec.Node, offered bool) {
	at := g.id(n.Hash)
	from := int32(len(g.edges))
	needs := n.Dependencies
	if was := g.nodes[at]; was.known {
		if was.to-was.from == int32(len(needs)) {
			g.nodes[at].offered = was.offered || offered
			return // the hash covers the dependencies
		}
		g.edges = append(g.edges, g.edges[was.from:was.to]...)
	}
	for _, d := range needs {
		g.edges = append(g.edges, g.id(d))
	}
	if b := n.BuildSpec(); b != "" {
		g.edges = append(g.edges, g.id(b))
	}
	r := &g.nodes[at]
	r.name, r.version, r.from, r.to, r.known = g.text(n.Name), g.text(n.Version), from, int32(len(g.edges)), true
	r.offered = r.offered || offered
}

// copy adds a package and all its dependencies from another graph.
func (g *graph) copy(from *graph, h spec.Hash) {
	for next := []spec.Hash{h}; len(next) > 0; {
		h, next = next[len(next)-1], next[:len(next)-1]
		there, ok := from.at[h]
		at := g.id(h)
		if !ok || g.nodes[at].known || !from.nodes[there].known {
			continue
		}
		was := from.nodes[there]
		start := int32(len(g.edges))
		for _, d := range from.needs(there) {
			g.edges = append(g.edges, g.id(from.nodes[d].hash))
			next = append(next, from.nodes[d].hash)
		}
		r := &g.nodes[at]
		r.name, r.version, r.from, r.to, r.known = was.name, was.version, start, int32(len(g.edges)), true
	}
}

// needs returns the dependencies of a package.
func (g *graph) needs(at int32) []int32 { return g.edges[g.nodes[at].from:g.nodes[at].to] }

// closure returns packages and all their dependencies.
func (g *graph) closure(roots []int32) []bool {
	in := make([]bool, len(g.nodes))
	next := make([]int32, 0, len(roots))
	take := func(at int32) {
		if !in[at] {
			in[at] = true
			next = append(next, at)
		}
	}
	for _, at := range roots {
		take(at)
	}
	for len(next) > 0 {
		at := next[len(next)-1]
		next = next[:len(next)-1]
		for _, d := range g.needs(at) {
			take(d)
		}
	}
	return in
}

// readIndex adds the records of an index, which it reads as a stream. It checks the digest if that is known.
// offered, if not nil, is called with each package that the index offers.
func (g *graph) readIndex(ctx context.Context, r mirror.Reader, name string, digest blob.Digest, version int, offered func(int32)) error {
	o, err := r.Open(ctx, name)
	if err != nil {
		return err
	}
	defer o.Body.Close()
	sum := sha256.New()
	body := io.TeeReader(o.Body, sum)
	if err := g.scan(body, version, offered); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if got := blob.Digest(sum.Sum(nil)); digest.Known() && got != digest {
		return &blob.MismatchError{Name: name, WantSize: o.Size, GotSize: o.Size, Want: digest, Got: got}
	}
	return nil
}

func (g *graph) scan(body io.Reader, version int, offered func(int32)) error {
	dec := jsontext.NewDecoder(body, jsontext.AllowDuplicateNames(true))
	found := 0
	err := members(dec, func(name string) error {
		if name == index.Member {
			v, err := dec.ReadValue()
			if err == nil && json.Unmarshal(v, &g.place) != nil {
				g.place = history.Place{} // none, as in layout v3
			}
			return err
		}
		if name != "database" {
			return dec.SkipValue()
		}
		return members(dec, func(name string) error {
			switch name {
			case "version":
				v, err := dec.ReadValue()
				if err != nil {
					return err
				}
				if want := strconv.Quote(strconv.Itoa(version)); string(v) != want {
					return fmt.Errorf("the index has version %s, want %s", v, want)
				}
				found++
				return nil
			case "installs":
				found++
				return members(dec, func(hash string) error { return g.record(dec, hash, version, offered) })
			}
			return dec.SkipValue()
		})
	})
	if err == nil && found != 2 {
		err = errors.New("it has no database version or no installs")
	}
	return err
}

// record adds a record of an index.
func (g *graph) record(dec *jsontext.Decoder, hash string, version int, offered func(int32)) error {
	h, err := spec.ParseHash(hash)
	if err != nil {
		return err
	}
	var text jsontext.Value
	in := false
	err = members(dec, func(name string) error {
		v, err := dec.ReadValue()
		switch {
		case err != nil:
			return err
		case name == "spec":
			text = v.Clone()
		case name == "in_buildcache":
			in = v.Kind() == 't'
		}
		return nil
	})
	if err != nil {
		return err
	}
	n, err := spec.ParseNode(text, index.SpecFormat(version))
	if err != nil {
		return fmt.Errorf("record of /%s: %w", h, err)
	}
	if n.Hash != h {
		return fmt.Errorf("record of /%s is about /%s", h, n.Hash)
	}
	g.add(n, in)
	if in && offered != nil {
		offered(g.at[h])
	}
	return nil
}

// members calls member for each member of the next object. member reads the value.
func members(dec *jsontext.Decoder, member func(name string) error) error {
	if t, err := dec.ReadToken(); err != nil {
		return err
	} else if t.Kind() != '{' {
		return fmt.Errorf("want an object at %s", dec.StackPointer())
	}
	for dec.PeekKind() == '"' {
		t, err := dec.ReadToken()
		if err != nil {
			return err
		}
		if err := member(t.String()); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}
