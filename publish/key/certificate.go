package key

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Tags of the packets that a public key consists of (RFC 4880, section 4.3).
const (
	tagSignature  = 2
	tagPublicKey  = 6
	tagTrust      = 12
	tagUserID     = 13
	tagSubkey     = 14
	tagAttribute  = 17
	tagPrivateKey = 5
	tagPrivateSub = 7
)

// maxPackets is the maximum number of packets in a block. Most keys have a handful. A key with many certifications
// has thousands, and a hostile key may have more.
const maxPackets = 10_000

// packetsOf splits a binary message into its packets.
func packetsOf(body []byte) ([]*packet.OpaquePacket, error) {
	var all []*packet.OpaquePacket
	r := packet.NewOpaqueReader(bytes.NewReader(body))
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if all = append(all, p); len(all) > maxPackets {
			return nil, fmt.Errorf("it has more than %d OpenPGP packets: export it with gpg --export-options export-minimal", maxPackets)
		}
	}
}

// A keyring collects public keys. Copies of one key are merged, as gpg does when it imports them.
type keyring struct {
	certificates []*certificate
	primaries    int   // number of primary keys that were read, including copies
	damaged      error // the error of the first signature that gpg cannot read either
	// loose are revocation certificates without a key, as gpg --gen-revoke writes them.
	loose []*packet.OpaquePacket
}

// A certificate is a primary key with its user IDs, its subkeys and the signatures on them. The signatures are
// checked only when the validity of a key or user ID is computed.
type certificate struct {
	primary *packet.PublicKey
	broken  error // why the primary key cannot be used
	about         // the primary key itself: direct signatures and revocations
	users   []*user
	subkeys []*subkey
	parts   []*about // all parts, in the order in which they were read
}

// about is a part of a public key, with the signatures that bind or revoke it.
type about struct {
	bindings, revocations []*packet.Signature

	raw []*packet.OpaquePacket // the packets of the part and of all signatures on it, as they were read
}

type user struct {
	id string
	about
}

type subkey struct {
	key *packet.PublicKey
	about
}

var errNoPrimary = errors.New("it does not begin with a primary key")

var errPrivate = errors.New("it holds a private key: export public keys only (gpg --armor --export FINGERPRINT)")

// read adds the keys of a binary keyring.
func (k *keyring) read(body []byte) error {
	packets, err := packetsOf(body)
	if err != nil {
		return err
	}
	var c *certificate
	var at *about // the part that the next signature is on
	for _, p := range packets {
		if c == nil && p.Tag == tagSignature {
			k.loose = append(k.loose, p)
			continue
		}
		if c == nil && p.Tag != tagPublicKey && p.Tag != tagPrivateKey {
			return errNoPrimary
		}
		switch p.Tag {
		case tagPrivateKey, tagPrivateSub:
			return errPrivate
		case tagPublicKey:
			c = k.certificate(p)
			at = c.part(p, func() *about { return &c.about })
		case tagUserID:
			at = c.part(p, func() *about {
				c.users = append(c.users, &user{id: string(p.Contents)})
				return &c.users[len(c.users)-1].about
			})
		case tagSubkey:
			at = c.part(p, func() *about {
				parsed, err := p.Parse()
				if err != nil {
					return new(about) // none of its signatures can be verified here
				}
				c.subkeys = append(c.subkeys, &subkey{key: parsed.(*packet.PublicKey)})
				return &c.subkeys[len(c.subkeys)-1].about
			})
		case tagAttribute:
			at = c.part(p, func() *about { return new(about) })
		case tagSignature:
			if err := at.add(p); err != nil && k.damaged == nil {
				k.damaged = err
			}
		case tagTrust: // local to a keyring
		default:
			return fmt.Errorf("there is an OpenPGP packet of type %d in it, which no public key has", p.Tag)
		}
	}
	return nil
}

