package index

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Same reports whether two indices have the same records. The order of records and of members does not
// matter.
func Same(a, b *Index) bool {
	if a == nil || b == nil {
		return a == b
	}
	records := make(map[spec.Hash]Entry)
	for e := range a.All() {
		records[e.Hash] = e
	}
	for e := range b.All() {
		was, ok := records[e.Hash]
		if !ok || was.InBuildcache != e.InBuildcache || was.RefCount != e.RefCount || !SameJSON(was.Node, e.Node) {
			return false
		}
		delete(records, e.Hash)
	}
	return len(records) == 0
}

// SameJSON reports whether two values are equal, apart from white space and the order of members.
func SameJSON(a, b jsontext.Value) bool {
	if bytes.Equal(a, b) {
		return true
	}
	a, b = a.Clone(), b.Clone()
	return a.Canonicalize() == nil && b.Canonicalize() == nil && bytes.Equal(a, b)
}
