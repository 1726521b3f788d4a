package spec

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// ParseNode reads one node from an index whose nodes have the format. It does not set Record. The error is a
// *ContractError if Spack's reader would fail.
func ParseNode(raw jsontext.Value, format int) (*Node, error) {
	if err := CheckJSON(raw); err != nil {
		return nil, err
	}
	return readNode(raw, dialect{written: format, index: format})
}

// Needs returns the packages that must be installed with a package: its link and run dependencies, each once.
func (n *Node) Needs() []Hash {
	var needs []Hash
	for _, e := range n.edges {
		if e.types&(link|run) != 0 && !slices.Contains(needs, e.hash) {
			needs = append(needs, e.hash)
		}
	}
	return needs
}

func readNode(raw jsontext.Value, d dialect) (*Node, error) {
	r := nodeReader{dialect: d, node: new(Node)}
	if err := r.read(raw); err != nil {
		var c *ContractError
		if errors.As(err, &c) {
			c.Node = r.node.Name
			return nil, c
		}
		return nil, fmt.Errorf("spec node %s: %w", r.node.Name, err)
	}
	if len(raw) > maxRecord {
		return nil, fmt.Errorf("spec node %s: it has %d bytes, more than %d", r.node.Name, len(raw), maxRecord)
	}
	return r.node, nil
}

// A nodeReader reads one node and checks it against the contract.
type nodeReader struct {
	dialect
	node *Node

	seen       []string // names of the members so far
	parameters jsontext.Value
	patched    bool // the node has patches
}

