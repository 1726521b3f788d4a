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

// Retiring is how a key is retired.
type Retiring struct {
	Force  bool // even if packages depend on it
	DryRun bool // only find out what would be done
}

// A Retired is what retiring a key did, or would do, to one layout of a mirror.
type Retired struct {
	Layout    string
	Offered   bool     // clients learned of the key before
	Already   bool     // retired, and clients do not learn of it
	Dependent []string // documents of the packages that say they are signed by it, sorted
	Stale     []string // names whose content is another one than before, which caches may still have

	Public *key.Public // the key; nil if it cannot be read
}

// A DependentError says that packages or plain files depend on a key: clients could no longer check their signatures.
type DependentError struct {
	Key      key.Fingerprint
	Packages []string // names and short hashes, sorted
	Files    []string // names, sorted
}

// named is how many packages, and how many files, the text of a DependentError names.
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

// Retire makes clients learn of a key no more, and keeps every later publish from offering it again. Its document stays, since
// nothing is ever deleted. Nothing is changed if packages of any layout depend on it (a DependentError), unless Force is set,
// or if the mirror does not hold it: ErrUnknownKey.
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

// planRetire finds out what retiring a key would change, and what depends on it.
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
	} else if err != nil { // it is damaged: clients cannot use it, whatever its subkeys have signed
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
