package key

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// clockTolerance is the maximum by which a signer's clock may be ahead of the local clock.
const clockTolerance = 10 * time.Minute

// minBits is the minimum size, in bits, of a key whose security depends on its size (RSA, DSA).
const minBits = 2047

var now = time.Now

// ErrUntrusted: the signature is by a key that is not among the trusted ones.
var ErrUntrusted = errors.New("signature by a key that is not among the trusted keys")

// ErrContent: the key that the signature names did not sign this content.
var ErrContent = errors.New("it is not of this content")

// A Ring is a set of public keys that are trusted to sign.
type Ring struct {
	certificates []*certificate
	signers      map[uint64][]*signer // by key ID
}

// A signer is a key that may have made a signature: a primary key or a subkey.
type signer struct {
	key     *packet.PublicKey
	primary Fingerprint
	own     validity // of key
	above   validity // of the primary key; equal to own if key is the primary key
	broken  error    // the reason why key cannot be used at all
}

// ReadRing reads any number of armored public keys and revocation certificates. Copies of a key are merged.
func ReadRing(armored []byte) (*Ring, error) {
	if bytes.Contains(armored, []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----")) {
		return nil, errPrivate
	}
	var k keyring
	for _, block := range bytes.SplitAfter(armored, []byte("-----END "+publicBlock+"-----")) {
		if !bytes.Contains(block, []byte("-----BEGIN "+publicBlock+"-----")) {
			continue
		}
		decoded, err := armor.Decode(bytes.NewReader(block))
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		body, err := io.ReadAll(decoded.Body)
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		if err := k.read(body); err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
	}
	if len(k.certificates) == 0 {
		return nil, errors.New("it holds no armored public key")
	}
	if err := k.settle(); err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	r := &Ring{certificates: k.certificates, signers: make(map[uint64][]*signer)}
	for _, c := range k.certificates {
		if err := c.readable(); err != nil {
			return nil, err
		}
		r.add(c)
	}
	return r, nil
}

func (r *Ring) add(c *certificate) {
	above, err := c.primaryValidity()
	r.addSigner(&signer{key: c.primary, primary: fingerprint(c.primary), own: above, above: above, broken: err})
	for _, s := range c.subkeys {
		own, subErr := s.validity(c.primary)
		if subErr == nil {
			subErr = err
		}
		r.addSigner(&signer{key: s.key, primary: fingerprint(c.primary), own: own, above: above, broken: subErr})
	}
}

func (r *Ring) addSigner(s *signer) {
	if signsForGPG(s.key) {
		r.signers[s.key.KeyId] = append(r.signers[s.key.KeyId], s)
	}
}

// Fingerprints returns the primary keys of the ring, in the order in which they were read.
func (r *Ring) Fingerprints() []Fingerprint {
	all := make([]Fingerprint, len(r.certificates))
	for i, c := range r.certificates {
		all[i] = fingerprint(c.primary)
	}
	return all
}

// Holds reports whether f is a primary key of the ring.
func (r *Ring) Holds(f Fingerprint) bool { return slices.Contains(r.Fingerprints(), f) }

// Public returns the key of the ring that a signature names, directly or by a subkey.
func (r *Ring) Public(i Issuer) (p *Public, ok bool) {
	for _, c := range r.certificates {
		if c.find(i) != nil {
			return &Public{c}, true
		}
	}
	return nil, false
}

// PrimaryOf returns the primary key of the key that a signature names. If the ring does not hold it, PrimaryOf
// returns the key as the signature names it.
func (r *Ring) PrimaryOf(i Issuer) Fingerprint {
	if p, ok := r.Public(i); ok {
		return p.Fingerprint()
	}
	return Fingerprint(i.String())
}

// Primary returns the key of the ring with a primary key, merged from all its copies.
func (r *Ring) Primary(f Fingerprint) (p *Public, ok bool) {
	for _, c := range r.certificates {
		if fingerprint(c.primary) == f {
			return &Public{c}, true
		}
	}
	return nil, false
}

// Armored returns a key of the ring as gpg --armor --export writes it, merged from all its copies.
func (r *Ring) Armored(f Fingerprint) ([]byte, error) {
	if p, ok := r.Primary(f); ok {
		return p.Armored()
	}
	return nil, fmt.Errorf("%w: %s", ErrUntrusted, f)
}

// Verify checks the signature of a document and returns the primary key of its signer. The error is ErrUnsigned if
// the document has no signature.
func (r *Ring) Verify(document []byte) (Fingerprint, error) {
	if !Signed(document) {
		return "", ErrUnsigned
	}
	m, err := parseMessage(document)
	if err != nil {
		return "", err
	}
	if m.signature.SigType != packet.SigTypeText {
		return "", errors.New("bad signature: it is not one of a text")
	}
	if name := hashName(m.signature.Hash); name != "" && name != m.hash {
		return "", fmt.Errorf("signed message: its header says Hash: %s, and the signature was made with %s", m.hash, name)
	}
	return r.verify(m.signature, bytes.NewReader(m.canonical()), false)
}

