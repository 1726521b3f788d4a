// Package keyring manages the public keys of a mirror. It lists them with the number of packages that each has
// signed, adds and retires keys, and replaces the signatures of one key with those of another.
//
// Each document is replaced only in the version that was read, so other publishers may run at the same time. The
// contents of packages are not read, and the text of a document that is signed again stays the same.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
)

// A Key is a key that a mirror holds, or that packages name as their signer.
type Key struct {
	Fingerprint key.Fingerprint `json:"fingerprint"` // if the mirror lacks the key, that of the signer, which may be a subkey
	Owners      []string        `json:"owners"`
	Expires     time.Time       `json:"expires,omitzero"` // expiry of the primary key or subkey that signs; missing means never
	Revoked     time.Time       `json:"revoked,omitzero"` // missing means not revoked
	Offered     bool            `json:"offered"`          // it is in the index of keys that clients read
	Retired     bool            `json:"retired"`          // no publish offers it again
	Packages    int             `json:"packages"`         // packages that name it as their signer; signatures are not checked
	Problem     string          `json:"problem,omitempty"`

	public *key.Public
}

// A Listing lists the keys of one layout of a mirror.
type Listing struct {
	Layout   string `json:"layout"`
	Keys     []Key  `json:"keys"`
	Unsigned int    `json:"unsigned"` // packages without a signature
	Broken   int    `json:"broken"`   // packages whose signature does not name its key
}

// List returns the keys of a mirror and the number of packages that each has signed.
func List(ctx context.Context, s mirror.Store) ([]Listing, error) {
	all, err := openAll(ctx, s)
	if err != nil {
		return nil, err
	}
	var listings []Listing
	for _, m := range all {
		l, err := m.list(ctx)
		if err != nil {
			return nil, err
		}
		listings = append(listings, *l)
	}
	return listings, nil
}

// Expiring returns the keys that are offered to clients and expire soon, or have expired. It lists and reads only
// keys, and requests no object that the listing lacks.
func Expiring(ctx context.Context, s mirror.Store, now time.Time) ([]Key, error) {
	var found []Key
	for _, f := range buildcache.Layouts() {
		there, err := buildcache.KeysThere(ctx, f, s)
		if err != nil {
			return nil, err
		}
		if !there.Has(buildcache.Object{Name: f.KeyIndexName(), Size: -1}) {
			continue
		}
		keys, err := (&at{f, s, there}).keys(ctx, now)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if k.Offered && !k.Expires.IsZero() && k.Expires.Sub(now) <= key.ExpiresSoon {
				found = append(found, k)
			}
		}
	}
	return found, nil
}

// at is one layout of a mirror.
type at struct {
	buildcache.Layout
	store mirror.Store
	seen  *buildcache.Survey
}

// openAll lists the objects of a mirror in each layout that it has.
func openAll(ctx context.Context, s mirror.Store) ([]*at, error) {
	var all []*at
	for _, f := range buildcache.Layouts() {
		m, err := open(ctx, f, s)
		if err != nil {
			return nil, err
		}
		if m != nil {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("keys: %w", buildcache.ErrNoMirror)
	}
	return all, nil
}

// open lists the objects of a mirror in one layout. It returns nil if there are none.
func open(ctx context.Context, f buildcache.Layout, s mirror.Store) (*at, error) {
	p, err := f.ReadPointer(ctx, s)
	if err != nil {
		return nil, err
	}
	seen, err := buildcache.SurveyAll(ctx, f, s, p)
	if err != nil || len(seen.Objects) == 0 {
		return nil, err
	}
	return &at{f, s, seen}, nil
}

func (m *at) list(ctx context.Context) (*Listing, error) {
	keys, err := m.keys(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	out := &Listing{Layout: m.Name()}
	strangers := make(map[string]int)
	var mu sync.Mutex // guards the counts while one document is counted
	err = m.each(ctx, func(_ string, document []byte, _ mirror.Info) error {
		by, err := key.IssuerOf(document)
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, key.ErrUnsigned) {
			out.Unsigned++
			return nil
		}
		if err != nil {
			out.Broken++
			return nil
		}
		for i := range keys {
			if madeBy(keys[i].Fingerprint, keys[i].public)(by) {
				keys[i].Packages++
				return nil
			}
		}
		strangers[by.String()]++
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, by := range slices.Sorted(maps.Keys(strangers)) {
		keys = append(keys, Key{Fingerprint: key.Fingerprint(by), Owners: []string{}, Packages: strangers[by], Problem: "the mirror does not hold this key, so clients cannot check the signatures"})
	}
	out.Keys = keys
	return out, nil
}

// keys returns the public keys of the mirror. Each expires with its primary key or subkey that signs at the given
// time.
func (m *at) keys(ctx context.Context, now time.Time) ([]Key, error) {
	offered, _, err := m.ReadKeyIndex(ctx, m.store)
	if err != nil {
		return nil, err
	}
	keys := []Key{}
	for _, f := range buildcache.UnionKeys(offered, m.seen.AllKeys(m.Layout)) {
		k := Key{Fingerprint: f, Owners: []string{}, Offered: slices.Contains(offered, f), Retired: m.seen.Retired(m.Layout, f)}
		var err error
		k.public, err = buildcache.ReadKey(ctx, m.Layout, m.store, f)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			k.Problem = err.Error()
		default:
			k.Owners, k.Expires, k.Revoked = append(k.Owners, k.public.UserIDs()...), sign.Expiry(k.public, now).UTC(), k.public.Revoked().UTC()
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// each calls do for the document of every package, several at a time.
func (m *at) each(ctx context.Context, do func(name string, document []byte, info mirror.Info) error) error {
	names := slices.Sorted(maps.Keys(m.seen.Packages(m.Layout)))
	return parallel.Each(ctx, parallel.Readers, names, func(ctx context.Context, name string) error {
		document, info, err := mirror.Read(ctx, m.store, name, buildcache.MaxDocument)
		if errors.Is(err, mirror.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		return do(name, document, info)
	})
}
