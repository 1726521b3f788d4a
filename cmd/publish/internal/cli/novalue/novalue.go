// Package novalue finds YAML keys without a value. If they were ignored, the restrictions that they stand for
// would be dropped.
package novalue

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Err means that a key, or an item of a list, has no value.
var Err = errors.New("it has no value: give one, or leave it out")

// Is reports whether a value is missing, also after a tag alone (!!str).
func Is(n ast.Node) bool {
	if tagged, ok := n.(*ast.TagNode); ok {
		n = tagged.Value
	}
	_, null := n.(*ast.NullNode)
	return null || n == nil
}

// Each calls found for each key or item of a list below a node that has no value.
func Each(n ast.Node, found func(line, column int, reason string)) {
	ast.Walk(visitor(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.MappingValueNode:
			if at := n.Key.GetToken().Position; Is(n.Value) {
				found(at.Line, at.Column, n.Key.String()+": "+Err.Error())
			}
		case *ast.SequenceNode:
			for _, item := range n.Values {
				if at := item.GetToken().Position; Is(item) {
					found(at.Line, at.Column, "an item of a list: "+Err.Error())
				}
			}
		}
	}), n)
}

// Check returns an error for each key or item of a list in a text that has no value.
func Check(text []byte) error {
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		return err
	}
	var wrong []error
	for _, d := range doc.Docs {
		if d.Body != nil {
			Each(d.Body, func(line, column int, reason string) {
				wrong = append(wrong, fmt.Errorf("%d:%d: %s", line, column, reason))
			})
		}
	}
	return errors.Join(wrong...)
}

type visitor func(ast.Node)

// Visit implements ast.Visitor.
func (v visitor) Visit(n ast.Node) ast.Visitor {
	v(n)
	return v
}
