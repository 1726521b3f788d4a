package buildcache

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Roots finds the mirrors below a place by listing all that is there: their paths,
// sorted; "" is the place itself.
func Roots(ctx context.Context, l mirror.Lister) ([]string, error) {
	roots := make(map[string]bool)
	for info, err := range l.List(ctx, mirror.Range{}) {
		if err != nil {
			return nil, fmt.Errorf("look for mirrors: %w", err)
		}
		for _, dir := range []string{layout.V3Manifests, layout.V2Root} {
			if before, _, ok := strings.Cut("/"+info.Name, "/"+dir); ok {
				roots[strings.TrimPrefix(before, "/")] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(roots)), nil
}
