package key

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Merged returns the key together with everything that another copy adds, as gpg --import merges them: identities,
// subkeys, signatures that extend it, revocations. Nothing is removed, so a revoked key stays revoked, and the
// expiry that was set last counts. Merged reports whether the merge changes the key for clients: its identities,
// its subkeys, or the times from which and until which each key may sign. If it does not, Merged returns the key
// itself.
func (p *Public) Merged(other *Public) (merged *Public, more bool, err error) {
	var k keyring
	for _, c := range []*certificate{p.certificate, other.certificate} {
		var body bytes.Buffer
		if err := c.serialize(&body); err != nil {
			return nil, false, err
		}
		if err := k.read(body.Bytes()); err != nil {
			return nil, false, fmt.Errorf("public key: %w", err)
		}
	}
	if len(k.certificates) != 1 {
		return nil, false, fmt.Errorf("%s is another key than %s", other.Fingerprint(), p.Fingerprint())
	}
	c := k.certificates[0]
	if c.meaning() == p.certificate.meaning() {
		return p, false, nil
	}
	// Identities come before subkeys, also those of the other copy.
	slices.SortStableFunc(c.parts, func(a, b *about) int { return cmp.Compare(place(a), place(b)) })
	armored, err := c.armored()
	if err != nil {
		return nil, false, err
	}
	merged, err = ReadPublic(armored) // a key that clients can no longer read is not published
	return merged, err == nil, err
}

// meaning returns the effect of all signatures on a key, as a text to compare. Certifications by others, and
// signatures that newer ones have replaced, have no effect.
func (c *certificate) meaning() string {
	var b strings.Builder
	say := func(what string, v validity, err error) {
		fmt.Fprintln(&b, what, v.signs, v.expires.Unix(), v.revocations, err)
	}
	v, err := c.primaryValidity()
	say("primary", v, err)
	var parts []string
	for _, u := range c.users {
		if u.newest(c.primary) != nil {
			parts = append(parts, strconv.Quote(u.id))
		}
	}
	slices.Sort(parts)
	fmt.Fprintln(&b, parts)
	for _, s := range slices.SortedFunc(slices.Values(c.subkeys), func(a, b *subkey) int { return bytes.Compare(a.key.Fingerprint, b.key.Fingerprint) }) {
		v, err := s.validity(c.primary)
		say(string(fingerprint(s.key)), v, err)
	}
	return b.String()
}

// place returns the position of a part in a key.
func place(a *about) int {
	switch a.raw[0].Tag {
	case tagPublicKey:
		return 0
	case tagSubkey:
		return 2
	}
	return 1
}
