package publish

import (
	"context"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Unseen says why a client that reads through r, such as a CDN, is not told of every
// package that the plan publishes or found published. It is empty if the client
// is: by the index that we know, or by a newer one.
func (m *MirrorPlan) Unseen(ctx context.Context, r mirror.Reader) (string, error) {
	p, err := m.format.readPointer(ctx, r)
	if err != nil {
		return "", err
	}
	if p.Digest == m.Index.was.Digest {
		return "", nil
	}
	if p.Version == mirror.Absent {
		return "there is no index", nil
	}
	x, err := loadIndex(ctx, m.format, r, p)
	if err != nil {
		return "", err
	}
	for _, k := range m.Packages {
		if k.Status != Rejected && !x.Has(k.Hash) {
			return "the index is an older one", nil
		}
	}
	return "", nil
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
