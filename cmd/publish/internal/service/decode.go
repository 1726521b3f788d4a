package service

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/novalue"
	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
)

// maxMistakes is how many mistakes of a configuration are listed.
const maxMistakes = 50

// ParseConfig parses a configuration. Its error joins all mistakes, in the order of their positions.
func ParseConfig(text []byte) (*Config, error) {
	c := new(Config)
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, placed(err)
	}
	if len(doc.Docs) == 0 || doc.Docs[0].Body == nil { // it lacks every key
		return nil, errors.Join(c.check(places{doc})...)
	}
	// The decoder stops at the first mistake, so remove the mistake and decode the rest again.
	body := doc.Docs[0].Body
	underscored(body)
	var wrong []error
	var left []string // keys that were removed
	novalue.Each(body, func(line, column int, reason string) {
		wrong = append(wrong, &placedError{line, column, reason})
	})
	for _, one := range wrong {
		at := placed(one)
		if key, ok := drop(body, at.line, at.column); ok {
			left = append(left, key)
		}
	}
	for len(wrong) < maxMistakes {
		c = new(Config)
		err := yaml.NodeToValue(body, c, yaml.Strict())
		if err == nil {
			break
		}
		one := placed(err)
		wrong = append(wrong, one)
		key, ok := drop(body, one.line, one.column)
		if !ok {
			return nil, errors.Join(wrong...)
		}
		left = append(left, key)
	}
	for _, one := range c.check(places{doc}) {
		at, ok := errors.AsType[*placedError](one)
		gone := func(key string) bool {
			if ok && at.line == 0 { // nothing has that name
				key = nearest.Word(key, Keys())
			}
			return ok && strings.HasPrefix(at.message, key+":")
		}
		if slices.ContainsFunc(left, gone) {
			continue // removed and misspelt keys are not missing
		}
		wrong = append(wrong, one)
	}
	slices.SortStableFunc(wrong, func(a, b error) int {
		return cmp.Or(cmp.Compare(lineOf(a), lineOf(b)), strings.Compare(a.Error(), b.Error()))
	})
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return c, nil
}

// underscored replaces hyphens by underscores in keys, because flags and publish.yaml have hyphens. A key that
// is unknown either way stays as written.
func underscored(body ast.Node) {
	known := Keys()
	ast.Walk(visitor(func(n ast.Node) {
		pair, ok := n.(*ast.MappingValueNode)
		if !ok {
			return
		}
		if key, ok := pair.Key.(*ast.StringNode); ok {
			if name := strings.ReplaceAll(key.Value, "-", "_"); name != key.Value && slices.Contains(known, name) {
				key.Value, key.Token.Value = name, name
			}
		}
	}), body)
}

func lineOf(err error) int {
	var at *placedError
	if errors.As(err, &at) {
		return at.line
	}
	return 0
}

// placed converts an error of the decoder.
func placed(err error) *placedError {
	var ours *placedError
	var known yaml.Error
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &known):
		at := known.GetToken().Position
		return &placedError{at.Line, at.Column, goless(known.GetMessage())}
	}
	return &placedError{message: err.Error()}
}

// drop removes the innermost pair of a mapping that contains a position, and returns its key. It returns false
// if there is none.
func drop(n ast.Node, line, column int) (key string, ok bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		for i, pair := range n.Values {
			if key, ok := drop(pair.Value, line, column); ok {
				return key, true
			}
			if holds(pair, line, column) {
				n.Values = slices.Delete(n.Values, i, i+1)
				return pair.Key.String(), true
			}
		}
	case *ast.SequenceNode:
		for _, v := range n.Values {
			if key, ok := drop(v, line, column); ok {
				return key, true
			}
		}
	}
	return "", false
}

// holds reports whether a pair, or a node below it, begins at a position.
func holds(pair *ast.MappingValueNode, line, column int) bool {
	found := false
	is := func(t *token.Token) bool { return t != nil && t.Position.Line == line && t.Position.Column == column }
	ast.Walk(visitor(func(n ast.Node) { found = found || is(n.GetToken()) }), pair)
	return found || is(pair.Key.GetToken())
}

type visitor func(ast.Node)

// Visit implements ast.Visitor.
func (v visitor) Visit(n ast.Node) ast.Visitor {
	v(n)
	return v
}

var (
	intoGo     = regexp.MustCompile(`cannot unmarshal (.+) into Go \S+ (?:field )?\S* ?of type (\S+)`)
	unknownKey = regexp.MustCompile(`unknown field "([^"]*)"`)
)

// kinds translates names of Go types into words of YAML.
var kinds = strings.NewReplacer("[]interface {}", "a list", "map[string]interface {}", "a mapping")

// goless rewrites a message of the decoder without Go types. For an unknown key it suggests a similar one.
func goless(message string) string {
	if m := unknownKey.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("unknown key %q%s", m[1], nearest.DidYouMean(strings.ReplaceAll(m[1], "-", "_"), Keys()))
	}
	return kinds.Replace(intoGo.ReplaceAllString(message, "want $2, not $1"))
}

// Keys returns all keys of a configuration, including those of its mirrors.
func Keys() []string {
	var names []string
	for _, t := range []reflect.Type{reflect.TypeFor[Config](), reflect.TypeFor[MirrorConfig](), reflect.TypeFor[bandwidth]()} {
		for i := range t.NumField() {
			if name := t.Field(i).Tag.Get("yaml"); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}
