package publish

import (
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
)

// Expectation are the packages that the plan publishes or found published.
func (m *MirrorPlan) Expectation() reindex.Expectation {
	s := reindex.Expectation{Path: m.Path, Pointers: m.Pointers(), Digest: m.Digest(), Layout: m.format}
	for _, p := range m.Packages {
		if p.Status != Rejected {
			s.Packages = append(s.Packages, p.Hash)
		}
	}
	return s
}

// Pointers are the names, below DESTINATION, that a client reads to learn of packages.
func (m *MirrorPlan) Pointers() []string {
	var names []string
	for _, name := range m.format.IndexNames() {
		names = append(names, buildcache.Join(m.Path, name))
	}
	return names
}

// Version is that of the first pointer, as far as it is known; Absent if there is none.
func (m *MirrorPlan) Version() mirror.Version {
	if m.Index.was == nil {
		return mirror.Absent
	}
	return m.Index.was.Version
}

// Digest identifies the index that the mirror has now; empty if it has none.
func (m *MirrorPlan) Digest() string {
	if m.Index.was == nil {
		return ""
	}
	return m.Index.was.Digest()
}
