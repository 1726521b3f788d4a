package reindex

import (
	"context"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// AddKeys makes clients learn of keys, next to those that they are told of already.
func AddKeys(ctx context.Context, f buildcache.Layout, s mirror.Store, keys []key.Fingerprint) error {
	return compete(ctx, func() error {
		have, version, err := f.ReadKeyIndex(ctx, s)
		if err != nil {
			return err
		}
		all := buildcache.UnionKeys(have, keys)
		if len(all) == len(have) {
			return nil
		}
		return writeKeyIndex(ctx, f, s, version, all)
	})
}

// writeKeyIndex makes keys what clients are told of, if that still is the version was.
func writeKeyIndex(ctx context.Context, f buildcache.Layout, s mirror.Store, was mirror.Version, keys []key.Fingerprint) error {
	objects, err := f.KeyIndex(keys)
	if err != nil {
		return err
	}
	last := len(objects) - 1
	for _, o := range objects[:last] {
		if err := s.Create(ctx, o.Upload()); err != nil {
			return err
		}
	}
	_, err = s.Swap(ctx, objects[last].Upload(), was)
	return err
}
