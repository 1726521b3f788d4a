package elsewhere

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// ErrNoIndex: a place is no mirror, or one without an index.
var ErrNoIndex = fmt.Errorf("%w: there is no index of a Spack mirror", source.ErrNothing)

// noIndex is that error, with the mirrors that are below the places.
func noIndex(ctx context.Context, from []mirror.Reader) error {
	var below []string
	for _, r := range from {
		if l, ok := r.(mirror.Lister); ok {
			found, err := roots.Find(ctx, l)
			if err != nil {
				return errors.Join(ErrNoIndex, err)
			}
			below = append(below, slices.DeleteFunc(found, func(path string) bool { return path == "" })...)
		}
	}
	if len(below) == 0 {
		return ErrNoIndex
	}
	return fmt.Errorf("%w, but of mirrors below it: %s", ErrNoIndex, alike.Few(below))
}

// Offered returns the packages that mirrors offer, by their indices.
func Offered(ctx context.Context, mirrors ...mirror.Reader) (map[spec.Hash]bool, error) {
	offered := make(map[spec.Hash]bool)
	for _, m := range mirrors {
		there := false
		for _, l := range buildcache.Layouts() {
			p, err := l.ReadPointer(ctx, m)
			if err != nil {
				return nil, err
			}
			if p.Version == mirror.Absent {
				continue
			}
			there = true
			x, err := l.ReadIndex(ctx, m, p)
			if err != nil {
				return nil, fmt.Errorf("index: %w", err)
			}
			for r := range x.Records() {
				if r.InBuildcache {
					offered[r.Hash] = true
				}
			}
		}
		if !there {
			return nil, noIndex(ctx, []mirror.Reader{m})
		}
	}
	return offered, nil
}
