package publish

import (
	"context"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// smallestParts is the size from which a blob may have been sent in parts: S3 takes no smaller one.
const smallestParts = 5 << 20

// Sweep discards the unfinished uploads of blobs that the mirror holds: what a publisher
// left behind who died after another one had been faster. It looks only if the
// source has blobs large enough to have been sent in parts, and only after Apply, when all
// of them are there. A publisher that is still sending such a blob finds that it is there.
func (m *MirrorOutcome) Sweep(ctx context.Context, s mirror.Sweeper) error {
	large := make(map[string]bool)
	for _, p := range m.Packages {
		for _, b := range p.Blobs {
			if b.Size > smallestParts && p.published() {
				large[b.Name] = true
			}
		}
	}
	if len(large) == 0 {
		return nil
	}
	return mirror.DiscardUploads(ctx, s, m.format.Payload(), large)
}
