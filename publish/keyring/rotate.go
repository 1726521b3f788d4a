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

// A Change is the result of a change of keys in one layout of a mirror.
type Change struct {
	Layout   string
	Added    bool     // the key is offered to clients, and was not before
	Offered  bool     // the key was offered to clients already
	Updated  bool     // the mirror's copy of the key was extended, for example by a later expiry
	Resigned int      // packages or files whose signature was replaced
	Already  int      // packages or files that the new key had signed already
	Others   int      // packages or files that neither key has signed; they do not change
	Stale    []string // names of changed objects, whose old content caches may still have
	Findings []buildcache.Finding

	From *key.Public // the key whose signatures were replaced, as the mirror holds it; nil if no signatures are replaced
	To   *sign.Key   // the new key, as it may sign in the mirror
}

// ErrUnknownKey: the mirror does not hold the key whose signatures are to be replaced.
var ErrUnknownKey = errors.New("the mirror does not hold that key")

// ErrRetired: the key that is to sign was retired, so it must not be offered to clients.
var ErrRetired = errors.New("that key was retired")

// Add offers a public key to clients, in addition to the existing keys. A copy of the key in the mirror that cannot
// be read is replaced.
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

// Rotate offers the public key of to. Then it replaces every signature by from with one by to, if the old one is
// valid. If it is interrupted, another call completes it. Nothing is changed if the mirror does not hold from
// (ErrUnknownKey), if to was retired in the mirror (ErrRetired), or if the mirror's copy of to is revoked
// (sign.UnfitError).
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

// fit returns a key as it may sign, given the mirror's copy of it. A copy that cannot be read is an error, as in
// add without repair.
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

// add offers a key to clients: it stores the key's document first, then the index of keys. The copies of a key are
// merged, so nothing in the mirror's copy is lost. A copy that cannot be read is replaced if repair is set.
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

// attempts is the maximum number of attempts for a document that another publisher replaces meanwhile.
const attempts = 5

// resign replaces the signatures of one key with those of another.
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

// An outcome is the result for one document.
type outcome int

const (
	other outcome = iota
	already
	resigned
	refused
	damaged // its key cannot be determined
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

// count records the result for one document. It returns errors of the store and the signer, which stop the run.
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
