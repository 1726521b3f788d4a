package reindex

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
)

// AddKeys offers keys to clients, next to those that they are offered already. Keys that were retired, maybe a moment ago, are passed over.
func AddKeys(ctx context.Context, f buildcache.Layout, s mirror.Store, keys []key.Fingerprint) error {
	written := false
	err := compete(ctx, func() error {
		have, version, err := f.ReadKeyIndex(ctx, s)
		if err != nil || containsAll(have, keys) {
			return err
		}
		there, err := buildcache.KeysThere(ctx, f, s)
		if err != nil {
			return err
		}
		all := buildcache.UnionKeys(have, notRetired(f, there, keys))
		if len(all) == len(have) {
			return nil
		}
		err = writeKeyIndex(ctx, f, s, version, all)
		written = written || err == nil
		return err
	})
	if err != nil || !written {
		return err
	}
	// One of them may have been retired between the listing and the writing. RetireKey sets the mark before it reads the index, so
	// either it has seen what was written here, or this sees the mark.
	there, err := buildcache.KeysThere(ctx, f, s)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if there.Retired(f, k) {
			_, err = dropKey(ctx, f, s, k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// OfferKey takes back that a key was retired, and makes clients learn of it.
func OfferKey(ctx context.Context, f buildcache.Layout, s mirror.Store, k key.Fingerprint) error {
	if err := mark(ctx, f, s, k, false); err != nil {
		return err
	}
	return AddKeys(ctx, f, s, []key.Fingerprint{k})
}

// RetireKey makes clients learn of a key no more, and keeps other publishers from offering it again. It reports whether clients
// were told of it before. The mark comes first: see AddKeys.
func RetireKey(ctx context.Context, f buildcache.Layout, s mirror.Store, k key.Fingerprint) (told bool, err error) {
	if err := mark(ctx, f, s, k, true); err != nil {
		return false, err
	}
	return dropKey(ctx, f, s, k)
}

// mark says of a key whether it is retired. A key that never was gets no mark to say so.
func mark(ctx context.Context, f buildcache.Layout, s mirror.Store, k key.Fingerprint, retired bool) error {
	return compete(ctx, func() error {
		there, err := buildcache.KeysThere(ctx, f, s)
		if err != nil || there.Retired(f, k) == retired {
			return err
		}
		o := buildcache.RetiredMark(f, k, retired)
		if !there.Has(buildcache.Object{Name: o.Name, Size: -1}) {
			if err = s.Create(ctx, o.Upload()); errors.Is(err, mirror.ErrExist) {
				return mirror.ErrConflict
			}
			return err
		}
		info, err := s.Stat(ctx, o.Name)
		if err == nil {
			_, err = s.Swap(ctx, o.Upload(), info.Version)
		}
		return err
	})
}

// dropKey takes a key out of the key index, and reports whether it was in it.
func dropKey(ctx context.Context, f buildcache.Layout, s mirror.Store, k key.Fingerprint) (dropped bool, err error) {
	err = compete(ctx, func() error {
		have, version, err := f.ReadKeyIndex(ctx, s)
		if err != nil || !slices.Contains(have, k) {
			return err
		}
		err = writeKeyIndex(ctx, f, s, version, slices.DeleteFunc(have, func(h key.Fingerprint) bool { return h == k }))
		dropped = dropped || err == nil
		return err
	})
	return dropped, err
}

func notRetired(f buildcache.Layout, there *buildcache.Survey, keys []key.Fingerprint) []key.Fingerprint {
	return slices.DeleteFunc(slices.Clone(keys), func(k key.Fingerprint) bool { return there.Retired(f, k) })
}

func containsAll(have, keys []key.Fingerprint) bool {
	return len(buildcache.UnionKeys(have, keys)) == len(have)
}

// writeKeyIndex replaces the key index by keys, if it still is the version was.
func writeKeyIndex(ctx context.Context, f buildcache.Layout, s mirror.Store, was mirror.Version, keys []key.Fingerprint) error {
	objects, err := f.KeyIndex(keys)
	if err != nil {
		return err
	}
	return replace(ctx, s, was, objects)
}

// replace stores objects of which the last one has a fixed name, if that still is the version was.
func replace(ctx context.Context, s mirror.Store, was mirror.Version, objects []buildcache.Object) error {
	last := len(objects) - 1
	if err := createAll(ctx, s, objects[:last]); err != nil {
		return err
	}
	// The content may have been there, of an older one, and a prune about to delete it.
	names := make([]string, last)
	for i, o := range objects[:last] {
		names[i] = o.Name
	}
	if atWork, err := notice.Object(ctx, s, names, time.Time{}); err != nil {
		return err
	} else if atWork {
		if err := createAll(ctx, s, objects[:last]); err != nil {
			return err
		}
	}
	_, err := s.Swap(ctx, objects[last].Upload(), was)
	return err
}

// StoreKey publishes the document of a key, without telling clients of it. Where the mirror holds a copy of the key, the two are
// merged, so that no publisher with an older copy takes back what a newer one says: see key.Public.Merged. It reports whether a copy
// was replaced. One that cannot be read is an error, and stays, but for a repair.
func StoreKey(ctx context.Context, f buildcache.Layout, s mirror.Store, public *key.Public, repair bool) (replaced bool, err error) {
	err = compete(ctx, func() error {
		objects, was, err := same.Merged(ctx, f, s, public, repair)
		if err != nil || objects == nil {
			return err
		}
		err = replace(ctx, s, was, objects)
		replaced = replaced || err == nil && was != mirror.Absent
		return err
	})
	return replaced, err
}

func createAll(ctx context.Context, s mirror.Writer, objects []buildcache.Object) error {
	for _, o := range objects {
		if err := s.Create(ctx, o.Upload()); err != nil {
			return err
		}
	}
	return nil
}
