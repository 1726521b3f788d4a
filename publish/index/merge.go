package index

import (
	"bytes"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Add adds a package that the mirror holds, from its own document. Adding it again changes nothing.
//
// The document also has copies of the package's dependencies, which may be outdated. A copy is used only if
// the index does not offer that package. Of several copies, the first in byte order is used. So the index
// depends on the documents and not on the order in which they were added.
func (x *Index) Add(s *spec.Spec) {
	first := len(x.records)
	for i, n := range s.Nodes {
		at, ok := x.byHash[idOf(n.Hash)]
		switch {
		case !ok:
			x.insert(n, i == 0)
		case i == 0:
			x.own(&x.records[at], n)
		default:
			x.copy(&x.records[at], n)
		}
	}
	for _, n := range s.Nodes {
		if int(x.byHash[idOf(n.Hash)]) < first {
			continue // its edges are counted already
		}
		for _, d := range n.Dependencies {
			r := &x.records[x.byHash[idOf(d)]] // a spec contains all its dependencies
			r.refCount++
			r.dirty = true
		}
	}
	if r := &x.records[x.byHash[idOf(s.Root().Hash)]]; !r.inBuildcache {
		r.inBuildcache, r.dirty = true, true
		x.change()
	}
}

// Withhold stops the index from offering a package. Its record stays: if the record of a dependency is
// missing, Spack installs the dependent without that dependency.
func (x *Index) Withhold(h spec.Hash) {
	at, ok := x.byHash[idOf(h)]
	if !ok || !x.records[at].inBuildcache {
		return
	}
	r := &x.records[at]
	r.inBuildcache, r.dirty = false, true
	x.change()
}

// Rewrite marks the document to be written in our form although its records have not changed.
func (x *Index) Rewrite() { x.change() }

func (x *Index) insert(n *spec.Node, own bool) {
	x.byHash[idOf(n.Hash)] = int32(len(x.records))
	x.records = append(x.records, record{id: idOf(n.Hash), name: x.named(n.Name), own: own, refCount: x.missing[n.Hash]})
	x.added[idOf(n.Hash)] = n.Record
	x.change()
}

// change records that the document will be written. Then wrong counts are corrected as well.
func (x *Index) change() {
	x.changed = true
	x.unsettled = x.unsettled || x.miscounted
}

// own updates a record from the package's own document.
func (x *Index) own(r *record, n *spec.Node) {
	r.own = true
	if !bytes.Equal(x.nodeOf(r), n.Record) {
		x.replace(r, n)
	}
}

// copy updates the record of a package that is not offered from a dependent's copy, if the copy comes first
// in byte order.
func (x *Index) copy(r *record, n *spec.Node) {
	if r.own || r.inBuildcache {
		return
	}
	have := x.nodeOf(r)
	if bytes.Equal(have, n.Record) {
		return
	}
	normal, err := spec.Normalize(have)
	if err != nil || bytes.Compare(n.Record, normal) <= 0 {
		x.replace(r, n)
	}
}

// replace gives a record another package.
func (x *Index) replace(r *record, n *spec.Node) {
	if was, err := spec.ParseNode(x.nodeOf(r), SpecFormat(x.version)); err != nil || !sameDependencies(was, n) {
		x.unsettled = true
		if err == nil {
			x.loose = append(x.loose, was.Dependencies...)
		}
	}
	r.name, r.at, r.node, r.flag, r.count, r.dirty = x.named(n.Name), span{}, span{}, span{}, span{}, true
	x.added[r.id] = n.Record
	x.change()
}

func sameDependencies(a, b *spec.Node) bool {
	if len(a.Dependencies) != len(b.Dependencies) {
		return false
	}
	edges := make(map[spec.Hash]bool, len(a.Dependencies))
	for _, d := range a.Dependencies {
		edges[d] = true
	}
	for _, d := range b.Dependencies {
		if !edges[d] {
			return false
		}
	}
	return true
}

// settle recounts references after the dependencies of a record have changed, and drops records that only the
// old dependencies needed. A DAG hash covers the dependencies, so this happens only in damaged indices. It
// also corrects counts that were wrong in the document.
func (x *Index) settle() {
	if !x.unsettled {
		return
	}
	x.unsettled = false
	edges := make(map[spec.Hash][]spec.Hash, len(x.records))
	counts := make(map[spec.Hash]int32, len(x.records))
	for i := range x.records {
		r := &x.records[i]
		n, err := spec.ParseNode(x.nodeOf(r), SpecFormat(x.version))
		if err != nil {
			continue
		}
		edges[r.id.hash()] = n.Dependencies
		for _, d := range n.Dependencies {
			counts[d]++
		}
	}
	gone := x.unneeded(edges, counts)
	kept := x.records[:0]
	clear(x.byHash)
	for _, r := range x.records {
		hash := r.id.hash()
		if gone[hash] {
			delete(x.added, r.id)
			continue
		}
		if r.refCount != counts[hash] {
			r.refCount, r.dirty = counts[hash], true
		}
		x.byHash[r.id] = int32(len(kept))
		kept = append(kept, r)
	}
	x.records = kept
}

// unneeded returns the loose records on which no record depends any more, and those on which only these
// depend. It removes their edges from counts.
func (x *Index) unneeded(edges map[spec.Hash][]spec.Hash, counts map[spec.Hash]int32) map[spec.Hash]bool {
	gone := make(map[spec.Hash]bool)
	for len(x.loose) > 0 {
		h := x.loose[0]
		x.loose = x.loose[1:]
		at, ok := x.byHash[idOf(h)]
		if !ok || gone[h] || counts[h] > 0 || x.records[at].inBuildcache {
			continue
		}
		gone[h] = true
		for _, d := range edges[h] {
			counts[d]--
			x.loose = append(x.loose, d)
		}
	}
	return gone
}
