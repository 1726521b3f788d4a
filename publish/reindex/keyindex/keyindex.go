// Package keyindex changes the public keys of a mirror and the key index, in which clients find them.
//
// Any number of publishers may add keys while others retire keys. No added key is lost, and no retired key is
// offered again, except by Offer.
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

// Add offers keys to clients in addition to the present ones. It skips retired keys, even if they have just
// been retired.
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
	// A key may have been retired between the listing and the write. Retire sets the mark before it reads the
	// index. So either it reads the index written here, or the listing below shows the mark.
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

// AddTrusted offers those of keys that are trusted, and reports whether the index lacked any. A key that is
// not trusted, or whose file holds anything else, is skipped with a finding.
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

// objection returns why a key must not be offered to clients; empty if it may. It reads the key's file only
// if add is set.
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

// Offer undoes the retirement of a key and offers it to clients again.
func Offer(ctx context.Context, f buildcache.Layout, s mirror.Store, k key.Fingerprint) error {
	if err := mark(ctx, f, s, k, false); err != nil {
		return err
	}
	return Add(ctx, f, s, []key.Fingerprint{k})
}

// Retire removes a key from the key index and keeps other publishers from offering it again. It reports
// whether the index offered it before. The mark is stored first: see Add.
func Retire(ctx context.Context, f buildcache.Layout, s mirror.Store, k key.Fingerprint) (told bool, err error) {
	if err := mark(ctx, f, s, k, true); err != nil {
		return false, err
	}
	return dropKey(ctx, f, s, k)
}

// mark records whether a key is retired. A key that was never retired needs no mark.
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

// dropKey removes a key from the key index, and reports whether the index had it.
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

// writeKeyIndex replaces the key index if it is still the version was.
func writeKeyIndex(ctx context.Context, f buildcache.Layout, s mirror.Store, was mirror.Version, keys []key.Fingerprint) error {
	objects, err := f.KeyIndex(keys)
	if err != nil {
		return err
	}
	return replace(ctx, s, was, objects)
}

// replace stores objects. The last one has a fixed name and is replaced only if it is still the version was.
func replace(ctx context.Context, s mirror.Store, was mirror.Version, objects []buildcache.Object) error {
	last := len(objects) - 1
	if err := createAll(ctx, s, objects[:last]); err != nil {
		return err
	}
	// Earlier content may already have been there, and a prune may be about to delete it.
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

// Store stores the document of a key, without adding the key to the key index. If the mirror holds a copy of
// the key, the two are merged, so that an older copy does not undo changes of a newer one: see
// key.Public.Merged. It reports whether a copy was replaced. A copy that cannot be read is an error, unless
// repair is set, which replaces it.
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

// Rebuild rebuilds the key index from the keys of the mirror, and returns its name if it was written. Keys
// are listed after the version of the index is read, so that a key which another program adds meanwhile is
// not removed. A retired key is removed. A key that is not trusted, or whose file holds anything else, is not
// added, with a finding. An untrusted key that is already in the index is removed only if purge is set.
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
			if found := notOffered(f, k, reason); !slices.Contains(findings, found) { // no duplicates after a lost race
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
