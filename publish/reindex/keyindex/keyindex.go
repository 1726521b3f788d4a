// Package keyindex changes the index of keys, by which clients learn which public keys a mirror has, and the
// keys themselves.
//
// Any number of publishers may add keys while others retire some: no key that was added is lost, and none that
// was retired is offered again, except by Offer.
package keyindex

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
)

// Add offers keys to clients, next to those that they are offered already. Keys that were retired, maybe a
// moment ago, are passed over.
func Add(ctx context.Context, f buildcache.Layout, s mirror.Store, keys []key.Fingerprint) error {
	written := false
	err := conflict.Retry(ctx, func() error {
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
	// One of them may have been retired between the listing and the writing. Retire sets the mark before it
	// reads the index, so either it has seen what was written here, or this sees the mark.
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

// AddTrusted offers those of keys that are there and that clients may be offered, and reports whether the index
// was lacking any. A key that is not trusted, or whose file holds anything else, is passed over, with a
// finding.
func AddTrusted(ctx context.Context, f buildcache.Layout, s mirror.Store, trust buildcache.Trust, keys []key.Fingerprint) (bool, []buildcache.Finding, error) {
	have, _, err := f.ReadKeyIndex(ctx, s)
	if err != nil {
		return false, nil, err
	}
	var lacking []key.Fingerprint
	var findings []buildcache.Finding
	for _, k := range keys {
		if slices.Contains(have, k) {
			continue
		}
		if reason := objection(ctx, f, s, trust, k, true); reason != "" {
			findings = append(findings, notOffered(f, k, reason))
			continue
		}
		lacking = append(lacking, k)
	}
	if len(lacking) == 0 {
		return false, findings, ctx.Err()
	}
	return true, findings, Add(ctx, f, s, lacking)
}

// objection says why a key is not offered to clients; empty: it may be. Its file is read if it is to be added.
func objection(ctx context.Context, f buildcache.Layout, r mirror.Reader, trust buildcache.Trust, k key.Fingerprint, add bool) string {
	reason := trust.Untrusted(k)
	if reason == "" && add {
		if _, err := f.ReadKey(ctx, r, k); err != nil {
			reason = err.Error()
		}
	}
	return reason
}

func notOffered(f buildcache.Layout, k key.Fingerprint, reason string) buildcache.Finding {
	return buildcache.Warning.In(f.KeyName(k), "this key is not offered to clients: "+reason)
}

// Offer takes back that a key was retired, and makes clients learn of it.
func Offer(ctx context.Context, f buildcache.Layout, s mirror.Store, k key.Fingerprint) error {
	if err := mark(ctx, f, s, k, false); err != nil {
		return err
	}
	return Add(ctx, f, s, []key.Fingerprint{k})
}

// Retire makes clients learn of a key no more, and keeps other publishers from offering it again. It reports
// whether clients were told of it before. The mark comes first: see Add.
func Retire(ctx context.Context, f buildcache.Layout, s mirror.Store, k key.Fingerprint) (told bool, err error) {
	if err := mark(ctx, f, s, k, true); err != nil {
		return false, err
	}
	return dropKey(ctx, f, s, k)
}

// mark says of a key whether it is retired. A key that never was gets no mark to say so.
func mark(ctx context.Context, f buildcache.Layout, s mirror.Store, k key.Fingerprint, retired bool) error {
	return conflict.Retry(ctx, func() error {
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
	err = conflict.Retry(ctx, func() error {
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

// Store publishes the document of a key, without telling clients of it. Where the mirror holds a copy of the
// key, the two are merged, so that no publisher with an older copy takes back what a newer one says: see
// key.Public.Merged. It reports whether a copy was replaced. One that cannot be read is an error, and stays,
// but for a repair.
func Store(ctx context.Context, f buildcache.Layout, s mirror.Store, public *key.Public, repair bool) (replaced bool, err error) {
	err = conflict.Retry(ctx, func() error {
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

// Rebuild makes the key index name the keys that are there, and returns its name if it was written. The keys
// are listed after its version is read, so that a key which another program adds meanwhile is not taken out
// again. One that was retired is taken out. One that is not trusted, or whose file holds anything else, is not
// added, with a finding. One that is named but not trusted is taken out if purge is set.
func Rebuild(ctx context.Context, f buildcache.Layout, s mirror.Store, trust buildcache.Trust, purge bool) (stale []string, findings []buildcache.Finding, err error) {
	err = conflict.Retry(ctx, func() error {
		have, version, err := f.ReadKeyIndex(ctx, s)
		if err != nil {
			return err
		}
		there, err := buildcache.KeysThere(ctx, f, s)
		if err != nil {
			return err
		}
		keys := slices.DeleteFunc(there.Keys(f), func(k key.Fingerprint) bool {
			named := slices.Contains(have, k)
			reason := objection(ctx, f, s, trust, k, !named)
			if reason == "" || named && !purge {
				return false
			}
			if found := notOffered(f, k, reason); !slices.Contains(findings, found) { // again when a race was lost
				findings = append(findings, found)
			}
			return true
		})
		if err := ctx.Err(); err != nil {
			return err
		}
		if slices.Equal(keys, have) {
			return nil
		}
		if err := writeKeyIndex(ctx, f, s, version, keys); err != nil {
			return err
		}
		objects, err := f.KeyIndex(keys)
		if err != nil {
			return err
		}
		stale = append(stale, objects[len(objects)-1].Name)
		return nil
	})
	return stale, findings, err
}
