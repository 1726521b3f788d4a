package key

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Reasons why a key cannot sign.
var (
	ErrExpired    = errors.New("it has expired")
	ErrRevoked    = errors.New("it has been revoked")
	ErrCannotSign = errors.New("it is not meant to sign")
)

// A Candidate is a primary key or a subkey, and whether it can sign.
type Candidate struct {
	Fingerprint Fingerprint
	Subkey      bool
	Created     time.Time
	Expires     time.Time // the earlier of its own expiry and the primary key's; zero means never
	Err         error     // the reason why it cannot sign at the given time; nil if it can
}

// Candidates returns every key of the certificate, and whether it can sign at a time. The primary key comes first.
func (p *Public) Candidates(at time.Time) []Candidate {
	c := p.certificate
	above, err := c.primaryValidity()
	all := []Candidate{candidate(&signer{key: c.primary, own: above, above: above, broken: err}, at)}
	for _, s := range c.subkeys {
		own, subErr := s.validity(c.primary)
		if subErr == nil {
			subErr = err
		}
		sub := candidate(&signer{key: s.key, own: own, above: above, broken: subErr}, at)
		if sub.Subkey = true; subErr == nil && !own.signs {
			sub.Err = ErrCannotSign // even if it has expired
		}
		all = append(all, sub)
	}
	return all
}

func candidate(s *signer, at time.Time) Candidate {
	return Candidate{
		Fingerprint: fingerprint(s.key),
		Created:     s.key.CreationTime,
		Expires:     earlier(s.own.expires, s.above.expires),
		Err:         s.objection(at),
	}
}

// objection returns the reason why a key cannot sign at a time, or nil.
func (s *signer) objection(at time.Time) error {
	switch {
	case s.broken != nil:
		return fmt.Errorf("it cannot be used: %w", s.broken)
	case !signsForGPG(s.key):
		return fmt.Errorf("%w: gpg cannot verify signatures of its algorithm (%d)", ErrCannotSign, s.key.PubKeyAlgo)
	case weak(s.key):
		return errors.New("it is too short: want at least 2048 bits")
	case s.own.created.After(at):
		return fmt.Errorf("it was made at %s, which is still to come: is a clock wrong?", date(s.own.created))
	}
	for _, v := range []validity{s.above, s.own} {
		if len(v.revocations) > 0 {
			return fmt.Errorf("%w at %s", ErrRevoked, date(v.revocations[0].at))
		}
		if !v.expires.IsZero() && !at.Before(v.expires) {
			return fmt.Errorf("%w at %s", ErrExpired, date(v.expires))
		}
	}
	if !s.own.signs {
		return ErrCannotSign
	}
	return nil
}

// earlier returns the earlier of two times. The zero time means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// ExpiresSoon is the time before a key's expiry at which it should be extended, or another key offered to clients.
const ExpiresSoon = 60 * 24 * time.Hour

// Subkey returns the subkey that a signature names. It is empty if the signature names the primary key or another
// key.
func (p *Public) Subkey(i Issuer) Fingerprint {
	if pk := p.certificate.find(i); pk != nil && pk != p.certificate.primary {
		return fingerprint(pk)
	}
	return ""
}

// ExpiryOf returns the time until which the key that a signature names may sign. The key may be a subkey. Zero
// means for ever.
func (p *Public) ExpiryOf(i Issuer) time.Time {
	c := p.certificate
	v, _ := c.primaryValidity()
	expires := v.expires
	for _, s := range c.subkeys {
		if i.is(s.key) {
			own, _ := s.validity(c.primary)
			expires = earlier(own.expires, expires)
		}
	}
	return expires
}

// Expires returns the time at which the primary key expires. Zero means never.
func (p *Public) Expires() time.Time {
	v, _ := p.certificate.primaryValidity()
	return v.expires
}

// Revoked returns the time at which the primary key was revoked. Zero means that it was not.
func (p *Public) Revoked() time.Time { return p.RevocationOf(p.Issuer()) }

// RevocationOf returns the time at which the key that a signature names, or its primary key, was first revoked.
// Zero means that neither was.
func (p *Public) RevocationOf(i Issuer) time.Time {
	c := p.certificate
	v, _ := c.primaryValidity()
	all := v.revocations
	for _, s := range c.subkeys {
		if i.is(s.key) {
			own, _ := s.validity(c.primary)
			all = append(all, own.revocations...)
		}
	}
	if len(all) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(all, func(a, b revocation) int { return a.at.Compare(b.at) }).at
}

// Signs returns nil if a key of the certificate can sign at a time, and otherwise the reason why none can. The
// reason is ErrCannotSign only if no key can sign at any time.
func (p *Public) Signs(at time.Time) error {
	var first error
	for _, c := range p.Candidates(at) {
		if c.Err == nil {
			return nil
		}
		if first == nil || errors.Is(first, ErrCannotSign) {
			first = c.Err
		}
	}
	return first
}

// UserIDs returns the names of the key's owner, as gpg lists them.
func (p *Public) UserIDs() []string {
	var all []string
	for _, u := range p.certificate.users {
		if u.newest(p.certificate.primary) != nil {
			all = append(all, u.id)
		}
	}
	return all
}

// Armored returns the key as gpg --armor --export writes it.
func (p *Public) Armored() ([]byte, error) { return p.certificate.armored() }

// Issuer returns the primary key in the form in which a signature names it.
func (p *Public) Issuer() Issuer {
	pk := p.certificate.primary
	return Issuer{ID: pk.KeyId, fingerprint: string(pk.Fingerprint)}
}

// With returns the ring with one more key. If the ring has a copy of the key already, the copies are merged. The
// ring itself does not change.
func (r *Ring) With(p *Public) *Ring {
	all := slices.Clone(r.certificates)
	if i := slices.IndexFunc(all, func(c *certificate) bool { return fingerprint(c.primary) == p.Fingerprint() }); i >= 0 {
		merged, more, err := (&Public{all[i]}).Merged(p)
		if err != nil || !more {
			return r
		}
		all[i] = merged.certificate
	} else {
		all = append(all, p.certificate)
	}
	grown := &Ring{certificates: all, signers: make(map[uint64][]*signer)}
	for _, c := range all {
		grown.add(c)
	}
	return grown
}
