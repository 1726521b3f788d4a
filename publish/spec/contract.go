package spec

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// The contract with Spack's readers: what a node must look like so that Spack.from_dict and the reader of an
// index accept it. It follows lib/spack/spack/spec.py (SpecfileReaderBase.from_node_dict and the classes
// derived from it), database.py, variant.py and deptypes.py of Spack 0.23, 1.0 and 1.2; docs/contract.md has
// it as a table. Values of a type that Spack never writes for a member are refused even if some readers
// accept them.

// Contract is the revision of these rules. It increases when a rule changes: an index written under an older
// revision is checked before the next merge.
const Contract = 1

// A dialect says in which format a node is written and which readers must accept it.
type dialect struct {
	written int // format of the document that holds the node
	index   int // format of the nodes of the target index
}

// Limits of the Python that reads an index. An integer with more digits causes a ValueError (Python 3.11,
// sys.int_info.default_max_str_digits). Deeper nesting causes a RecursionError: the JSON reader accepts 1,000
// levels. Spack's update-index, which copies nodes level by level, accepts 400 and fails at 600.
const (
	maxDigits = 4300
	maxDepth  = 420
)

// A ContractError says why Spack's reader cannot read a node, and therefore an index with this node.
type ContractError struct {
	Node   string // name of the node; empty if it has none
	Member string // for example dependencies[0].parameters.virtuals
	Reason string // for example "is missing"
	// Spack is the error of Spack's reader. It is empty if some reader accepts the value although Spack never
	// writes such a value.
	Spack string
}

func (e *ContractError) Error() string {
	subject := "spec"
	if e.Node != "" {
		subject = "spec node " + e.Node
	}
	consequence := "Spack never writes that"
	if e.Spack != "" {
		consequence = "Spack cannot read it (" + e.Spack + ")"
	}
	return fmt.Sprintf("%s: %s %s: %s", subject, e.Member, e.Reason, consequence)
}

// broken and unusual return errors about the member that is being read.
func broken(reason, spack string) error { return &ContractError{Reason: reason, Spack: spack} }
func unusual(reason string) error       { return &ContractError{Reason: reason} }

// listOfStrings refuses anything but a list of strings. Spack's readers iterate over some other values.
func listOfStrings(v jsontext.Value) error {
	if _, ok := texts(v); ok {
		return nil
	}
	switch v.Kind() {
	case '[', '{', '"':
		return unusual("is no list of strings")
	}
	return broken("is no list of strings", "TypeError")
}

// within puts the name of the enclosing member in front of that of an error.
func within(member string, err error) error {
	if err == nil {
		return nil
	}
	var c *ContractError
	if !errors.As(err, &c) {
		return err
	}
	switch {
	case c.Member == "":
		c.Member = member
	case strings.HasPrefix(c.Member, "["):
		c.Member = member + c.Member
	default:
		c.Member = member + "." + c.Member
	}
	return err
}

// CheckJSON refuses valid JSON that Python cannot read: large integers and deep nesting.
func CheckJSON(text []byte) error {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return &ContractError{Member: "JSON", Reason: fmt.Sprintf("is nested more than %d levels deep", maxDepth), Spack: "RecursionError"}
			}
		case c == '}' || c == ']':
			depth--
		case c >= '0' && c <= '9':
			from, integer := i, true
			for ; i < len(text) && strings.IndexByte("0123456789+-.eE", text[i]) >= 0; i++ {
				integer = integer && text[i] >= '0' && text[i] <= '9'
			}
			if integer && i-from > maxDigits {
				return &ContractError{Member: "JSON", Reason: fmt.Sprintf("has an integer of %d digits, more than %d", i-from, maxDigits), Spack: "ValueError"}
			}
			i--
		}
	}
	return nil
}

// An edge is a dependency of a node, with the parts by which the reader joins edges of one name.
type edge struct {
	hash  Hash
	types deptypes
}

// deptypes is a set of Spack's dependency types.
type deptypes uint8

const (
	build deptypes = 1 << iota
	link
	run
	test
)

var deptypeNames = map[string]deptypes{"build": build, "link": link, "run": run, "test": test}

// compatible reports whether two edges may lead to packages of one name, like Spack's function of that name
// (deptypes.py).
func (a deptypes) compatible(b deptypes) bool {
	return a&b == 0 && (a&(link|run) == 0 || b&(link|run) == 0)
}

// fits checks that the dependencies of a node and its build spec are among the nodes of its spec.
func (n *Node) fits(nodes map[Hash]*Node) error {
	for i, e := range n.edges {
		if nodes[e.hash] == nil {
			return &ContractError{n.Name, fmt.Sprintf("dependencies[%d]", i), fmt.Sprintf("is /%s, which is not in the spec", e.hash), "KeyError"}
		}
	}
	if n.buildSpec != "" && nodes[n.buildSpec] == nil {
		return &ContractError{n.Name, "build_spec", fmt.Sprintf("is /%s, which is not in the spec", n.buildSpec), "KeyError"}
	}
	return n.CheckEdges(func(h Hash) string { return nodes[h].Name })
}

// CheckEdges refuses dependencies on packages of one name that exclude each other. nameOf returns the name of
// the package with a hash, or "" if it is not known. Spack joins only edges of one name.
func (n *Node) CheckEdges(nameOf func(Hash) string) error {
	if len(n.edges) < 2 {
		return nil
	}
	byName := make(map[string][]edge, len(n.edges))
	for i, e := range n.edges {
		name := nameOf(e.hash)
		if name == "" {
			continue
		}
		for _, other := range byName[name] {
			if again := other == e; !again && (other.types == e.types || !other.types.compatible(e.types)) {
				return &ContractError{n.Name, fmt.Sprintf("dependencies[%d]", i), fmt.Sprintf("is another dependency on %s, of types that exclude each other", name), "DuplicateDependencyError"}
			}
		}
		byName[name] = append(byName[name], e)
	}
	return nil
}

