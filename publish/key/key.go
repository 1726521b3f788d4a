// Package key checks OpenPGP signatures on the objects of a mirror. Package sign makes them.
//
// Spack signs a document by replacing it, under the same name, with a cleartext signed message (gpg --clearsign).
// Spack's reader extracts the text by its own rule, and gpg checks the signature. This package accepts a document
// only if the extracted text is the signed text, and if gpg, given the same keys, accepts the signature.
// docs/signatures.md lists where this package is stricter than gpg.
package key

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// A Fingerprint names an OpenPGP key: 40 upper-case hexadecimal digits for the
// version 4 keys that gpg makes. Spack names key files by it.
type Fingerprint string

// ParseFingerprint returns an error for a text that cannot name a key file.
func ParseFingerprint(s string) (Fingerprint, error) {
	if len(s) != 40 && len(s) != 64 || strings.Trim(s, "0123456789ABCDEF") != "" {
		return "", fmt.Errorf("fingerprint %q: want 40 or 64 upper-case hexadecimal digits", s)
	}
	return Fingerprint(s), nil
}

func fingerprint(pk *packet.PublicKey) Fingerprint {
	return Fingerprint(strings.ToUpper(hex.EncodeToString(pk.Fingerprint)))
}

// A Public is one public key: a primary key with its subkeys.
type Public struct{ certificate *certificate }

// ReadPublic reads a key file of a mirror. Clients import and trust everything in the file, so it must hold one
// armored block with exactly one primary key, and nothing else.
func ReadPublic(armored []byte) (*Public, error) {
	body, err := unarmor(armored, publicBlock)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	var k keyring
	if err := k.read(body); err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if len(k.loose) > 0 {
		return nil, fmt.Errorf("public key: %w", errNoPrimary)
	}
	if k.primaries != 1 {
		return nil, fmt.Errorf("it holds %d primary keys, and clients would trust each of them: want exactly one (gpg --armor --export FINGERPRINT)", k.primaries)
	}
	c := k.certificates[0]
	if err := c.readable(); err != nil {
		return nil, err
	}
	if k.damaged != nil {
		return nil, fmt.Errorf("public key: %w", k.damaged)
	}
	if _, err := c.primaryValidity(); err != nil {
		return nil, fmt.Errorf("gpg does not import the key %s: %w", fingerprint(c.primary), err)
	}
	return &Public{c}, nil
}

// Fingerprint returns the fingerprint of the primary key.
func (p *Public) Fingerprint() Fingerprint { return fingerprint(p.certificate.primary) }

// Fingerprints returns the fingerprints of the primary key and its subkeys, any of which may have made a signature.
func (p *Public) Fingerprints() []Fingerprint {
	all := []Fingerprint{p.Fingerprint()}
	for _, s := range p.certificate.subkeys {
		all = append(all, fingerprint(s.key))
	}
	return all
}

// Made reports whether a signature names the primary key or one of its subkeys.
func (p *Public) Made(i Issuer) bool { return p.certificate.find(i) != nil }

// An Issuer is the key that a signature names as its signer. It may be a subkey. It is not proven until the
// signature is verified.
type Issuer struct {
	ID          uint64
	fingerprint string // 20 bytes; empty if the signature does not have it
}

func (i Issuer) String() string {
	if i.fingerprint != "" {
		return strings.ToUpper(hex.EncodeToString([]byte(i.fingerprint)))
	}
	return fmt.Sprintf("%016X", i.ID)
}

func issuerOf(sig *packet.Signature) (i Issuer, ok bool) {
	i.fingerprint = string(sig.IssuerFingerprint)
	if sig.IssuerKeyId != nil {
		i.ID = *sig.IssuerKeyId
	}
	return i, sig.IssuerKeyId != nil
}

func (i Issuer) is(pk *packet.PublicKey) bool {
	return i.ID == pk.KeyId && (i.fingerprint == "" || i.fingerprint == string(pk.Fingerprint))
}
