package spectest

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
)

// values are what Mutate puts into places where Spack writes something else.
var values = []any{
	nil, "", "x", "a b", "1:2", "@1", "==", "é", "\u0001", "*", "none", "a,b", 0, -1, 5, 1.5, true, false, []any{}, []any{"x"}, []any{5}, []any{nil}, []any{"x", 5}, []any{"*"},
	[]any{"build"}, []any{"link", "run"}, []any{"all"}, map[string]any{}, map[string]any{"a": "b"}, map[string]any{"name": "x"}, map[string]any{"path": "/usr", "module": nil}, []any{[]any{"x"}},
}

// members are what Mutate adds to objects.
var members = []string{
	"external", "patches", "build_spec", "concrete", "versions", "compiler", "propagate", "abstract", "annotations", "provided_virtuals", "unknown", "name", "version", "hash", "parameters", "deptypes", "virtuals", "direct",
}

// Mutate returns a spec document with one to three random changes: members and elements that are deleted, replaced, added or doubled.
func Mutate(random *rand.Rand, document string) string {
	var doc any
	if err := json.Unmarshal([]byte(document), &doc); err != nil {
		panic(err) // a test's own document
	}
	nodes := doc.(map[string]any)["spec"].(map[string]any)["nodes"].([]any)
	for range 1 + random.IntN(3) {
		i := random.IntN(len(nodes))
		nodes[i] = mutated(random, nodes[i], 0)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// value is one of values, which the caller may change.
func value(random *rand.Rand) any { return cloned(values[random.IntN(len(values))]) }

// mutated changes a value, or something in it.
func mutated(random *rand.Rand, v any, depth int) any {
	if depth > 0 && random.IntN(4) == 0 {
		return value(random)
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 || random.IntN(6) == 0 {
			v[members[random.IntN(len(members))]] = value(random)
			return v
		}
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		name := names[random.IntN(len(names))]
		if random.IntN(5) == 0 {
			delete(v, name)
		} else {
			v[name] = mutated(random, v[name], depth+1)
		}
		return v
	case []any:
		if len(v) == 0 {
			return []any{value(random)}
		}
		i := random.IntN(len(v))
		switch random.IntN(4) {
		case 0:
			return slices.Delete(slices.Clone(v), i, i+1)
		case 1:
			return append(slices.Clone(v), mutated(random, cloned(v[i]), depth+1))
		}
		v[i] = mutated(random, v[i], depth+1)
		return v
	}
	return value(random)
}

// cloned is a copy that shares nothing.
func cloned(v any) (copied any) {
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &copied)
	}
	if err != nil {
		panic(err)
	}
	return copied
}
