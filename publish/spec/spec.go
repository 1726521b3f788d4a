// Package spec reads concrete Spack specs: a package and everything that it depends on.
//
// Only what publishing needs is decoded. A node's own JSON is carried along
// verbatim, because an index must repeat it exactly, whatever a newer Spack puts into it.
package spec

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
)

// Formats of Spack's spec file.
const (
	Format4 = 4 // Spack 0.19 to 0.23; what an index of layout v2 holds
	Format5 = 5 // Spack 1.x; what an index of layout v3 holds
)

// maxLayout is the newest buildcache_layout_version that a Spack client accepts
// (spack 1.2, spec.py). Spack itself writes 2 into mirrors of both layouts.
const maxLayout = 3

// A Hash is Spack's DAG hash: 32 characters of lower-case base32.
type Hash string

// ParseHash refuses what is not a DAG hash.
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

// Short is the form in which Spack shows a hash to people.
func (h Hash) Short() string { return string(h[:min(7, len(h))]) }

// A Node is one package of a spec.
type Node struct {
	Name, Version string
	Hash          Hash
	OS, Target    string
	External      bool   // installed outside Spack, never in a buildcache
	Dependencies  []Hash // direct ones, each once

	// Record is the node as `spack buildcache update-index` writes it into an index:
	// its own JSON, compact, with "direct" removed from its edges, and upgraded to the
	// format of the index.
	Record []byte
}

// ID names the node for people: zlib@1.3.1/hyibvwk.
func (n *Node) ID() string { return n.Name + "@" + n.Version + "/" + n.Hash.Short() }

// A Spec is a package with all its dependencies.
type Spec struct {
	Nodes []Node // the package itself first, each hash once, nothing missing that one depends on

	// Tarball is the SHA-256 of the package's .spack file. Only documents of layout v2 have it.
	Tarball blob.Digest
}

// Root is the package that the spec is about.
func (s *Spec) Root() *Node { return &s.Nodes[0] }

type document struct {
	Spec struct {
		Meta struct {
			Version int `json:"version"`
		} `json:"_meta"`
		Nodes []jsontext.Value `json:"nodes"`
	} `json:"spec"`
	Layout   int `json:"buildcache_layout_version"`
	Checksum *struct {
		Algorithm string `json:"hash_algorithm"`
		Hash      string `json:"hash"`
	} `json:"binary_cache_checksum"`
}