// compilerFlags are the parameters that Spack reads as lists of flags.
var compilerFlags = []string{"cflags", "cxxflags", "fflags", "ldflags", "ldlibs", "cppflags"}

// checkParameters checks the variants and compiler flags of a node. index is the format of its index.
func checkParameters(v jsontext.Value, patched bool, index int) error {
	if v.Kind() != '{' {
		return broken("is no object", "AttributeError")
	}
	return eachMember(v, func(name string, v jsontext.Value) error {
		values, list := texts(v)
		value, single := text(v)
		switch {
		case slices.Contains(compilerFlags, name):
			return within(name, listOfStrings(v))
		case name == "patches" && patched && !list:
			return within(name, broken("is no list, and the package has patches", "MultipleValuesInExclusiveVariantError"))
		case list && slices.Contains(values, "*"), single && value == "*":
			return within(name, broken("is *", "InvalidVariantValueError"))
		case single && index == Format4 && strings.Contains(value, ","):
			return within(name, broken("is one value with a comma", "MultipleValuesInExclusiveVariantError in Spack 0.23"))
		case !list && !single && v.Kind() != 't' && v.Kind() != 'f':
			return within(name, unusual("is no string, boolean or list of strings"))
		}
		return nil
	})
}

// checkPatches checks the checksums of patches.
func checkPatches(v jsontext.Value) error {
	if err := listOfStrings(v); err != nil {
		return err
	}
	if sums, _ := texts(v); slices.Contains(sums, "*") || len(sums) > 1 && slices.Contains(sums, "none") {
		return broken("has a reserved value", "InvalidVariantValueError")
	}
	return nil
}

// checkExternal reports whether a node is external: installed outside Spack.
func checkExternal(v jsontext.Value) (external bool, err error) {
	if v.Kind() == 'n' {
		return false, nil
	}
	if v.Kind() != '{' {
		return false, unusual("is no object")
	}
	var path, module bool
	members := 0
	err = eachMember(v, func(name string, v jsontext.Value) error {
		members++
		_, list := texts(v)
		switch name {
		case "path":
			path = true
			if v.Kind() != '"' && v.Kind() != 'n' {
				return within(name, unusual("is no string"))
			}
		case "module":
			module = true
			if !list && v.Kind() != '"' && v.Kind() != 'n' && v.Kind() != 'f' {
				return within(name, unusual("is no list of strings"))
			}
		case "extra_attributes":
			if v.Kind() != '{' {
				return within(name, unusual("is no object"))
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return false, err
	case members == 0:
		return false, nil
	case !path:
		return false, within("path", broken("is missing", "KeyError: 'path'"))
	case !module:
		return false, within("module", broken("is missing", "KeyError: 'module'"))
	}
	return true, nil
}

// The compiler of a node of Format4, which Spack 1.x parses as a spec (spec_parser.py, IDENTIFIER and
// VERSION).
var (
	compilerName    = `[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_][A-Za-z0-9_-]*)*`
	compilerVersion = `[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?`

	isCompilerName    = regexp.MustCompile(`^` + compilerName + `$`)
	isCompilerVersion = regexp.MustCompile(`^` + compilerVersion + `$`)
	isCompilerSpec    = regexp.MustCompile(`^` + compilerName + `(?:@=?` + compilerVersion + `)?$`)
)

// checkCompiler checks the compiler of a node that has one as a member.
func checkCompiler(v jsontext.Value) error {
	if v.Kind() != '{' {
		return broken("is no object", "TypeError")
	}
	var name, version bool
	err := eachMember(v, func(member string, v jsontext.Value) error {
		s, ok := text(v)
		switch member {
		case "name":
			if name = true; !ok || !isCompilerName.MatchString(s) {
				return within(member, unusual("is no name of a compiler"))
			}
		case "version":
			if version = true; !ok || !isCompilerVersion.MatchString(s) {
				return within(member, unusual("is no version of a compiler"))
			}
		case "versions":
			return within(member, unusual("is a list of versions"))
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !name:
		return within("name", broken("is missing", "KeyError: 'name'"))
	case !version:
		return within("version", broken("is missing", "ValueError"))
	}
	return nil
}

// checkAnnotations checks the annotations of a node.
func checkAnnotations(v jsontext.Value) error {
	if v.Kind() != '{' {
		return broken("is no object", "TypeError")
	}
	format := false
	err := eachMember(v, func(name string, v jsontext.Value) error {
		switch name {
		case "original_specfile_version":
			if format = true; !isInteger(v) {
				return within(name, unusual("is no integer"))
			}
		case "compiler":
			if s, ok := text(v); !ok || !isCompilerSpec.MatchString(s) {
				return within(name, unusual("is no compiler"))
			}
		}
		return nil
	})
	if err == nil && !format {
		err = within("original_specfile_version", broken("is missing", "KeyError: 'original_specfile_version'"))
	}
	return err
}

// Readable reports whether text can be used unescaped in object names, messages and logs: it is UTF-8 and has
// no control characters, no invisible characters, and no characters that change how other text is displayed,
// such as line separators and marks for the writing direction.
func Readable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(c rune) bool {
		return unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}
