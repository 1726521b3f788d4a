package index

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A BadRecord is a record that Spack's reader fails on, and with it on the whole index.
type BadRecord struct {
	Hash spec.Hash
	Name string
	Err  error
}

func (b BadRecord) String() string {
	return fmt.Sprintf("record of %s/%s: %v", b.Name, b.Hash.Short(), b.Err)
}

// checked is how many records one goroutine checks at a time.
const checked = 256

// Check returns the records that Spack's reader fails on, in the order of their hashes. It reads every
// package, which for 100,000 takes less than a second: an index that was only merged into by us needs no check.
//
// It also counts the references to missing records, so that ref_count is right when they are added.
func (x *Index) Check() []BadRecord {
	var mu sync.Mutex // guards bad and x.missing
	x.missing = make(map[spec.Hash]int32)
	var bad []BadRecord
	var panicked error
	var g sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() {
			for from := range next {
				for i := from; i < min(from+checked, len(x.records)); i++ {
					var missing []spec.Hash
					var err error
					broken := defect.Caught(func() error {
						missing, err = x.checkRecord(&x.records[i])
						return nil
					})
					if err == nil && len(missing) == 0 && broken == nil {
						continue
					}
					mu.Lock()
					panicked = cmp.Or(panicked, broken)
					for _, h := range missing {
						x.missing[h]++
					}
					if err != nil {
						bad = append(bad, BadRecord{x.records[i].hash, x.records[i].name, err})
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
		panic(panicked) // here, where the caller can catch it
	}
	slices.SortFunc(bad, func(a, b BadRecord) int { return cmp.Compare(a.Hash, b.Hash) })
	return bad
}

// checkRecord also returns the dependencies that have no record.
func (x *Index) checkRecord(r *record) (missing []spec.Hash, err error) {
	if err := x.odd[r.hash]; err != nil {
		return nil, err
	}
	n, err := spec.ParseNode(x.nodeOf(r), SpecFormat(x.version))
	if err != nil {
		return nil, err
	}
	if n.Hash != r.hash {
		return nil, fmt.Errorf("it is about /%s", n.Hash.Short())
	}
	for _, d := range n.Dependencies {
		if _, ok := x.byHash[d]; !ok {
			missing = append(missing, d)
		}
	}
	return missing, n.CheckEdges(func(h spec.Hash) string {
		if at, ok := x.byHash[h]; ok {
			return x.records[at].name
		}
		return "" // Spack leaves such an edge out
	})
}