type node struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Hash    string `json:"hash"`
	Arch    struct {
		OS     string         `json:"platform_os"`
		Target jsontext.Value `json:"target"`
	} `json:"arch"`
	External jsontext.Value `json:"external"`
	Compiler *struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"compiler"`
	Dependencies []struct {
		Hash string `json:"hash"`
	} `json:"dependencies"`
}

// Parse reads a spec document: the uncompressed content of a v3 spec blob, or the text
// of a v2 .spec.json. The records of its nodes are in format, to which a spec of Format4
// is upgraded: `spack buildcache migrate` leaves such specs in mirrors of layout v3.
func Parse(text []byte, format int) (*Spec, error) {
	var doc document
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	if doc.Layout > maxLayout {
		return nil, fmt.Errorf("spec: buildcache_layout_version is %d, newer than %d", doc.Layout, maxLayout)
	}
	if len(doc.Spec.Nodes) == 0 {
		return nil, errors.New("spec: it has no nodes")
	}
	got := doc.Spec.Meta.Version
	switch {
	case got > format:
		return nil, fmt.Errorf("spec: it has format %d, newer than the %d of its mirror's index", got, format)
	case got < Format4:
		return nil, fmt.Errorf("spec: it has format %d, older than %d", got, Format4)
	}
	s := &Spec{Nodes: make([]Node, 0, len(doc.Spec.Nodes))}
	if c := doc.Checksum; c != nil {
		if c.Algorithm != "sha256" {
			return nil, fmt.Errorf("spec: binary_cache_checksum uses %q, want sha256", c.Algorithm)
		}
		var err error
		if s.Tarball, err = blob.ParseDigest(c.Hash); err != nil {
			return nil, fmt.Errorf("spec: binary_cache_checksum: %w", err)
		}
	}
	seen := make(map[Hash]bool)
	for _, raw := range doc.Spec.Nodes {
		n, err := ParseNode(raw)
		if err != nil {
			return nil, err
		}
		if got == Format4 && format == Format5 {
			if n.Record, err = upgrade(n.Record); err != nil {
				return nil, fmt.Errorf("spec node %s: %w", n.Name, err)
			}
		}
		if !seen[n.Hash] {
			seen[n.Hash] = true
			s.Nodes = append(s.Nodes, n)
		}
	}
	for _, n := range s.Nodes {
		for _, d := range n.Dependencies {
			if !seen[d] {
				return nil, fmt.Errorf("spec: %s depends on /%s, which is not in it", n.ID(), d)
			}
		}
	}
	return s, nil
}

// ParseNode reads one node, as it stands in a spec document or in an index.
func ParseNode(raw jsontext.Value) (Node, error) {
	var n node
	if err := json.Unmarshal(raw, &n); err != nil {
		return Node{}, fmt.Errorf("spec node: %w", err)
	}
	if n.Name == "" || n.Version == "" {
		return Node{}, errors.New("spec node: it has no name or no version")
	}
	target := targetName(n.Arch.Target)
	for _, word := range [][2]string{{"name", n.Name}, {"version", n.Version}, {"os", n.Arch.OS}, {"target", target}} {
		if !Readable(word[1]) {
			return Node{}, fmt.Errorf("spec node: its %s is %q: control characters are not allowed there", word[0], word[1])
		}
	}
	hash, err := ParseHash(n.Hash)
	if err != nil {
		return Node{}, fmt.Errorf("spec node %s: %w", n.Name, err)
	}
	out := Node{
		Name: n.Name, Version: n.Version, Hash: hash,
		OS: n.Arch.OS, Target: target,
		External: n.External != nil && n.External.Kind() != 'n',
	}
	seen := make(map[Hash]bool)
	for _, d := range n.Dependencies {
		h, err := ParseHash(d.Hash)
		if err != nil {
			return Node{}, fmt.Errorf("spec node %s: dependency: %w", n.Name, err)
		}
		if !seen[h] {
			seen[h] = true
			out.Dependencies = append(out.Dependencies, h)
		}
	}
	if out.Record, err = record(raw); err != nil {
		return Node{}, fmt.Errorf("spec node %s: %w", n.Name, err)
	}
	return out, nil
}

// Readable reports whether text can stand in the name of an object, in a message and in a log as it is:
// it is UTF-8 and has no control characters, nor others that nobody sees or that change how the rest
// is read, such as line separators and marks that turn the direction of writing.
func Readable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(c rune) bool {
		return unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}

// targetName: a target is a name, or, for one that archspec does not know, an object with a name.
func targetName(raw jsontext.Value) string {
	var name string
	if json.Unmarshal(raw, &name) == nil {
		return name
	}
	var custom struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(raw, &custom) // no name: no target to compare with
	return custom.Name
}

// record copies a node compactly and leaves out dependencies[].parameters.direct,
// which update-index drops (spec-format 2.6).
func record(raw jsontext.Value) ([]byte, error) {
	compact := raw.Clone()
	if err := compact.Compact(); err != nil {
		return nil, err
	}
	if !bytes.Contains(compact, []byte(`"direct"`)) {
		return compact, nil
	}
	var out bytes.Buffer
	dec := jsontext.NewDecoder(bytes.NewReader(compact), jsontext.AllowDuplicateNames(true))
	enc := jsontext.NewEncoder(&out, jsontext.AllowDuplicateNames(true), jsontext.PreserveRawStrings(true))
	for dec.PeekKind() != 0 {
		if dec.PeekKind() != '{' && dec.PeekKind() != '[' && dec.PeekKind() != '}' && dec.PeekKind() != ']' {
			v, err := dec.ReadValue()
			if err != nil {
				return nil, err
			}
			if isEdgeDirect(string(dec.StackPointer())) {
				if _, err := dec.ReadValue(); err != nil {
					return nil, err
				}
				continue
			}
			if err := enc.WriteValue(v); err != nil {
				return nil, err
			}
			continue
		}
		t, err := dec.ReadToken()
		if err != nil {
			return nil, err
		}
		if err := enc.WriteToken(t); err != nil {
			return nil, err
		}
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// upgrade turns a record of Format4 into one of Format5 as Spack does when it reads
// it (spack 1.2, spec.py): the compiler, since then a dependency, becomes an annotation.
func upgrade(record []byte) ([]byte, error) {
	var n node
	if err := json.Unmarshal(record, &n); err != nil {
		return nil, err
	}
	annotations := `{"original_specfile_version":4}`
	if c := n.Compiler; c != nil {
		compiler, err := json.Marshal(c.Name + "@=" + c.Version)
		if err != nil {
			return nil, err
		}
		annotations = `{"original_specfile_version":4,"compiler":` + string(compiler) + `}`
	}
	var out bytes.Buffer
	dec := jsontext.NewDecoder(bytes.NewReader(record))
	enc := jsontext.NewEncoder(&out, jsontext.PreserveRawStrings(true))
	copyMember := func(name, value jsontext.Value) error {
		return errors.Join(enc.WriteValue(name), enc.WriteValue(value))
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	err := enc.WriteToken(jsontext.BeginObject)
	for err == nil && dec.PeekKind() == '"' {
		name, nameErr := dec.ReadValue()
		name = name.Clone()
		value, valueErr := dec.ReadValue()
		if err = errors.Join(nameErr, valueErr); err != nil {
			break
		}
		switch string(name) {
		case `"compiler"`:
			continue
		case `"hash"`:
			err = copyMember(jsontext.Value(`"annotations"`), jsontext.Value(annotations))
		}
		err = errors.Join(err, copyMember(name, value))
	}
	err = errors.Join(err, enc.WriteToken(jsontext.EndObject))
	return bytes.TrimSpace(out.Bytes()), err
}

// isEdgeDirect reports whether a JSON pointer is /dependencies/N/parameters/direct.
func isEdgeDirect(pointer string) bool {
	rest, ok := strings.CutPrefix(pointer, "/dependencies/")
	if !ok {
		return false
	}
	_, member, _ := strings.Cut(rest, "/")
	return member == "parameters/direct"
}
