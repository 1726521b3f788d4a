package buildcache

import (
	"context"
	"errors"
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

// EachMirror calls do for the mirror at a place or, if that says ErrNoMirror, for every mirror below the place, sorted by path.
// It stops at the first error. If there is none below the place either, that error is ErrNoMirror.
func EachMirror(ctx context.Context, l mirror.Lister, do func(path string) error) error {
	err := do("")
	if !errors.Is(err, ErrNoMirror) {
		return err
	}
	roots, rootsErr := Roots(ctx, l)
	roots = slices.DeleteFunc(roots, func(path string) bool { return path == "" })
	if rootsErr != nil || len(roots) == 0 {
		return errors.Join(rootsErr, err)
	}
	for _, path := range roots {
		if err := do(path); err != nil {
			return err
		}
	}
	return nil
}
