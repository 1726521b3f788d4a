package publish

import (
	"context"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Visible reports whether a client that reads through r, such as a CDN, is told of every
// package that the plan publishes or found published: by the index that we know, or
// by a newer one.
func (m *MirrorPlan) Visible(ctx context.Context, r mirror.Reader) (bool, error) {
	p, err := m.format.readPointer(ctx, r)
	if err != nil {
		return false, err
	}
	if p.Digest == m.Index.was.Digest {
		return true, nil
	}
	x, err := loadIndex(ctx, m.format, r, p)
	if err != nil {
		return false, err
	}
	for _, k := range m.Packages {
		if k.Status != Rejected && !x.Has(k.Hash) {
			return false, nil
		}
	}
	return true, nil
}

// Pointers are the names, below DESTINATION, that a client reads to learn of packages.
func (m *MirrorPlan) Pointers() []string {
	var names []string
	for _, name := range m.format.indexWrites() {
		names = append(names, join(m.Path, name))
	}
	return names
}

// Digest identifies the index that the mirror has now; empty if it has none.
func (m *MirrorPlan) Digest() string {
	if m.Index.was == nil || !m.Index.was.Digest.Known() {
		return ""
	}
	return m.Index.was.Digest.String()
}
