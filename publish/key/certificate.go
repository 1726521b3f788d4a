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

// maxPackets is how many packets a block may have. A key has a handful; one that many others have
// signed has thousands, and a hostile one more.
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
	primaries    int   // primary keys that were read, copies of one included
	damaged      error // the first signature that gpg could not read either
	// loose are revocation certificates, which stand alone: gpg --gen-revoke.
	loose []*packet.OpaquePacket
}

// A certificate is a primary key and what is said about it. Nothing in it is checked
// until the valid methods do.
type certificate struct {
	primary *packet.PublicKey
	broken  error // why the primary key cannot be used
	about         // the primary key itself: direct signatures and revocations
	users   []*user
	subkeys []*subkey
	parts   []*about // everything, in the order in which it was read
}

// about is a part of a public key, with the signatures that bind or revoke it.
type about struct {
	bindings, revocations []*packet.Signature

	raw []*packet.OpaquePacket // the part and all signatures on it, as they were read
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
	var at *about // what the next signature is about
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
					return new(about) // it signs nothing that can be verified here
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

// settle adds revocation certificates to the keys that they are about, wherever they were read. Others are
// of keys that are not here.
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

// part returns the part that a packet begins, or makes it.
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

// add adds a signature, once. One of a kind that is not known, of another key in most cases, is left
// aside; one that is malformed is an error.
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

// armored is the key as gpg --armor --export writes it.
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

// readable refuses keys that gpg cannot read, so that no client could check their signatures.
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

// signsForGPG reports whether gpg 2.2 knows the algorithm as one that signs.
func signsForGPG(pk *packet.PublicKey) bool {
	switch pk.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly, packet.PubKeyAlgoDSA, packet.PubKeyAlgoECDSA, packet.PubKeyAlgoEdDSA:
		return true
	}
	return false
}

// find returns the key that a signature names.
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

// A revocation takes a key back.
type revocation struct {
	at time.Time
	// hard: nothing that the key has signed may be trusted any more, whenever it says that it
	// was signed: the key is compromised, or no reason is given (RFC 9580, section 5.2.3.31).
	hard bool
}

// A validity says when a key may sign.
type validity struct {
	signs       bool
	created     time.Time
	expires     time.Time // zero: never
	revocations []revocation
}

// primaryValidity is gpg's: the newest self-signatures decide. A direct one goes before those
// of user IDs, of which the newest that says anything counts.
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

// take takes over what a self-signature says of a key.
func (v *validity) take(pk *packet.PublicKey, sig *packet.Signature) {
	if sig.KeyLifetimeSecs != nil && *sig.KeyLifetimeSecs > 0 {
		v.expires = pk.CreationTime.Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second)
	}
	if sig.FlagsValid {
		v.signs = sig.FlagSign
	}
}

// newest is the certification of a user ID that counts; nil if there is none, or if the
// user ID was revoked since.
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

// validity of a subkey, by its newest binding. A subkey that signs must have signed the
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

// newest returns the newest of the signatures that are valid, and have not expired themselves.
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

// sound refuses self-signatures by algorithms that gpg does not accept in them. SHA-1 is one
// that it accepts: of a text that the key's owner alone has made, it is no danger.
func sound(sig *packet.Signature) bool {
	return sig.Version == 4 && (sig.Hash == crypto.SHA1 || hashName(sig.Hash) != "") && critical(sig) == nil
}
