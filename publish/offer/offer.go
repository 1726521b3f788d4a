// Package offer decides which public keys a publish offers to clients.
//
// Clients trust every key that a mirror offers. So a key is offered only if a package that it has signed is
// published. With trusted keys, no other key is offered. A trusted key that has signed no package of the
// source is offered with any package, so that clients can get a key before it is used.
package offer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// A Publish holds the inputs of the decision: a source, the content of its destination, and the packages that
// are published.
type Publish struct {
	Source *source.Mirror
	Layout buildcache.Layout
	Store  mirror.Reader
	Path   string // of the mirror, below DESTINATION
	Seen   *buildcache.Survey
	Trust  buildcache.Trust
	Known  *key.Ring // available keys, trusted or not

	Key    *sign.Key // the signing key; nil: none
	Resign bool      // trusted keys other than Key are those of builds and not for clients
	NoKeys bool      // keys are not published

	Packages  []*buildcache.Package // of the source
	Issuers   []key.Issuer          // keys that Packages name as their signers, unchecked; zero: not signed
	Published []*buildcache.Package // packages that clients find with the source's document
	Sends     bool                  // whether any object of a package is stored
}

// Keys are the keys that clients are offered.
type Keys struct {
	Absent   []buildcache.Object // objects to store: a key's content before the document that names it
	Index    []buildcache.Object // lists all keys for clients, the last object under a fixed name; empty: unchanged
	Named    []key.Fingerprint   // keys that Index names
	Findings []buildcache.Finding
	// Untrusted are the names of keys that clients are already offered but that are not trusted.
	Untrusted []string

	offers   []keyOffer
	trusted  bool              // signatures are checked
	resigned bool              // see Publish.Resign
	there    []key.Fingerprint // keys of the destination that may be offered to clients
}

// A keyOffer is a public key that may be published.
type keyOffer struct {
	source.Key
	made   []*buildcache.Package // packages of the source signed by the key
	absent []buildcache.Object   // its objects that the destination lacks
}

// A decision builds Keys.
type decision struct {
	Publish
	out    *Keys
	spoilt []key.Fingerprint // trusted keys under whose names the destination holds something else
}

// Decide decides which keys are published. It only reads. Clients are also offered the keys of the
// destination: a missing key index is rebuilt.
func Decide(ctx context.Context, p Publish) (*Keys, error) {
	d := &decision{Publish: p, out: &Keys{trusted: p.Trust.Keys != nil, resigned: p.Resign}}
	return d.out, d.decide(ctx)
}

func (d *decision) decide(ctx context.Context) error {
	for _, f := range d.Seen.Keys(d.Layout) {
		good, err := d.judgeKey(ctx, f)
		if err != nil {
			return err
		}
		if good {
			d.out.there = append(d.out.there, f)
		}
	}
	if err := d.offerKeys(ctx); err != nil {
		return err
	}
	d.out.Absent, d.out.Named = d.out.For(d.Published)
	if len(d.Published) > 0 {
		for _, o := range d.out.offers {
			if len(o.made) == 0 && !d.out.trusted {
				d.warn(o.Name(), "it has signed no package that is published, so this key is not published: if clients are to trust it, add it to the trusted keys")
			}
		}
	}
	if err := d.uncheckable(ctx); err != nil {
		return err
	}
	return d.planKeyIndex(ctx)
}

func (d *decision) warn(file, reason string) {
	d.out.Findings = append(d.out.Findings, buildcache.Warning.In(d.Source.File(file), reason))
}

