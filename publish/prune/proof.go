package prune

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// otherVersion is a version that no object has. It has the form of an ETag of S3.
const otherVersion mirror.Version = `"00000000000000000000000000000000"`

// prove checks that objects can be deleted, and finds out whether the storage obeys conditions on deletes: a delete
// of another version must be refused. It comes before anything else is changed.
func (s *sweep) prove(ctx context.Context) error {
	text := []byte("This object of publish prune may be deleted.\n")
	probe := mirror.Upload{
		Name: notice.Dir + "probe-" + s.run, Content: blob.Bytes(text), Digest: blob.DigestOf(text), Type: "text/plain", CacheControl: layout.Revalidate,
	}
	many := func() (bool, error) {
		changed, err := mirror.DeleteAll(ctx, s.deleter, []mirror.Info{{Name: probe.Name, Version: otherVersion}})
		return len(changed) > 0, err
	}
	one := func() (bool, error) {
		err := s.deleter.Delete(ctx, probe.Name, otherVersion)
		if errors.Is(err, mirror.ErrConflict) {
			return true, nil
		}
		return false, err
	}
	for i, refused := range []func() (bool, error){many, one} {
		if err := s.target.Create(ctx, probe); err != nil {
			return fmt.Errorf("see whether objects can be deleted: %w", err)
		}
		obeyed, err := refused()
		if err == nil && obeyed {
			s.single = i > 0
			return s.deleteProbe(ctx, probe.Name)
		}
		if err != nil {
			return fmt.Errorf("see whether objects can be deleted: %w", err)
		}
	}
	if s.plan.documents() > 0 {
		s.note([]buildcache.Finding{buildcache.Warning.In("", "the storage deletes an object although it has changed: publishers of this release object in time, and other programs must not replace packages meanwhile")})
	}
	return nil
}

func (s *sweep) deleteProbe(ctx context.Context, name string) error {
	info, err := s.target.Stat(ctx, name)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.deleter.Delete(ctx, name, info.Version)
	}
	return err
}

// deleteEach deletes objects one by one, many concurrently.
func deleteEach(ctx context.Context, d mirror.Deleter, objects []mirror.Info) (changed []string, err error) {
	var mu sync.Mutex
	err = parallel.Each(ctx, parallel.Readers, objects, func(ctx context.Context, o mirror.Info) error {
		err := d.Delete(ctx, o.Name, o.Version)
		if !errors.Is(err, mirror.ErrConflict) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		changed = append(changed, o.Name)
		return nil
	})
	return changed, err
}
