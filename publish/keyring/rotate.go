package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/keyindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
)

// A Change is what was done to one layout of a mirror.
type Change struct {
	Layout   string
	Added    bool     // the key: clients did not learn of it before
	Offered  bool     // the key: clients had learned of it already
	Updated  bool     // the key: what the mirror held of it said less, such as an earlier expiry
	Resigned int      // packages, or files
	Already  int      // that the new key had signed
	Others   int      // that neither key has signed, which stay as they are
	Stale    []string // names whose content is another one than before, which caches may still have
	Findings []buildcache.Finding

	From *key.Public // the key whose signatures were replaced, as the mirror holds it; nil: none were to be
	To   *sign.Key   // as it may sign in the mirror
}

// ErrUnknownKey: the mirror does not hold the key whose signatures are to be replaced.
var ErrUnknownKey = errors.New("the mirror does not hold that key")

// ErrRetired: the key that is to sign was retired, so clients are not to be offered it.
var ErrRetired = errors.New("that key was retired")

// Add offers a public key to clients, beside those that there are. A copy of it that cannot be read is replaced.
func Add(ctx context.Context, s mirror.Store, public *key.Public) ([]Change, error) {
	all, err := openAll(ctx, s)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, m := range all {
		c := m.change()
		err := m.add(ctx, public, true, &c)
		changes = append(changes, c)
		if err != nil {
			return changes, err
		}
	}
	return changes, nil
}

// Rotate offers the public key of to, and then replaces every signature by from, once it was checked, by one of to. What was
// interrupted is completed by running it again. Nothing is changed if the mirror does not hold from (ErrUnknownKey), or to was
// retired in it (ErrRetired), or was revoked by the copy that the mirror holds (sign.UnfitError).
func Rotate(ctx context.Context, s mirror.Store, from key.Fingerprint, to *sign.Key) ([]Change, error) {
	all, err := openAll(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if to, err = m.fit(ctx, to); err != nil {
			return nil, err
		}
	}
	var changes []Change
	for _, m := range all {
		old, err := same.ReadKey(ctx, m.Layout, m.store, from)
		if errors.Is(err, mirror.ErrNotExist) {
			continue
		}
		if err != nil {
			return changes, err
		}
		if m.seen.Retired(m.Layout, to.Fingerprint()) {
			return changes, ErrRetired
		}
		if len(changes) == 0 {
			if err := to.Prove(ctx); err != nil {
				return nil, err
			}
		}
		c := m.change()
		c.From, c.To = old, to
		if err = m.add(ctx, to.Public(), false, &c); err == nil {
			err = m.resign(ctx, old, to, &c)
		}
		slices.Sort(c.Stale)
		changes = append(changes, c)
		if err != nil {
			return changes, err
		}
	}
	if len(changes) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnknownKey, from)
	}
	return changes, nil
}

// fit is a key as it may sign, given the copy of it that the mirror holds. One that cannot be read is an error, as when it is added.
func (m *at) fit(ctx context.Context, k *sign.Key) (*sign.Key, error) {
	held, err := same.ReadKey(ctx, m.Layout, m.store, k.Fingerprint())
	switch {
	case errors.Is(err, mirror.ErrNotExist):
		return k, nil
	case err != nil:
		return nil, err
	}
	return k.Fit(new(key.Ring).With(held))
}

func (m *at) change() Change {
	return Change{Layout: m.Name(), Stale: []string{}, Findings: []buildcache.Finding{}}
}

// add makes clients learn of a key: its document first, then the index of keys. What a copy says that the mirror holds stays said; one that
// cannot be read is replaced with repair.
func (m *at) add(ctx context.Context, public *key.Public, repair bool, c *Change) error {
	f := public.Fingerprint()
	var err error
	if c.Updated, err = keyindex.Store(ctx, m.Layout, m.store, public, repair); err != nil {
		return fmt.Errorf("add the key %s: %w", f, err)
	}
	if c.Updated {
		c.Stale = append(c.Stale, m.KeyName(f))
	}
	offered, _, err := m.ReadKeyIndex(ctx, m.store)
	if c.Offered = slices.Contains(offered, f) && !m.seen.Retired(m.Layout, f); err != nil || c.Offered {
		return err
	}
	if err := keyindex.Offer(ctx, m.Layout, m.store, f); err != nil {
		return fmt.Errorf("add the key %s: %w", f, err)
	}
	c.Added, c.Stale = true, append(c.Stale, m.KeyIndexName())
	return nil
}

// attempts is how often a document is read again that another publisher has replaced.
const attempts = 5

// resign replaces the signatures of one key.
func (m *at) resign(ctx context.Context, from *key.Public, to *sign.Key, c *Change) error {
	armored, err := from.Armored()
	if err != nil {
		return err
	}
	ring, err := key.ReadRing(armored)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards c while one document is counted
	return m.each(ctx, func(name string, document []byte, info mirror.Info) error {
		for n := 1; ; n++ {
			done, err := m.resignOne(ctx, ring, from, to, name, document, info)
			if errors.Is(err, mirror.ErrConflict) && n < attempts {
				if document, info, err = mirror.Read(ctx, m.store, name, buildcache.MaxDocument); err == nil {
					continue
				}
			}
			mu.Lock()
			defer mu.Unlock()
			return c.count(name, done, err)
		}
	})
}

// An outcome is what became of one document.
type outcome int

const (
	other outcome = iota
	already
	resigned
	refused
	damaged // so that its key cannot be told
)

func (m *at) resignOne(ctx context.Context, ring *key.Ring, from *key.Public, to *sign.Key, name string, document []byte, info mirror.Info) (outcome, error) {
	by, err := key.IssuerOf(document)
	switch {
	case err != nil || !from.Made(by) && !to.Public().Made(by):
		return other, nil
	case to.Public().Made(by):
		return already, nil
	}
	if _, err := ring.Verify(document); err != nil {
		return refused, err
	}
	text, err := key.Text(document)
	if err != nil {
		return refused, err
	}
	signed, err := to.Document(ctx, text)
	if err != nil {
		return other, fmt.Errorf("%s: %w", name, err)
	}
	_, err = m.store.Swap(ctx, buildcache.DocumentOf(&buildcache.Package{File: name, Document: signed, Signed: true}).Upload(), info.Version)
	return resigned, err
}

// count takes over what became of one document; an error of the store or of the signer stops the rest.
func (c *Change) count(name string, o outcome, err error) error {
	switch {
	case errors.Is(err, mirror.ErrNotExist): // removed meanwhile
		return nil
	case o == refused:
		c.Findings = append(c.Findings, buildcache.Error.In(name, err.Error()))
		return nil
	case o == damaged:
		c.Findings = append(c.Findings, buildcache.Warning.In(name, err.Error()))
		return nil
	case err != nil:
		return err
	case o == already:
		c.Already++
	case o == other:
		c.Others++
	case o == resigned:
		c.Resigned++
		c.Stale = append(c.Stale, name)
	}
	return nil
}
