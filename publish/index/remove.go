package index

import (
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Without returns the index without some packages. If another record depends on a removed package, its record
// stays but is no longer offered: Spack installs a package without dependencies that have no record. Records
// that only removed packages depend on are removed, too.
func (x *Index) Without(gone map[spec.Hash]bool) (*Index, error) {
	raw := x.raw
	if x.changed {
		text, err := blob.ReadAll(x.Content())
		if err != nil {
			return nil, err
		}
		raw = text
	}
	out, err := Parse(raw, x.version)
	if err != nil {
		return nil, err
	}
	for h := range gone {
		at, ok := out.byHash[idOf(h)]
		if !ok {
			continue
		}
		if r := &out.records[at]; r.inBuildcache {
			r.inBuildcache, r.dirty = false, true
		}
		out.loose = append(out.loose, h)
		out.unsettled, out.changed = true, true
	}
	out.settle()
	return out, nil
}
