// Package roots finds the mirrors in a tree.
package roots

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Find returns the paths of the mirrors below a place, sorted. "" is the place itself. It lists everything below
// the place.
func Find(ctx context.Context, l mirror.Lister) ([]string, error) {
	roots := make(map[string]bool)
	for info, err := range l.List(ctx, mirror.Range{}) {
		if err != nil {
			return nil, fmt.Errorf("look for mirrors: %w", err)
		}
		for _, l := range buildcache.Layouts() {
			if before, _, ok := strings.Cut("/"+info.Name, "/"+l.Root()); ok {
				roots[strings.TrimPrefix(before, "/")] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(roots)), nil
}

// Each calls do for the mirror at a place. If do returns buildcache.ErrNoMirror, Each calls it for every mirror
// below the place, sorted by path. It stops at the first error. If there are no mirrors below the place either, the
// error is buildcache.ErrNoMirror.
func Each(ctx context.Context, l mirror.Lister, do func(path string) error) error {
	err := do("")
	if !errors.Is(err, buildcache.ErrNoMirror) {
		return err
	}
	below, rootsErr := Find(ctx, l)
	below = slices.DeleteFunc(below, func(path string) bool { return path == "" })
	if rootsErr != nil || len(below) == 0 {
		return errors.Join(rootsErr, err)
	}
	for _, path := range below {
		if err := do(path); err != nil {
			return err
		}
	}
	return nil
}
