package buildcache

import (
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Without returns the indices without some packages: see index.Index.Without.
func (x *Indices) Without(gone map[spec.Hash]bool) (*Indices, error) {
	out := &Indices{x.Generations, make([]*index.Index, len(x.Parts))}
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
