package index

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A BadRecord is a record that makes Spack's reader fail on the whole index.
type BadRecord struct {
	Hash spec.Hash
	Name string
	Err  error
}

func (b BadRecord) String() string {
	return fmt.Sprintf("record of %s/%s: %v", b.Name, b.Hash.Short(), b.Err)
}

// checked is the number of records that one goroutine checks at a time.
const checked = 256

// Check returns the records that Spack's reader fails on, in the order of their hashes. It reads every
// package, which takes less than a second for 100,000 packages. An index written only by this program needs
// no check.
//
// Check also counts references. Wrong counts are corrected when the index is next changed. Missing returns
// the missing records that others depend on.
func (x *Index) Check() []BadRecord {
	var mu sync.Mutex // guards bad and counts
	counts := make(map[id]int32, len(x.records))
	var bad []BadRecord
	var panicked error
	var g sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() {
			for from := range next {
				for i := from; i < min(from+checked, len(x.records)); i++ {
					var needs []spec.Hash
					var err error
					broken := defect.Caught(func() error {
						needs, err = x.checkRecord(&x.records[i])
						return nil
					})
					mu.Lock()
					panicked = cmp.Or(panicked, broken)
					for _, h := range needs {
						counts[idOf(h)]++
					}
					if err != nil {
						bad = append(bad, BadRecord{x.records[i].id.hash(), x.names[x.records[i].name], err})
					}
					mu.Unlock()
				}
			}
		})
	}
	for from := 0; from < len(x.records); from += checked {
		next <- from
	}
	close(next)
	g.Wait()
	if panicked != nil {
		panic(panicked) // in this goroutine, where the caller can recover
	}
	x.compare(counts)
	slices.SortFunc(bad, func(a, b BadRecord) int { return cmp.Compare(a.Hash, b.Hash) })
	return bad
}

// compare compares the reference counts of the document with those of its edges.
func (x *Index) compare(counts map[id]int32) {
	for i := range x.records {
		if r := &x.records[i]; r.refCount != counts[r.id] {
			x.miscounted = true
		}
	}
	x.missing = make(map[spec.Hash]int32)
	for h, n := range counts {
		if _, ok := x.byHash[h]; !ok {
			x.missing[h.hash()] = n
		}
	}
}

// Missing returns the sorted hashes that records depend on but that have no record. It must be called after
// Check.
func (x *Index) Missing() []spec.Hash { return slices.Sorted(maps.Keys(x.missing)) }

// checkRecord checks a record and returns its dependencies.
func (x *Index) checkRecord(r *record) (needs []spec.Hash, err error) {
	if err := x.odd[r.id]; err != nil {
		return nil, err
	}
	n, err := spec.ParseNode(x.nodeOf(r), SpecFormat(x.version))
	if err != nil {
		return nil, err
	}
	if idOf(n.Hash) != r.id {
		return nil, fmt.Errorf("it is about /%s", n.Hash.Short())
	}
	return n.Dependencies, n.CheckEdges(func(h spec.Hash) string {
		if at, ok := x.byHash[idOf(h)]; ok {
			return x.names[x.records[at].name]
		}
		return "" // Spack leaves out an edge without a record
	})
}
