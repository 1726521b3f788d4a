package task

import (
	"context"
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A tidier can remove documents from a mirror.
type tidier interface {
	mirror.Reader
	mirror.Deleter
}

// removeUnsigned removes the unsigned documents of SOURCE that were signed in place under another name.
// Otherwise a later publish would find both. Only layout v2 has such names.
func removeUnsigned(ctx context.Context, p *publish.Plan, open func(path string) tidier) error {
	for _, m := range p.Mirrors {
		at := open(m.Path)
		for _, q := range m.Packages {
			if q.UnsignedFile == "" || q.Status == publish.Rejected {
				continue
			}
			content, info, err := mirror.Read(ctx, at, q.UnsignedFile, buildcache.MaxDocument)
			if errors.Is(err, mirror.ErrNotExist) || err == nil && string(content) != string(q.Document) {
				continue // it has been replaced meanwhile
			}
			if err == nil {
				err = at.Delete(ctx, q.UnsignedFile, info.Version)
			}
			if err != nil && !errors.Is(err, mirror.ErrConflict) {
				return fmt.Errorf("remove %s, which is signed as %s: %w", buildcache.Join(m.Path, q.UnsignedFile), q.File, err)
			}
		}
	}
	return nil
}
