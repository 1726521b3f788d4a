package publish

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// Which public keys a publish offers to clients. Clients trust every key that a mirror offers, so
// a key follows the packages that it has signed: it is offered if one of them is published. With
// trusted keys, no other key is offered, and one of them that has signed no package of the
// source goes along with any package, so that a key can be known before it is used.

// A keyOffer is a public key that may be published.
type keyOffer struct {
	source.Key
	made   []*buildcache.Package // packages of the source that it has signed
	absent []buildcache.Object   // those of its objects that the destination lacks
}

// published reports whether clients find a package as the source has it.
func (p PlannedPackage) published() bool {
	return p.Status == New || p.Status == Replaced || p.Status == Unchanged || p.Status == Repaired
}

// planKeys decides which keys are published. Clients are offered those that are there, too: a key index that is missing
// is made.
func (d *decision) planKeys(ctx context.Context) error {
	ring := d.plan.options.Trust.Keys
	d.out.trusted, d.out.resigned = ring != nil, d.plan.options.Sign.Resign
	for _, f := range d.seen.Keys(d.out.format) {
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
	d.out.Keys, d.out.keys = d.out.keysFor(d.out.Packages)
	if publishes(d.out.Packages) {
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
	d.plan.Findings = append(d.plan.Findings, buildcache.Warning.In(d.src.File(file), reason))
}

// offerKeys collects the keys of the source, the one that signs, and those of signers that are among the trusted keys. Of a
// key that is among several of these, the copies are merged.
func (d *decision) offerKeys(ctx context.Context) error {
	trust := d.plan.options.Trust
	var keys []source.Key
	for _, k := range d.src.Keys {
		if trust.Keys != nil && !trust.Keys.Holds(k.Fingerprint) {
			d.warn(k.Name(), "it is not among the trusted keys, so this key is not published")
			continue
		}
		keys = append(keys, k)
	}
	var publics []*key.Public
	if k := d.plan.options.Sign.Key; k != nil && slices.ContainsFunc(d.issuers, k.Public().Made) {
		publics = append(publics, k.Public())
	}
	for _, by := range d.issuers {
		if public, ok := trust.Signer(by); ok {
			publics = append(publics, public)
		}
	}
	for _, public := range publics {
		if d.plan.options.Selection.NoKeys {
			break
		}
		var err error
		if keys, err = source.WithKey(keys, d.out.format, public); err != nil {
			return err
		}
	}
	for _, k := range keys {
		// Clients are not told of a key that was retired, nor of one under whose name there is something else.
		if slices.Contains(d.spoilt, k.Fingerprint) || d.seen.Retired(d.out.format, k.Fingerprint) {
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
	for i, p := range d.packages {
		if k.Public.Made(d.issuers[i]) {
			o.made = append(o.made, p)
		}
	}
	as, err := same.Key(ctx, d.seen, d.out.format, d.out.store, k.Public, k.Objects)
	o.Public, o.Objects, o.absent = as.Public, as.Objects, as.Absent
	if as.Damage != nil {
		d.warn(o.Name(), as.Damage.Error())
	}
	d.out.offers = append(d.out.offers, o)
	return err
}

// publishes reports whether any package of the source is, or becomes, one of the destination.
func publishes(packages []PlannedPackage) bool {
	return slices.ContainsFunc(packages, PlannedPackage.published)
}

// wants reports whether a key goes with packages.
func (m *MirrorPlan) wants(o keyOffer, packages []PlannedPackage) bool {
	if len(o.made) == 0 {
		return m.trusted && !m.resigned && publishes(packages)
	}
	return slices.ContainsFunc(packages, func(p PlannedPackage) bool {
		return p.published() && slices.Contains(o.made, p.Package)
	})
}

// keysFor returns the keys that go with packages: what is stored of them, and all that are offered to clients.
func (m *MirrorPlan) keysFor(packages []PlannedPackage) (absent []buildcache.Object, named []key.Fingerprint) {
	named = m.there
	for _, o := range m.offers {
		if m.wants(o, packages) {
			absent = append(absent, o.absent...)
			named = append(slices.Clip(named), o.Fingerprint)
		}
	}
	return absent, buildcache.UnionKeys(nil, named)
}

// uncheckable warns of packages that are signed by a key that clients are not offered.
func (d *decision) uncheckable(ctx context.Context) error {
	status := make(map[*buildcache.Package]bool)
	for _, p := range d.out.Packages {
		status[p.Package] = p.published()
	}
	unknown := make(map[key.Issuer][]*buildcache.Package)
	for i, p := range d.packages {
		if by := d.issuers[i]; by != (key.Issuer{}) && status[p] && !d.checkable(by) {
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
		k, _ := d.plan.options.Trust.Signer(by)
		retired := d.retired(by)
		if !retired && (!sure || slices.ContainsFunc(found, func(p *key.Public) bool { return p.Made(by) })) || k != nil && slices.Contains(d.spoilt, k.Fingerprint()) {
			continue
		}
		_, dir := d.out.format.Directories()
		why := "is offered by neither SOURCE nor DESTINATION: add it with `publish keys add`, or give it among the trusted keys"
		if retired {
			why = "was retired: publish keys add offers it again"
		} else if d.plan.options.Selection.NoKeys {
			why = "is not in DESTINATION, and keys are not published"
		}
		d.warn(strings.TrimSuffix(dir, "/"), fmt.Sprintf("clients cannot check the signatures of %s: the key %s %s",
			english.Plural(len(unknown[by]), "package", ""), by, why))
	}
	return nil
}

// retired reports whether the key that made a signature was retired, as far as its fingerprint, or a key at hand, tells.
func (d *decision) retired(by key.Issuer) bool {
	return d.seen.Retired(d.out.format, d.plan.known.PrimaryOf(by))
}

// checkable reports whether clients are known to be offered the key that made a signature.
func (d *decision) checkable(by key.Issuer) bool {
	name := by.String() // the fingerprint, unless it was made by a subkey
	if p, ok := d.plan.options.Trust.Signer(by); ok {
		name = string(p.Fingerprint())
	}
	if slices.Contains(d.out.keys, key.Fingerprint(name)) {
		return true
	}
	return slices.ContainsFunc(d.out.offers, func(o keyOffer) bool {
		return slices.Contains(d.out.keys, o.Fingerprint) && o.Public.Made(by)
	})
}

// keysThere reads the keys of the destination that the source does not have: a subkey of one of them
// may have signed. A run that sends nothing does not read them, and is not sure.
func (d *decision) keysThere(ctx context.Context) (found []*key.Public, sure bool, err error) {
	lacking := slices.DeleteFunc(slices.Clone(d.out.there), func(f key.Fingerprint) bool {
		return slices.ContainsFunc(d.out.offers, func(o keyOffer) bool { return o.Fingerprint == f })
	})
	if len(lacking) > 0 && len(d.out.Blobs)+len(d.out.Documents) == 0 {
		return nil, false, nil
	}
	found, err = buildcache.ReadKeys(ctx, d.out.format, d.out.store, lacking)
	return found, err == nil, err
}

// planKeyIndex decides whether the key index must be written.
func (d *decision) planKeyIndex(ctx context.Context) error {
	if len(d.out.keys) == 0 {
		return d.judgeKeyIndex()
	}
	objects, err := d.out.format.KeyIndex(d.out.keys)
	if err != nil {
		return err
	}
	last := objects[len(objects)-1]
	complete, retired, err := same.KeyIndex(ctx, d.seen, d.out.format, d.out.store, last, d.out.keys)
	for _, f := range retired {
		d.warn(last.Name, fmt.Sprintf("it names the key %s, which was retired: run publish index", f))
	}
	if err != nil || complete {
		return err
	}
	d.out.KeyIndex = objects
	return nil
}
