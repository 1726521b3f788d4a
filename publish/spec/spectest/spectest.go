// Package spectest has what real versions of Spack did with variants of two real specs, for tests: each
// variant differs from a spec that Spack wrote in one member (test/testdata/reader).
package spectest

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// A Variant is a spec document and what Spack says of it.
type Variant struct {
	Change   string // what differs from the document that Spack wrote, such as: delete arch
	Document string
	// Spack has, for each version of Spack, what it did with the document and with an index that
	// holds the document's nodes: "reads", or the name of an exception.
	Spack map[string]struct{ Document, Index string }
}

// Readable reports whether all versions of Spack read the document, and an index that holds it.
func (v Variant) Readable() bool {
	for _, said := range v.Spack {
		if said.Document != "reads" || said.Index != "reads" {
			return false
		}
	}
	return true
}

// Read returns the variants in a file of test/testdata/reader. The last one is the document as Spack wrote it.
func Read(t testing.TB, file string) []Variant {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []Variant
	for dec := json.NewDecoder(zr); ; {
		var v Variant
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF) && len(all) > 400:
			return all
		case err != nil:
			t.Fatalf("%s, after %d variants: %v", file, len(all), err)
		}
		all = append(all, v)
	}
}

// Unusual reports whether a variant may be refused although Spack reads it (docs/contract.md): it has a value where Spack
// never writes one like it, of another type or with control characters in what people are shown, or the
// document is about another package.
func (v Variant) Unusual() bool {
	change := v.Change
	member, value, ok := strings.Cut(change, " = ")
	if !ok {
		return change == "second node with the same hash and another version" || strings.HasPrefix(change, "parameters nested ") ||
			strings.HasPrefix(change, "parameters integer of ")
	}
	var x any
	if json.Unmarshal([]byte(value), &x) != nil {
		return false
	}
	_, text := x.(string)
	_, boolean := x.(bool)
	_, number := x.(float64)
	_, object := x.(map[string]any)
	switch {
	case member == "_meta.version":
		return !number || strings.Contains(value, ".")
	case member == "hash" || member == "+versions": // not the hash or the version of the manifest
		return true
	case member == "+external":
		path, _ := x.(map[string]any)
		_, attributes := path["extra_attributes"].(map[string]any)
		return !object || path["path"] == 5.0 || path["extra_attributes"] != nil && !attributes
	case strings.HasSuffix(member, "deptypes"), strings.HasSuffix(member, "virtuals"), strings.HasSuffix(member, "flags"), member == "parameters.ldlibs",
		member == "+patches", member == "+propagate", member == "+abstract":
		return !strings.HasPrefix(value, "[") || !allText(x)
	case strings.HasPrefix(member, "parameters."):
		return !text && !boolean && !allText(x)
	case member == "annotations.original_specfile_version":
		return !number || strings.ContainsAny(value, ".eE")
	case member == "+concrete":
		return !boolean
	case member == "arch.target" || member == "arch.platform_os" || member == "name" || member == "version":
		return !text || strings.Contains(value, `\u0001`)
	case strings.HasPrefix(member, "+") && member != "+package_hash":
		return false // members that no reader knows
	case member == "dependencies.0", member == "dependencies", member == "parameters", member == "arch", member == "annotations", member == "compiler":
		return false
	}
	return !text
}

func allText(v any) bool {
	list, ok := v.([]any)
	for _, e := range list {
		if _, text := e.(string); !text {
			return false
		}
	}
	return ok
}
