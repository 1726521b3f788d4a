package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/pflag"
)

// cdkContext is what `cdk -c key=value` and cdk.json's context tell the app, of which
// the keys that look like ours are taken.
func cdkContext(getenv func(string) string) (map[string][]string, error) {
	text := getenv("CDK_CONTEXT_JSON")
	if text == "" {
		return nil, nil
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("CDK_CONTEXT_JSON: %w", err)
	}
	ours := map[string][]string{}
	for k, v := range all {
		switch v := v.(type) {
		case nil: // is not given
		case []any:
			for _, e := range v {
				ours[k] = append(ours[k], fmt.Sprint(e))
			}
		default:
			ours[k] = single(fmt.Sprint(v))
		}
	}
	return ours, nil
}

// readConfig reads a flat YAML file of settings. A key that is no setting is an error
// with its line, since a misspelt one would otherwise silently keep its default.
func readConfig(path string, flags *pflag.FlagSet) (map[string][]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read --config: %w", err)
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, fmt.Errorf("read --config %s: %w", path, err)
	}
	settings := map[string][]string{}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		entries, ok := doc.Body.(ast.MapNode)
		if !ok {
			return nil, fmt.Errorf("read --config %s: want lines of the form key: value", path)
		}
		for entry := entries.MapRange(); entry.Next(); {
			key := entry.Key().GetToken().Value
			line := entry.Key().GetToken().Position.Line
			if flags.Lookup(key) == nil || key == "config" {
				return nil, fmt.Errorf("%s:%d: %s is no setting", path, line, key)
			}
			values, err := scalars(entry.Value())
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %s: %w", path, line, key, err)
			}
			settings[key] = values
		}
	}
	return settings, nil
}

// scalars are the values of a node. Without one, nobody can tell whether the setting is to
// be kept or taken back.
func scalars(n ast.Node) ([]string, error) {
	noValue := errors.New("has no value; " + none + " takes a setting back")
	switch n := n.(type) {
	case *ast.NullNode:
		return nil, noValue
	case *ast.SequenceNode:
		var all []string
		for _, e := range n.Values {
			one, err := scalars(e)
			if err != nil {
				return nil, err
			}
			all = append(all, one...)
		}
		if len(all) == 0 {
			return nil, noValue
		}
		return all, nil
	case ast.ScalarNode:
		if text, isText := n.GetValue().(string); isText {
			return []string{text}, nil
		}
		// An unquoted account or suffix is a number in YAML; its digits are what is meant.
		return []string{n.GetToken().Value}, nil
	}
	return nil, errors.New("want a value or a list of values")
}
