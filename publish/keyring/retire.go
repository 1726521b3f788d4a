package keyring

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/keyindex"
)

// Retiring holds the options of Retire.
type Retiring struct {
	Force  bool // retire the key even if packages depend on it
	DryRun bool // only report what would change
}

// A Retired is the result of retiring a key in one layout of a mirror, or of a dry run.
type Retired struct {
	Layout    string
	Offered   bool     // the key was offered to clients before
	Already   bool     // the key was retired already and is not offered
	Dependent []string // documents of the packages that name the key as their signer, sorted
	Stale     []string // names of changed objects, whose old content caches may still have

	Public *key.Public // the key; nil if it cannot be read
}

// A DependentError says that packages or plain files depend on a key: without it, clients could not check their
// signatures.
type DependentError struct {
	Key      key.Fingerprint
	Packages []string // names and short hashes, sorted
	Files    []string // names, sorted
}

// named is the maximum number of packages, and of files, in the text of a DependentError.
const named = 10

func (e *DependentError) Error() string {
	var parts []string
	say := func(names []string, what string) {
		n := len(names)
		if n > named {
			names = append(slices.Clone(names[:named]), fmt.Sprintf("and %d more", n-named))
		}
		if n > 0 {
			parts = append(parts, english.Plural(n, what, "")+": "+strings.Join(names, ", "))
		}
	}
	say(e.Packages, "package")
	say(e.Files, "file")
	return fmt.Sprintf("clients need the key %s for %s", e.Key, strings.Join(parts, "; and for "))
}

// Retire stops offering a key to clients, and keeps every later publish from offering it again. Its document stays,
// since nothing is ever deleted. Without Force, nothing is changed if packages of any layout depend on the key: the
// error is a DependentError. If the mirror does not hold the key, the error is ErrUnknownKey.
func Retire(ctx context.Context, s mirror.Store, f key.Fingerprint, how Retiring) ([]Retired, error) {
	all, err := openAll(ctx, s)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m *at) bool { return !slices.Contains(m.seen.AllKeys(m.Layout), f) })
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnknownKey, f)
	}
	done := make([]Retired, len(all))
	refused := &DependentError{Key: f}
	for i, m := range all {
		if done[i], err = m.planRetire(ctx, f); err != nil {
			return nil, err
		}
		for _, name := range done[i].Dependent {
			id, _ := m.ParsePackageName(name)
			refused.Packages = append(refused.Packages, id.Package+"/"+id.Hash.Short())
		}
	}
	if len(refused.Packages) > 0 && !how.Force {
		slices.Sort(refused.Packages)
		return nil, refused
	}
	if how.DryRun {
		return done, nil
	}
	for i, m := range all {
		if done[i].Offered, err = keyindex.Retire(ctx, m.Layout, m.store, f); err != nil {
			return done[:i], fmt.Errorf("retire the key %s: %w", f, err)
		}
		if done[i].Offered {
			done[i].Stale = append(done[i].Stale, m.KeyIndexName())
		}
	}
	return done, nil
}

// planRetire returns the changes that retiring a key would make, and the packages that depend on it.
func (m *at) planRetire(ctx context.Context, f key.Fingerprint) (Retired, error) {
	out := Retired{Layout: m.Name(), Dependent: []string{}, Stale: []string{}}
	offered, _, err := m.ReadKeyIndex(ctx, m.store)
	if err != nil {
		return out, err
	}
	out.Offered = slices.Contains(offered, f)
	out.Already = !out.Offered && m.seen.Retired(m.Layout, f)
	if out.Public, err = buildcache.ReadKey(ctx, m.Layout, m.store, f); ctx.Err() != nil {
		return out, ctx.Err()
	} else if err != nil { // it is damaged: clients cannot use it, nor any of its subkeys
		out.Public = nil
	}
	made := madeBy(f, out.Public)
	var mu sync.Mutex // guards out while one document is counted
	err = m.each(ctx, func(name string, document []byte, _ mirror.Info) error {
		by, err := key.IssuerOf(document)
		if err != nil || !made(by) {
			return nil // its signature does not name the key
		}
		mu.Lock()
		defer mu.Unlock()
		out.Dependent = append(out.Dependent, name)
		return nil
	})
	slices.Sort(out.Dependent)
	return out, err
}
