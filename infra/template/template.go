// Package template reads a CloudFormation template and works out what its values are
// once the resources in it exist. It does no I/O.
//
// It knows the intrinsic functions that this stack uses and refuses the others: a
// value that is not understood is an error, never a guess.
package template

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Template is the part of a CloudFormation template that has to do with resources.
type Template struct {
	Description string
	Metadata    map[string]any
	Resources   map[string]Resource
	Outputs     map[string]Output
	Mappings    map[string]map[string]map[string]any
}

// A Resource is one resource as the template declares it.
type Resource struct {
	Type                string
	Properties          map[string]any
	DependsOn           any
	DeletionPolicy      string
	UpdateReplacePolicy string
}

// An Output is one output as the template declares it.
type Output struct {
	Description string
	Value       any
}

// Parse reads a template in JSON.
func Parse(b []byte) (Template, error) {
	var t Template
	if err := json.Unmarshal(b, &t); err != nil {
		return Template{}, fmt.Errorf("parse template: %w", err)
	}
	return t, nil
}

// IDs returns the logical ids of all resources, sorted.
func (t Template) IDs() []string { return slices.Sorted(maps.Keys(t.Resources)) }

// OfType returns the logical ids of the resources of a type, sorted.
func (t Template) OfType(kind string) []string {
	var ids []string
	for _, id := range t.IDs() {
		if t.Resources[id].Type == kind {
			ids = append(ids, id)
		}
	}
	return ids
}

// A World is what only the account knows: names of existing resources.
type World struct {
	Account, Region, StackName string
	// Ref is what Ref gives for a logical id: most often the physical id.
	Ref map[string]string
	// Attr is what Fn::GetAtt gives, by logical id and attribute.
	Attr map[string]map[string]string
}

// Resolve replaces every intrinsic function in v by its value in the world.
func (t Template) Resolve(v any, w World) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		if fn, arg, ok := intrinsic(v); ok {
			return t.call(fn, arg, w)
		}
		out := make(map[string]any, len(v))
		for k, e := range v {
			r, err := t.Resolve(e, w)
			if err != nil {
				return nil, err
			}
			out[k] = r
		}
		return out, nil
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			r, err := t.Resolve(e, w)
			if err != nil {
				return nil, err
			}
			out = append(out, r)
		}
		return out, nil
	}
	return v, nil
}

// ResolveString is Resolve for a value that must come out as a string.
func (t Template) ResolveString(v any, w World) (string, error) {
	r, err := t.Resolve(v, w)
	if err != nil {
		return "", err
	}
	s, ok := r.(string)
	if !ok {
		return "", fmt.Errorf("want a string, have %v", r)
	}
	return s, nil
}

// intrinsic recognises {"Ref": x} and {"Fn::Name": x}.
func intrinsic(m map[string]any) (string, any, bool) {
	if len(m) != 1 {
		return "", nil, false
	}
	for k, v := range m {
		if k == "Ref" || strings.HasPrefix(k, "Fn::") {
			return k, v, true
		}
	}
	return "", nil, false
}

func (t Template) call(fn string, arg any, w World) (any, error) {
	switch fn {
	case "Ref":
		return w.ref(fmt.Sprint(arg))
	case "Fn::GetAtt":
		return w.attr(arg)
	case "Fn::Join":
		return t.join(arg, w)
	case "Fn::FindInMap":
		return t.find(arg, w)
	}
	return nil, fmt.Errorf("%s is not modelled", fn)
}

func (w World) ref(id string) (string, error) {
	switch id {
	case "AWS::AccountId":
		return w.Account, nil
	case "AWS::Region":
		return w.Region, nil
	case "AWS::StackName":
		return w.StackName, nil
	case "AWS::Partition":
		return "aws", nil
	case "AWS::URLSuffix":
		return "amazonaws.com", nil
	}
	if s, ok := w.Ref[id]; ok {
		return s, nil
	}
	return "", fmt.Errorf("resource %s does not exist", id)
}

func (w World) attr(arg any) (string, error) {
	var id, name string
	switch a := arg.(type) {
	case []any:
		if len(a) == 2 {
			id, name = fmt.Sprint(a[0]), fmt.Sprint(a[1])
		}
	case string:
		id, name, _ = strings.Cut(a, ".")
	}
	if s, ok := w.Attr[id][name]; ok {
		return s, nil
	}
	return "", fmt.Errorf("attribute %s of resource %s is not known", name, id)
}

func (t Template) join(arg any, w World) (string, error) {
	pair, ok := arg.([]any)
	if !ok || len(pair) != 2 {
		return "", fmt.Errorf("malformed Fn::Join: %v", arg)
	}
	list, err := t.Resolve(pair[1], w)
	if err != nil {
		return "", err
	}
	var parts []string
	for _, e := range list.([]any) {
		parts = append(parts, fmt.Sprint(e))
	}
	return strings.Join(parts, fmt.Sprint(pair[0])), nil
}

func (t Template) find(arg any, w World) (any, error) {
	keys, err := t.Resolve(arg, w)
	if err != nil {
		return nil, err
	}
	path, ok := keys.([]any)
	if !ok || len(path) != 3 {
		return nil, fmt.Errorf("malformed Fn::FindInMap: %v", arg)
	}
	v, ok := t.Mappings[fmt.Sprint(path[0])][fmt.Sprint(path[1])][fmt.Sprint(path[2])]
	if !ok {
		return nil, fmt.Errorf("mapping has no %v", path)
	}
	return v, nil
}

// Order returns the logical ids so that each comes after those that it needs.
func (t Template) Order() ([]string, error) {
	var order []string
	const visiting, done = 1, 2
	state := map[string]int{}
	var visit func(id string) error
	visit = func(id string) error {
		switch state[id] {
		case visiting:
			return fmt.Errorf("resource %s depends on itself", id)
		case done:
			return nil
		}
		state[id] = visiting
		for _, need := range t.needs(id) {
			if err := visit(need); err != nil {
				return err
			}
		}
		state[id] = done
		order = append(order, id)
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
		if err := visit(id); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// needs are the resources that id refers to or says it depends on, sorted.
func (t Template) needs(id string) []string {
	found := map[string]bool{}
	r := t.Resources[id]
	t.references(r.Properties, found)
	switch d := r.DependsOn.(type) {
	case string:
		found[d] = true
	case []any:
		for _, e := range d {
			found[fmt.Sprint(e)] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func (t Template) references(v any, found map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		if fn, arg, ok := intrinsic(v); ok {
			name := fmt.Sprint(arg)
			if list, isList := arg.([]any); isList && len(list) > 0 {
				name = fmt.Sprint(list[0])
			}
			if _, known := t.Resources[name]; known && (fn == "Ref" || fn == "Fn::GetAtt") {
				found[name] = true
				return
			}
		}
		for _, e := range v {
			t.references(e, found)
		}
	case []any:
		for _, e := range v {
			t.references(e, found)
		}
	}
}