// settle adds each revocation certificate to its key, in whatever order they were read. It ignores those of keys
// that were not read.
func (k *keyring) settle() error {
	for _, p := range k.loose {
		parsed, err := p.Parse()
		if err != nil {
			return fmt.Errorf("revocation certificate: %w", err)
		}
		sig := parsed.(*packet.Signature)
		issuer, ok := issuerOf(sig)
		if !ok || sig.SigType != packet.SigTypeKeyRevocation {
			return errNoPrimary
		}
		for _, c := range k.certificates {
			if c.primary != nil && issuer.is(c.primary) {
				if err := c.add(p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (k *keyring) certificate(p *packet.OpaquePacket) *certificate {
	k.primaries++
	for _, c := range k.certificates {
		if same(c.parts[0].raw[0], p) {
			return c
		}
	}
	c := &certificate{}
	k.certificates = append(k.certificates, c)
	if parsed, err := p.Parse(); err != nil {
		c.broken = err
	} else {
		c.primary = parsed.(*packet.PublicKey)
	}
	return c
}

// part returns the part that begins with a packet. If there is none, it adds one.
func (c *certificate) part(p *packet.OpaquePacket, begin func() *about) *about {
	for _, a := range c.parts {
		if same(a.raw[0], p) {
			return a
		}
	}
	a := begin()
	a.raw = append(a.raw, p)
	c.parts = append(c.parts, a)
	return a
}

func same(a, b *packet.OpaquePacket) bool {
	return a.Tag == b.Tag && bytes.Equal(a.Contents, b.Contents)
}

// add adds a signature once. A signature of an unsupported kind, in most cases by another key, is kept but not
// used. A malformed signature is an error.
func (a *about) add(p *packet.OpaquePacket) error {
	for _, r := range a.raw {
		if same(r, p) {
			return nil
		}
	}
	a.raw = append(a.raw, p)
	parsed, err := p.Parse()
	var unsupported pgperrors.UnsupportedError
	switch {
	case len(p.Contents) == 0 || p.Contents[0] < 2 || p.Contents[0] > 4:
		return errors.New("a signature in it is of an unknown version")
	case errors.As(err, &unsupported):
		return nil
	case err != nil:
		return fmt.Errorf("a signature in it: %w", err)
	}
	switch sig := parsed.(*packet.Signature); sig.SigType {
	case packet.SigTypeKeyRevocation, packet.SigTypeSubkeyRevocation, packet.SigTypeCertificationRevocation:
		a.revocations = append(a.revocations, sig)
	default:
		a.bindings = append(a.bindings, sig)
	}
	return nil
}

// armored returns the key as gpg --armor --export writes it.
func (c *certificate) armored() ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, publicBlock, nil)
	if err != nil {
		return nil, err
	}
	if err := c.serialize(w); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return append(b.Bytes(), '\n'), nil
}

// serialize writes the packets of the key, each part with the signatures on it.
func (c *certificate) serialize(w io.Writer) error {
	for _, part := range c.parts {
		for _, p := range part.raw {
			if err := p.Serialize(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// readable returns an error for a key that gpg cannot read. No client could check its signatures.
func (c *certificate) readable() error {
	switch {
	case c.broken != nil:
		return fmt.Errorf("public key: %w", c.broken)
	case c.primary.Version != 4:
		return fmt.Errorf("the key %s is of OpenPGP version %d, which gpg cannot read: make one with gpg --quick-generate-key", fingerprint(c.primary), c.primary.Version)
	case !signsForGPG(c.primary):
		return fmt.Errorf("the key %s has an algorithm (%d) that gpg cannot verify: make one with gpg --quick-generate-key", fingerprint(c.primary), c.primary.PubKeyAlgo)
	}
	return nil
}

// signsForGPG reports whether gpg 2.2 can verify signatures of a key's algorithm.
func signsForGPG(pk *packet.PublicKey) bool {
	switch pk.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly, packet.PubKeyAlgoDSA, packet.PubKeyAlgoECDSA, packet.PubKeyAlgoEdDSA:
		return true
	}
	return false
}

// find returns the key that a signature names, or nil.
func (c *certificate) find(i Issuer) *packet.PublicKey {
	if i.is(c.primary) {
		return c.primary
	}
	for _, s := range c.subkeys {
		if i.is(s.key) {
			return s.key
		}
	}
	return nil
}

// A revocation is the revocation of a key.
type revocation struct {
	at time.Time
	// hard means that no signature by the key may be trusted, whatever its date: the key is compromised, or no
	// reason is given (RFC 9580, section 5.2.3.31).
	hard bool
}

// A validity says when a key may sign.
type validity struct {
	signs       bool
	created     time.Time
	expires     time.Time // zero: never
	revocations []revocation
}

// primaryValidity returns the validity of the primary key by gpg's rule: each value comes from the newest direct
// self-signature if that sets it, and otherwise from the newest self-signature of a user ID that does.
func (c *certificate) primaryValidity() (validity, error) {
	pk := c.primary
	v := validity{created: pk.CreationTime, signs: true}
	v.revocations = revocationsIn(c.revocations, packet.SigTypeKeyRevocation, pk.VerifyRevocationSignature)
	said := newest(c.bindings, func(sig *packet.Signature) bool {
		return sig.SigType == packet.SigTypeDirectSignature && pk.VerifyDirectKeySignature(sig) == nil
	})
	var selfs []*packet.Signature
	if said != nil {
		selfs = append(selfs, said)
	}
	var byUsers []*packet.Signature
	for _, u := range c.users {
		if sig := u.newest(pk); sig != nil {
			byUsers = append(byUsers, sig)
		}
	}
	slices.SortStableFunc(byUsers, func(a, b *packet.Signature) int { return b.CreationTime.Compare(a.CreationTime) })
	if selfs = append(selfs, byUsers...); len(selfs) == 0 {
		return v, errors.New("it has no valid self-signature")
	}
	for _, sig := range slices.Backward(selfs) {
		v.take(pk, sig)
	}
	return v, nil
}

// take copies the expiry and the flag for signing from a self-signature, as far as it sets them.
func (v *validity) take(pk *packet.PublicKey, sig *packet.Signature) {
	if sig.KeyLifetimeSecs != nil && *sig.KeyLifetimeSecs > 0 {
		v.expires = pk.CreationTime.Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second)
	}
	if sig.FlagsValid {
		v.signs = sig.FlagSign
	}
}

// newest returns the newest valid certification of a user ID. It is nil if there is none, or if the user ID was
// revoked since.
func (u *user) newest(pk *packet.PublicKey) *packet.Signature {
	valid := func(sig *packet.Signature) bool { return pk.VerifyUserIdSignature(u.id, pk, sig) == nil }
	sig := newest(u.bindings, func(sig *packet.Signature) bool {
		return sig.SigType >= packet.SigTypeGenericCert && sig.SigType <= packet.SigTypePositiveCert && valid(sig)
	})
	revoked := newest(u.revocations, func(sig *packet.Signature) bool {
		return sig.SigType == packet.SigTypeCertificationRevocation && valid(sig)
	})
	if sig == nil || revoked != nil && !revoked.CreationTime.Before(sig.CreationTime) {
		return nil
	}
	return sig
}

// validity returns the validity of a subkey, by its newest binding. A subkey that signs must have signed the
// binding as well.
func (s *subkey) validity(primary *packet.PublicKey) (validity, error) {
	v := validity{created: s.key.CreationTime}
	v.revocations = revocationsIn(s.revocations, packet.SigTypeSubkeyRevocation, func(sig *packet.Signature) error {
		return primary.VerifySubkeyRevocationSignature(sig, s.key)
	})
	sig := newest(s.bindings, func(sig *packet.Signature) bool {
		return sig.SigType == packet.SigTypeSubkeyBinding && primary.VerifyKeySignature(s.key, sig) == nil
	})
	if sig == nil {
		return v, errors.New("it is not bound to its primary key")
	}
	v.take(s.key, sig)
	return v, nil
}

// newest returns the newest valid signature that has not expired itself, or nil.
func newest(sigs []*packet.Signature, valid func(*packet.Signature) bool) *packet.Signature {
	var best *packet.Signature
	for _, sig := range sigs {
		if best != nil && !sig.CreationTime.After(best.CreationTime) {
			continue
		}
		if sound(sig) && !over(sig, now()) && valid(sig) {
			best = sig
		}
	}
	return best
}

func revocationsIn(sigs []*packet.Signature, kind packet.SignatureType, verify func(*packet.Signature) error) []revocation {
	var all []revocation
	for _, sig := range sigs {
		if sig.SigType != kind || verify(sig) != nil {
			continue
		}
		soft := sig.RevocationReason != nil && (*sig.RevocationReason == packet.KeySuperseded || *sig.RevocationReason == packet.KeyRetired)
		all = append(all, revocation{sig.CreationTime, !soft})
	}
	return all
}

// over reports whether the lifetime of a signature itself has ended.
func over(sig *packet.Signature, at time.Time) bool {
	return sig.SigLifetimeSecs != nil && *sig.SigLifetimeSecs > 0 &&
		!at.Before(sig.CreationTime.Add(time.Duration(*sig.SigLifetimeSecs)*time.Second))
}

// sound reports whether gpg accepts the version, hash and notations of a self-signature. SHA-1 is accepted here. It
// is safe for a text that only the key's owner can choose.
func sound(sig *packet.Signature) bool {
	return sig.Version == 4 && (sig.Hash == crypto.SHA1 || hashName(sig.Hash) != "") && critical(sig) == nil
}
