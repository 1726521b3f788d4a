package key

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Merged returns the key with all that another copy of it says as well, as gpg --import merges them: identities, subkeys,
// signatures that extend it, revocations. Nothing is taken away, so a key that was revoked stays so, and of several
// times of expiry the one that was set last counts. It reports whether that changes what the key is to clients: its identities,
// its subkeys, and from when to when each of them may sign. If it does not, the key itself is returned.
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
	merged, err = ReadPublic(armored) // what clients can no longer read is not published
	return merged, err == nil, err
}

// meaning is what the signatures on a key come to. Certifications by others, and signatures that newer ones have replaced, are no part
// of it.
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

// place is where a part stands in a key.
func place(a *about) int {
	switch a.raw[0].Tag {
	case tagPublicKey:
		return 0
	case tagSubkey:
		return 2
	}
	return 1
}
