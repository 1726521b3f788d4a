// Package indices treats all indices of a mirror as one set: a mirror may have an index for each generation
// of Spack.
package indices

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Generation is a format of specs and the version of the index that holds them. A new format of Spack needs
// a new line in the tables below.
type Generation struct {
	Specs   int // see spec.Format4
	Index   int // see index.V7
	Readers string
}

// The generations of each layout, oldest first. A mirror of layout v3 may have an index of each generation.
// One manifest names all of them, so that several versions of Spack can share the mirror (spack PR 53088).
var (
	V2Generations = []Generation{{spec.Format4, index.V7, "Spack 0.21 and later"}}
	V3Generations = []Generation{{spec.Format5, index.V8, "Spack 1.0 and later"}, {spec.Format6, index.V9, "Spack 1.3 and later"}}
)

// An Audience says how many packages some versions of Spack see.
type Audience struct {
	Readers  string `json:"readers"`
	Packages int    `json:"packages"`
}

// A Set holds the indices of one mirror: one for each generation of its packages.
type Set struct {
	Generations []Generation
	Parts       []*index.Index // one for each generation; nil if there is none
}

func New(generations []Generation) *Set {
	return &Set{generations, make([]*index.Index, len(generations))}
}

// ByGeneration yields the existing indices with their generations.
func (x *Set) ByGeneration() iter.Seq2[Generation, *index.Index] {
	return func(yield func(Generation, *index.Index) bool) {
		for i, part := range x.Parts {
			if part != nil && !yield(x.Generations[i], part) {
				return
			}
		}
	}
}

// Part returns the index of a version. It creates the index if there is none.
func (x *Set) Part(version int) *index.Index {
	i := slices.IndexFunc(x.Generations, func(g Generation) bool { return g.Index == version })
	if x.Parts[i] == nil {
		x.Parts[i] = index.New(version)
	}
	return x.Parts[i]
}

// Add adds a package to the index of its generation.
func (x *Set) Add(s *spec.Spec) { x.Part(index.ForSpecs(s.Format)).Add(s) }

// Has reports whether a package is offered.
func (x *Set) Has(h spec.Hash) bool {
	for _, part := range x.ByGeneration() {
		if part.Has(h) {
			return true
		}
	}
	return false
}

// Withhold stops all indices from offering a package. Its records stay.
func (x *Set) Withhold(h spec.Hash) {
	for _, part := range x.ByGeneration() {
		part.Withhold(h)
	}
}

// A Change is the difference between the packages that are offered and those that were offered.
type Change struct{ Added, Removed map[spec.Hash]index.Entry }

// Changes returns the packages that are newly offered or no longer offered, compared with the documents that
// were read.
func (x *Set) Changes() Change {
	c := Change{make(map[spec.Hash]index.Entry), make(map[spec.Hash]index.Entry)}
	was := make(map[spec.Hash]bool) // offered before by at least one index
	for _, part := range x.ByGeneration() {
		added, removed := part.Changes()
		for _, e := range added {
			c.Added[e.Hash] = e
		}
		for _, e := range removed {
			c.Removed[e.Hash], was[e.Hash] = e, true
		}
	}
	for h := range c.Added {
		if was[h] || x.had(h) {
			delete(c.Added, h)
		}
	}
	for h := range c.Removed {
		if x.Has(h) {
			delete(c.Removed, h)
		}
	}
	return c
}

// had reports whether a package was offered by one of the documents that were read and still is.
func (x *Set) had(h spec.Hash) bool {
	for _, part := range x.ByGeneration() {
		if part.Kept(h) {
			return true
		}
	}
	return false
}

// Since returns the packages that are newly offered or no longer offered, compared with was.
func (x *Set) Since(was *Set) Change {
	c := Change{make(map[spec.Hash]index.Entry), make(map[spec.Hash]index.Entry)}
	for e := range x.Records() {
		if e.InBuildcache && !was.Has(e.Hash) {
			c.Added[e.Hash] = e
		}
	}
	for e := range was.Records() {
		if e.InBuildcache && !x.Has(e.Hash) {
			c.Removed[e.Hash] = e
		}
	}
	return c
}