// VerifyDetached checks an armored detached signature (.asc) over content.
func (r *Ring) VerifyDetached(content io.Reader, signature []byte) (Fingerprint, error) {
	sig, err := onlySignature(signature)
	if err != nil {
		return "", err
	}
	if sig.SigType != packet.SigTypeBinary && sig.SigType != packet.SigTypeText {
		return "", errors.New("bad signature: it is not one of content")
	}
	return r.verify(sig, content, sig.SigType == packet.SigTypeText)
}

// verify judges a signature by the time at which it was made. It accepts a signature by a key that has expired or
// was retired since then.
func (r *Ring) verify(sig *packet.Signature, content io.Reader, asText bool) (Fingerprint, error) {
	if hashName(sig.Hash) == "" {
		return "", fmt.Errorf("bad signature: it was made with %s, which is too weak: sign again with SHA-256 or SHA-512", sig.Hash)
	}
	if err := critical(sig); err != nil {
		return "", err
	}
	issuer, ok := issuerOf(sig)
	if !ok {
		return "", errNoIssuer
	}
	s := r.signer(issuer)
	if s == nil {
		return "", fmt.Errorf("%w: it was made with %s", ErrUntrusted, issuer)
	}
	h := sig.Hash.New()
	to := h
	if asText {
		to = openpgp.NewCanonicalTextHash(h)
	}
	if _, err := io.Copy(to, content); err != nil {
		return "", err
	}
	if err := s.key.VerifySignature(h, sig); err != nil {
		return "", fmt.Errorf("bad signature: %w: %w", ErrContent, err)
	}
	if err := s.mayHaveSigned(sig); err != nil {
		return "", fmt.Errorf("signature by %s: %w", s.primary, err)
	}
	return s.primary, nil
}

func (r *Ring) signer(i Issuer) *signer {
	for _, s := range r.signers[i.ID] {
		if i.is(s.key) {
			return s
		}
	}
	return nil
}

// mayHaveSigned returns the reason why a signature by this key is not accepted, or nil.
func (s *signer) mayHaveSigned(sig *packet.Signature) error {
	at, clock := sig.CreationTime, now()
	switch {
	case s.broken != nil:
		return fmt.Errorf("the key cannot be used: %w", s.broken)
	case !s.own.signs:
		return errors.New("the key is not meant to sign")
	case weak(s.key):
		return errors.New("the key is too short: want at least 2048 bits")
	case at.After(clock.Add(clockTolerance)):
		return fmt.Errorf("it was made at %s, which is still to come: is a clock wrong?", date(at))
	case s.own.created.After(clock.Add(clockTolerance)):
		return fmt.Errorf("the key was made at %s, which is still to come: is a clock wrong?", date(s.own.created))
	case s.own.created.After(at):
		return fmt.Errorf("it is older (%s) than the key (%s)", date(at), date(s.own.created))
	case over(sig, clock):
		return errors.New("it has expired: sign again")
	}
	if err := s.above.at(at); err != nil {
		return fmt.Errorf("the key %w", err)
	}
	if err := s.own.at(at); err != nil {
		return fmt.Errorf("its subkey %s %w", fingerprint(s.key), err)
	}
	return nil
}

// at returns the reason why a key could not sign at a time, or nil.
func (v validity) at(t time.Time) error {
	for _, r := range v.revocations {
		if r.hard {
			return fmt.Errorf("was revoked at %s", date(r.at))
		}
		if !t.Before(r.at) {
			return fmt.Errorf("was revoked at %s, before it signed this at %s", date(r.at), date(t))
		}
	}
	if !v.expires.IsZero() && !t.Before(v.expires) {
		return fmt.Errorf("expired at %s, before it signed this at %s", date(v.expires), date(t))
	}
	return nil
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func weak(pk *packet.PublicKey) bool {
	switch pk.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly, packet.PubKeyAlgoDSA:
		bits, err := pk.BitLength()
		return err != nil || bits < minBits
	}
	return false
}

// hashName returns the name of an algorithm in a Hash header. It is empty for an algorithm that is not accepted:
// SHA-1 and any hash that is not longer.
func hashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA224:
		return "SHA224"
	case crypto.SHA256:
		return "SHA256"
	case crypto.SHA384:
		return "SHA384"
	case crypto.SHA512:
		return "SHA512"
	}
	return ""
}

// critical returns an error if a signature has a critical notation, since none is known here. Unknown critical
// subpackets are refused when they are parsed.
func critical(sig *packet.Signature) error {
	for _, n := range sig.Notations {
		if n.IsCritical {
			return fmt.Errorf("bad signature: it has the critical notation %q, which is not known", n.Name)
		}
	}
	return nil
}
