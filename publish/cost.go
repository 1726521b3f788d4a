package publish

import (
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/price"
)

// Cost estimates the requests and bytes of the plan. An object larger than threshold is sent in parts of
// partSize bytes. paths is the number of invalidated paths.
func (p *Plan) Cost(threshold, partSize int64, paths int) price.Cost {
	var c price.Cost
	add := func(size int64) { c.Add(size, threshold, partSize) }
	for _, m := range p.Mirrors {
		for _, o := range m.Blobs {
			add(o.Size)
		}
		for _, w := range slices.Concat(m.Documents...) {
			add(w.Size)
		}
		for _, o := range slices.Concat(m.Marker, m.Keys, m.KeyIndex) {
			add(o.Size)
		}
		if m.Index.Changes {
			c.Requests++ // for the record in the history
			add(m.Index.Bytes)
			if m.merge != nil {
				add(m.merge.PointerBytes)
			}
		}
		for _, v := range m.changingViews() {
			c.Requests++
			add(v.Index.Bytes)
			add(v.addition.PointerBytes)
		}
	}
	for _, f := range p.Files {
		for _, w := range f.Writes {
			add(w.Size)
		}
	}
	return c.At(paths)
}

// Stale returns the fixed names whose content the plan replaces. Caches may still have the earlier content.
func (p *Plan) Stale() []string {
	var names []string
	for _, m := range p.Mirrors {
		for _, w := range slices.Concat(m.Documents...) {
			if w.Was != "" {
				names = append(names, buildcache.Join(m.Path, w.Name))
			}
		}
		if n := len(m.KeyIndex); n > 0 {
			names = append(names, buildcache.Join(m.Path, m.KeyIndex[n-1].Name))
		}
		if m.Index.Changes {
			names = append(names, m.Pointers()...)
		}
		for _, v := range m.changingViews() {
			names = append(names, buildcache.Join(m.Path, v.addition.Pointer()))
		}
	}
	for _, f := range p.Files {
		for _, w := range f.Writes {
			if w.Was != "" {
				names = append(names, w.Name)
			}
		}
	}
	return names
}