// Offered returns the number of packages that are offered.
func (x *Set) Offered() int {
	n := 0
	for _, part := range x.ByGeneration() {
		n += part.Offered()
	}
	return n
}

// Changed reports whether any index differs from the one that was read.
func (x *Set) Changed() bool {
	for _, part := range x.ByGeneration() {
		if part.Changed() {
			return true
		}
	}
	return false
}

// Size returns the size of the changed documents, in bytes.
func (x *Set) Size() int64 {
	var n int64
	for _, part := range x.ByGeneration() {
		if part.Changed() {
			n += part.Content().Size()
		}
	}
	return n
}

// Coverage says which packages are offered.
func (x *Set) Coverage() index.Coverage {
	all := make(index.Coverage)
	for _, part := range x.ByGeneration() {
		for name, sum := range part.Coverage() {
			was := all[name]
			all[name] = index.Sum{Count: was.Count + sum.Count, Total: was.Total + sum.Total}
		}
	}
	return all
}

// Records yields every record of every index.
func (x *Set) Records() iter.Seq[index.Entry] {
	return func(yield func(index.Entry) bool) {
		for _, part := range x.ByGeneration() {
			for e := range part.All() {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// Audiences says how many packages each version of Spack sees; nil if all see all.
func (x *Set) Audiences() []Audience {
	var all []Audience
	for g, part := range x.ByGeneration() {
		if n := part.Offered(); n > 0 {
			all = append(all, Audience{g.Readers, n})
		}
	}
	if len(all) == 1 && all[0].Readers == x.Generations[0].Readers {
		return nil
	}
	return all
}

// Check returns an error that names a record that Spack cannot read, or a dependency without a record.
func (x *Set) Check() error {
	var bad []index.BadRecord
	for _, part := range x.ByGeneration() {
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

// Same reports whether x and y have the same records. The order of records and of members does not matter.
func (x *Set) Same(y *Set) bool {
	for i := range x.Generations {
		if !index.Same(x.Parts[i], y.Parts[i]) {
			return false
		}
	}
	return true
}

// Keep copies a package and its dependencies from another set, for each generation in which from offers it
// and x does not.
func (x *Set) Keep(from *Set, h spec.Hash) {
	for g, part := range from.ByGeneration() {
		if !part.Has(h) || x.Part(g.Index).Has(h) {
			continue
		}
		if s := part.Spec(h); s != nil {
			x.Part(g.Index).Add(s)
		}
	}
}

// Contents returns the documents by generation. If there are several, one manifest names them all and changes
// with each. If a client holds the manifest's ETag and its own index stays the same in a changed manifest, it
// loses its index (docs/layouts.md, law 14). So each document has a note with the digests of the others, and
// changes with them. salt is added to the notes.
func (x *Set) Contents(ctx context.Context, salt string) ([]blob.Source, error) {
	sources := make([]blob.Source, len(x.Parts))
	bare := make([]string, len(x.Parts))
	n := 0
	for i, part := range x.Parts {
		if part == nil {
			continue
		}
		n++
		sources[i] = part.Content()
	}
	if n < 2 && salt == "" {
		return sources, nil
	}
	for i, part := range x.Parts {
		if part == nil || n < 2 {
			continue // no other index
		}
		digest, err := blob.Sum(ctx, part.Noted(nil))
		if err != nil {
			return nil, err
		}
		bare[i] = digest.String()
	}
	for i, part := range x.Parts {
		if part != nil {
			beside := slices.DeleteFunc(slices.Delete(slices.Clone(bare), i, i+1), func(s string) bool { return s == "" })
			sources[i] = part.Noted(strconv.AppendQuote(nil, "beside "+strings.Join(append(beside, salt), " ")))
		}
	}
	return sources, nil
}

// Without returns the indices without some packages: see index.Index.Without.
func (x *Set) Without(gone map[spec.Hash]bool) (*Set, error) {
	out := &Set{x.Generations, make([]*index.Index, len(x.Parts))}
	for i, part := range x.Parts {
		if part == nil {
			continue
		}
		var err error
		if out.Parts[i], err = part.Without(gone); err != nil {
			return nil, err
		}
	}
	return out, nil
}
