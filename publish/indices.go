package publish

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A generation is a format of specs and the version of the index that holds them. A new format of Spack is a
// new line in the tables below.
type generation struct {
	specs   int // see spec.Format4
	index   int // see index.V7
	readers string
}

// The generations of each layout, oldest first. A mirror of layout v3 may have an index of each. One manifest
// names them, so that several versions of Spack share the mirror (spack PR 53088).
var (
	v2Generations = []generation{{spec.Format4, index.V7, "Spack 0.21 and later"}}
	v3Generations = []generation{{spec.Format5, index.V8, "Spack 1.0 and later"}, {spec.Format6, index.V9, "Spack 1.3 and later"}}
)

// An Audience is the versions of Spack that see a number of packages.
type Audience struct {
	Readers  string `json:"readers"`
	Packages int    `json:"packages"`
}

// indices are those of one mirror: one for each generation of which it has packages.
type indices struct {
	generations []generation
	parts       []*index.Index // of each generation; nil where there is none
}

func newIndices(generations []generation) *indices {
	return &indices{generations, make([]*index.Index, len(generations))}
}

// all yields the indices that there are.
func (x *indices) all() iter.Seq2[generation, *index.Index] {
	return func(yield func(generation, *index.Index) bool) {
		for i, part := range x.parts {
			if part != nil && !yield(x.generations[i], part) {
				return
			}
		}
	}
}

// part is the index of a version, which is made if there is none yet.
func (x *indices) part(version int) *index.Index {
	i := slices.IndexFunc(x.generations, func(g generation) bool { return g.index == version })
	if x.parts[i] == nil {
		x.parts[i] = index.New(version)
	}
	return x.parts[i]
}

// Add adds a package to the index of its generation.
func (x *indices) Add(s *spec.Spec) { x.part(index.ForSpecs(s.Format)).Add(s) }

// Has reports whether a package is offered.
func (x *indices) Has(h spec.Hash) bool {
	for _, part := range x.all() {
		if part.Has(h) {
			return true
		}
	}
	return false
}

// Offered is how many packages are offered.
func (x *indices) Offered() int {
	n := 0
	for _, part := range x.all() {
		n += part.Offered()
	}
	return n
}

// Changed reports whether any index differs from the one that was read.
func (x *indices) Changed() bool {
	for _, part := range x.all() {
		if part.Changed() {
			return true
		}
	}
	return false
}

// Size is how many bytes the documents that changed have.
func (x *indices) Size() int64 {
	var n int64
	for _, part := range x.all() {
		if part.Changed() {
			n += part.Content().Size()
		}
	}
	return n
}

// Coverage says which packages are offered.
func (x *indices) Coverage() index.Coverage {
	all := make(index.Coverage)
	for _, part := range x.all() {
		for name, sum := range part.Coverage() {
			was := all[name]
			all[name] = index.Sum{Count: was.Count + sum.Count, Total: was.Total + sum.Total}
		}
	}
	return all
}

// All yields every record of every index.
func (x *indices) All() iter.Seq[index.Entry] {
	return func(yield func(index.Entry) bool) {
		for _, part := range x.all() {
			for e := range part.All() {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// Audiences says which versions of Spack see how many packages; nil if all see all.
func (x *indices) Audiences() []Audience {
	var all []Audience
	for g, part := range x.all() {
		if n := part.Offered(); n > 0 {
			all = append(all, Audience{g.readers, n})
		}
	}
	if len(all) == 1 && all[0].Readers == x.generations[0].readers {
		return nil
	}
	return all
}

// check returns an error that names a record that Spack's readers fail on, or a dependency that has no record.
func (x *indices) check() error {
	var bad []index.BadRecord
	for _, part := range x.all() {
		bad = append(bad, part.Check()...)
		if missing := part.Missing(); len(missing) > 0 {
			return fmt.Errorf("a package in it depends on /%s, which has no record", missing[0])
		}
	}
	switch len(bad) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("it is not one that Spack can read: %v", bad[0])
	}
	return fmt.Errorf("it is not one that Spack can read: %v, and %d more records", bad[0], len(bad)-1)
}

// same compares record by record, because the order of records means nothing, nor that of members.
func (x *indices) same(y *indices) bool {
	for i := range x.generations {
		if !sameRecords(x.parts[i], y.parts[i]) {
			return false
		}
	}
	return true
}

func sameRecords(a, b *index.Index) bool {
	if a == nil || b == nil {
		return a == b
	}
	records := make(map[spec.Hash]index.Entry)
	for e := range a.All() {
		records[e.Hash] = e
	}
	for e := range b.All() {
		was, ok := records[e.Hash]
		if !ok || was.InBuildcache != e.InBuildcache || was.RefCount != e.RefCount || !sameJSON(was.Node, e.Node) {
			return false
		}
		delete(records, e.Hash)
	}
	return len(records) == 0
}

func sameJSON(a, b jsontext.Value) bool {
	if bytes.Equal(a, b) {
		return true
	}
	a, b = a.Clone(), b.Clone()
	return a.Canonicalize() == nil && b.Canonicalize() == nil && bytes.Equal(a, b)
}

// keep copies a package and its dependencies from another set of indices, for the generations whose index offers it there
// and not here.
func (x *indices) keep(from *indices, h spec.Hash) {
	for g, part := range from.all() {
		if !part.Has(h) || x.part(g.index).Has(h) {
			continue
		}
		if s := part.Spec(h); s != nil {
			x.part(g.index).Add(s)
		}
	}
}

// contents are the documents, by generation. Where there are several, one manifest names them all and changes with
// each. A client that holds the manifest's ETag would lose its index if that stayed the same in a changed manifest
// (docs/layouts.md, law 14). So each document has a note that tells the others apart. salt is added to the notes.
func (x *indices) contents(ctx context.Context, salt string) ([]blob.Source, error) {
	sources := make([]blob.Source, len(x.parts))
	bare := make([]string, len(x.parts))
	n := 0
	for i, part := range x.parts {
		if part == nil {
			continue
		}
		n++
		sources[i] = part.Content()
	}
	if n < 2 && salt == "" {
		return sources, nil
	}
	for i, part := range x.parts {
		if part == nil {
			continue
		}
		digest, err := blob.Sum(ctx, part.Noted(""))
		if err != nil {
			return nil, err
		}
		bare[i] = digest.String()
	}
	for i, part := range x.parts {
		if part != nil {
			beside := slices.DeleteFunc(slices.Delete(slices.Clone(bare), i, i+1), func(s string) bool { return s == "" })
			sources[i] = part.Noted("beside " + strings.Join(append(beside, salt), " "))
		}
	}
	return sources, nil
}