// offerKeys collects the keys of the source, the signing key, and trusted keys of signers. If several of them
// hold the same key, the copies are merged.
func (d *decision) offerKeys(ctx context.Context) error {
	trust := d.Trust
	var keys []source.Key
	for _, k := range d.Source.Keys {
		if trust.Keys != nil && !trust.Keys.Holds(k.Fingerprint) {
			d.warn(k.Name(), "it is not among the trusted keys, so this key is not published")
			continue
		}
		keys = append(keys, k)
	}
	var publics []*key.Public
	if k := d.Key; k != nil && slices.ContainsFunc(d.Issuers, k.Public().Made) {
		publics = append(publics, k.Public())
	}
	for _, by := range d.Issuers {
		if public, ok := trust.Signer(by); ok {
			publics = append(publics, public)
		}
	}
	for _, public := range publics {
		if d.NoKeys {
			break
		}
		var err error
		if keys, err = source.WithKey(keys, d.Layout, public); err != nil {
			return err
		}
	}
	for _, k := range keys {
		// Retired keys are not offered, nor keys under whose name the destination holds something else.
		if slices.Contains(d.spoilt, k.Fingerprint) || d.Seen.Retired(d.Layout, k.Fingerprint) {
			continue
		}
		if err := d.offer(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

func (d *decision) offer(ctx context.Context, k source.Key) error {
	o := keyOffer{Key: k}
	for i, p := range d.Packages {
		if k.Public.Made(d.Issuers[i]) {
			o.made = append(o.made, p)
		}
	}
	as, err := same.Key(ctx, d.Seen, d.Layout, d.Store, k.Public, k.Objects)
	o.Public, o.Objects, o.absent = as.Public, as.Objects, as.Absent
	if as.Damage != nil {
		d.warn(o.Name(), as.Damage.Error())
	}
	d.out.offers = append(d.out.offers, o)
	return err
}

// wants reports whether a key is offered with the published packages.
func (k *Keys) wants(o keyOffer, published []*buildcache.Package) bool {
	if len(o.made) == 0 {
		return k.trusted && !k.resigned && len(published) > 0
	}
	return slices.ContainsFunc(published, func(p *buildcache.Package) bool { return slices.Contains(o.made, p) })
}

// For returns the keys for the packages that are actually published: the objects to store, and all keys that
// are offered to clients.
func (k *Keys) For(published []*buildcache.Package) (absent []buildcache.Object, named []key.Fingerprint) {
	named = k.there
	for _, o := range k.offers {
		if k.wants(o, published) {
			absent = append(absent, o.absent...)
			named = append(slices.Clip(named), o.Fingerprint)
		}
	}
	return absent, buildcache.UnionKeys(nil, named)
}

// Public returns a key as it is offered.
func (k *Keys) Public(f key.Fingerprint) *key.Public {
	return k.offers[slices.IndexFunc(k.offers, func(o keyOffer) bool { return o.Fingerprint == f })].Public
}

// uncheckable warns about packages signed by a key that clients are not offered.
func (d *decision) uncheckable(ctx context.Context) error {
	published := make(map[*buildcache.Package]bool)
	for _, p := range d.Published {
		published[p] = true
	}
	unknown := make(map[key.Issuer][]*buildcache.Package)
	for i, p := range d.Packages {
		if by := d.Issuers[i]; by != (key.Issuer{}) && published[p] && !d.checkable(by) {
			unknown[by] = append(unknown[by], p)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	found, sure, err := d.keysThere(ctx)
	if err != nil {
		return err
	}
	issuers := slices.SortedFunc(maps.Keys(unknown), func(a, b key.Issuer) int { return strings.Compare(a.String(), b.String()) })
	for _, by := range issuers {
		k, _ := d.Trust.Signer(by)
		retired := d.retired(by)
		if !retired && (!sure || slices.ContainsFunc(found, func(p *key.Public) bool { return p.Made(by) })) || k != nil && slices.Contains(d.spoilt, k.Fingerprint()) {
			continue
		}
		_, dir := d.Layout.Directories()
		why := "is offered by neither SOURCE nor DESTINATION: add it with `publish keys add`, or give it among the trusted keys"
		if retired {
			why = "was retired: publish keys add offers it again"
		} else if d.NoKeys {
			why = "is not in DESTINATION, and keys are not published"
		}
		d.warn(strings.TrimSuffix(dir, "/"), fmt.Sprintf("clients cannot check the signatures of %s: the key %s %s",
			english.Plural(len(unknown[by]), "package", ""), by, why))
	}
	return nil
}

// retired reports whether the key that made a signature was retired, as far as its fingerprint or an
// available key tells.
func (d *decision) retired(by key.Issuer) bool {
	return d.Seen.Retired(d.Layout, d.Known.PrimaryOf(by))
}

// checkable reports whether clients are known to be offered the key that made a signature.
func (d *decision) checkable(by key.Issuer) bool {
	name := by.String() // the fingerprint, unless a subkey made the signature
	if p, ok := d.Trust.Signer(by); ok {
		name = string(p.Fingerprint())
	}
	if slices.Contains(d.out.Named, key.Fingerprint(name)) {
		return true
	}
	return slices.ContainsFunc(d.out.offers, func(o keyOffer) bool {
		return slices.Contains(d.out.Named, o.Fingerprint) && o.Public.Made(by)
	})
}

// keysThere reads the keys of the destination that the source lacks: one of their subkeys may have signed. A
// run that sends nothing does not read them; then sure is false.
func (d *decision) keysThere(ctx context.Context) (found []*key.Public, sure bool, err error) {
	lacking := slices.DeleteFunc(slices.Clone(d.out.there), func(f key.Fingerprint) bool {
		return slices.ContainsFunc(d.out.offers, func(o keyOffer) bool { return o.Fingerprint == f })
	})
	if len(lacking) > 0 && !d.Sends {
		return nil, false, nil
	}
	found, err = buildcache.ReadKeys(ctx, d.Layout, d.Store, lacking)
	return found, err == nil, err
}

// planKeyIndex decides whether the key index must be written.
func (d *decision) planKeyIndex(ctx context.Context) error {
	if len(d.out.Named) == 0 {
		return d.judgeKeyIndex()
	}
	objects, err := d.Layout.KeyIndex(d.out.Named)
	if err != nil {
		return err
	}
	last := objects[len(objects)-1]
	complete, retired, err := same.KeyIndex(ctx, d.Seen, d.Layout, d.Store, last, d.out.Named)
	for _, f := range retired {
		d.warn(last.Name, fmt.Sprintf("it names the key %s, which was retired: run publish index", f))
	}
	if err != nil || complete {
		return err
	}
	d.out.Index = objects
	return nil
}