func (r *nodeReader) read(raw jsontext.Value) error {
	if raw.Kind() != '{' {
		return &ContractError{Member: "node", Reason: "is no object", Spack: "TypeError"}
	}
	err := eachMember(raw, func(name string, v jsontext.Value) error {
		r.seen = append(r.seen, name)
		return within(name, r.member(name, v))
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"name", "version", "hash"} {
		if !r.has(name) {
			return within(name, broken("is missing", "KeyError: '"+name+"'"))
		}
	}
	if r.has("compiler") && !r.has("annotations") && r.written != Format4 {
		return within("compiler", broken("is of an older format", "RuntimeError"))
	}
	if r.parameters != nil {
		return within("parameters", checkParameters(r.parameters, r.patched, r.index))
	}
	return nil
}

func (r *nodeReader) has(member string) bool { return slices.Contains(r.seen, member) }

// member reads one member. Members that no reader knows may have any value.
func (r *nodeReader) member(name string, v jsontext.Value) (err error) {
	n := r.node
	switch name {
	case "name":
		n.Name, err = shownText(v)
	case "version":
		if n.Version, err = shownText(v); err == nil {
			if reason := checkVersion(n.Version); reason != nil {
				err = broken(reason.Error(), "ValueError")
			}
		}
	case "versions":
		err = unusual("is a list of versions: a concrete package has one")
	case "hash":
		n.Hash, err = hashOf(v)
	case "namespace", "package_hash":
		if v.Kind() != '"' && v.Kind() != 'n' {
			err = unusual("is no string")
		}
	case "arch":
		err = r.arch(v)
	case "parameters":
		r.parameters = v.Clone() // checked later, when it is known whether there are patches
	case "propagate", "abstract":
		err = listOfStrings(v)
	case "external":
		n.External, err = checkExternal(v)
	case "concrete":
		if v.Kind() != 't' && v.Kind() != 'f' {
			err = unusual("is no boolean")
		}
	case "patches":
		r.patched = string(v) != "[]"
		err = checkPatches(v)
	case "compiler":
		if r.written == Format4 {
			err = checkCompiler(v)
		}
	case "annotations":
		err = checkAnnotations(v)
	case "build_spec":
		n.buildSpec, err = buildSpecOf(v)
	case "provided_virtuals":
		if r.index >= Format6 {
			err = listOfStrings(v)
		}
	case "dependencies":
		err = r.dependencies(v)
	}
	return err
}

// shownText reads a string that is displayed to users.
func shownText(v jsontext.Value) (string, error) {
	s, ok := text(v)
	if !ok {
		return "", unusual("is no string")
	}
	if !Readable(s) {
		return "", unusual(fmt.Sprintf("is %.80q: control characters are not allowed there", s))
	}
	return s, nil
}

func isText(v jsontext.Value) error {
	if v.Kind() != '"' {
		return unusual("is no string")
	}
	return nil
}

func hashOf(v jsontext.Value) (Hash, error) {
	s, ok := text(v)
	if !ok {
		return "", unusual("is no string")
	}
	h, err := ParseHash(s)
	if err != nil {
		return "", unusual("is no DAG hash: " + err.Error())
	}
	return h, nil
}

func (r *nodeReader) arch(v jsontext.Value) error {
	if v.Kind() != '{' {
		return broken("is no object", "TypeError")
	}
	var found []string
	err := eachMember(v, func(name string, v jsontext.Value) (err error) {
		found = append(found, name)
		switch name {
		case "platform":
			err = isText(v)
		case "platform_os":
			r.node.OS, err = shownText(v)
		case "target":
			r.node.Target, err = targetName(v)
		}
		return within(name, err)
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"platform", "platform_os", "target"} {
		if !slices.Contains(found, name) {
			return within(name, broken("is missing", "KeyError: '"+name+"'"))
		}
	}
	return nil
}

// targetName reads a target. It is a name or, if archspec does not know it, an object with a name.
func targetName(v jsontext.Value) (string, error) {
	if v.Kind() != '{' {
		return shownText(v)
	}
	var target string
	found := false
	err := eachMember(v, func(name string, v jsontext.Value) (err error) {
		if name == "name" {
			found = true
			target, err = shownText(v)
		}
		return within(name, err)
	})
	if err == nil && !found {
		err = within("name", broken("is missing", "KeyError: 'name'"))
	}
	return target, err
}

func buildSpecOf(v jsontext.Value) (Hash, error) {
	if v.Kind() != '{' {
		return "", broken("is no object", "TypeError")
	}
	var hash Hash
	named := false
	err := eachMember(v, func(name string, v jsontext.Value) (err error) {
		switch name {
		case "name":
			named = true
			err = isText(v)
		case "hash":
			hash, err = hashOf(v)
		}
		return within(name, err)
	})
	switch {
	case err != nil:
		return "", err
	case !named:
		return "", within("name", broken("is missing", "KeyError: 'name'"))
	case hash == "":
		return "", within("hash", broken("is missing", "KeyError: 'hash'"))
	}
	return hash, nil
}

func (r *nodeReader) dependencies(v jsontext.Value) error {
	if v.Kind() != '[' {
		return broken("is no list", "SpecError")
	}
	return eachElement(v, func(i int, v jsontext.Value) error {
		e, err := edgeOf(v)
		if err != nil {
			return within(fmt.Sprintf("[%d]", i), err)
		}
		r.node.edges = append(r.node.edges, e)
		if !slices.Contains(r.node.Dependencies, e.hash) {
			r.node.Dependencies = append(r.node.Dependencies, e.hash)
		}
		return nil
	})
}

func edgeOf(v jsontext.Value) (e edge, err error) {
	if v.Kind() != '{' {
		return e, broken("is no object", "TypeError")
	}
	var found []string
	err = eachMember(v, func(name string, v jsontext.Value) (err error) {
		found = append(found, name)
		switch name {
		case "name":
			err = isText(v)
		case "hash":
			e.hash, err = hashOf(v)
		case "parameters":
			e.types, err = edgeParameters(v)
		}
		return within(name, err)
	})
	if err != nil {
		return e, err
	}
	for _, name := range []string{"name", "hash", "parameters"} {
		if !slices.Contains(found, name) {
			return e, within(name, broken("is missing", "KeyError: '"+name+"'"))
		}
	}
	return e, nil
}

func edgeParameters(v jsontext.Value) (types deptypes, err error) {
	if v.Kind() != '{' {
		return 0, broken("is no object", "TypeError")
	}
	var found []string
	err = eachMember(v, func(name string, v jsontext.Value) (err error) {
		found = append(found, name)
		switch name {
		case "deptypes":
			types, err = deptypesOf(v)
		case "virtuals":
			err = listOfStrings(v)
		case "direct":
			if v.Kind() != 't' && v.Kind() != 'f' {
				err = unusual("is no boolean")
			}
		}
		return within(name, err)
	})
	if err != nil {
		return 0, err
	}
	for _, name := range []string{"deptypes", "virtuals"} {
		if !slices.Contains(found, name) {
			return 0, within(name, broken("is missing", "KeyError: '"+name+"'"))
		}
	}
	return types, nil
}

func deptypesOf(v jsontext.Value) (types deptypes, err error) {
	if v.Kind() != '[' {
		return 0, listOfStrings(v)
	}
	names, ok := texts(v)
	if !ok {
		return 0, broken("is no list of strings", "ValueError")
	}
	for _, name := range names {
		t, ok := deptypeNames[name]
		if !ok {
			return 0, broken(fmt.Sprintf("has %.40q: want build, link, run or test", name), "ValueError")
		}
		types |= t
	}
	return types, nil
}
