package sign

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// memory is a private key in the memory of this process.
type memory struct {
	public      []byte
	fingerprint key.Fingerprint
	private     *packet.PrivateKey
}

// ReadKey reads a private key as gpg --export-secret-keys writes it, armored or binary, or base64 of either. Like
// gpg, it drops one final line end of the passphrase. The key that signs is the one that gpg picks: the newest
// subkey that may sign, otherwise the primary key.
func ReadKey(content, passphrase []byte, at time.Time) (*Key, error) {
	all, err := readMemory(content, passphrase, at)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return New(all[0], all[1:]...)
}

// readMemory returns the signers of a private key, in gpg's order.
func readMemory(content, passphrase []byte, at time.Time) ([]Signer, error) {
	packets, err := decode(content)
	if err != nil {
		return nil, err
	}
	defer clear(packets)
	s, err := split(packets)
	if err != nil {
		return nil, err
	}
	defer s.wipe()
	public, err := key.ReadPublic(s.public)
	if err != nil {
		return nil, err
	}
	chosen, err := Choose(public.Candidates(at), s.usable)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", chosen[0], err)
	}
	var all []Signer
	for i, f := range chosen {
		private, err := s.parts[f].decrypt(bytes.TrimSuffix(passphrase, []byte("\n")))
		switch {
		case err == nil:
			all = append(all, &memory{s.public, f, private})
		case i == 0:
			return nil, fmt.Errorf("%s: %w", f, err)
		}
	}
	return all, nil
}

func (s *secret) usable(f key.Fingerprint) error {
	p := s.parts[f]
	switch {
	case p == nil || p.place() == elsewhere:
		return ErrNoSecret
	case p.place() == onCard:
		return ErrCard
	}
	return nil
}

// Choose returns the key that signs by gpg's rule: the newest subkey that may sign, otherwise the primary key. It
// is followed by the keys that gpg would pick next. usable returns the reason why the private part of a key cannot
// be used. A key without a private part (ErrNoSecret) is skipped. An error is about the first key that is returned.
func Choose(candidates []key.Candidate, usable func(key.Fingerprint) error) ([]key.Fingerprint, error) {
	primary := candidates[0]
	// The newest one first, and the primary key last.
	order := slices.Clone(candidates[1:])
	slices.SortStableFunc(order, func(a, b key.Candidate) int { return b.Created.Compare(a.Created) })
	order = append(order, primary)
	var missing bool
	var chosen []key.Fingerprint
	for _, c := range order {
		if c.Err != nil {
			continue
		}
		switch err := usable(c.Fingerprint); {
		case err == nil:
			chosen = append(chosen, c.Fingerprint)
		case errors.Is(err, ErrNoSecret):
			missing = true
		case len(chosen) == 0:
			return []key.Fingerprint{c.Fingerprint}, err
		}
	}
	switch {
	case len(chosen) > 0:
		return chosen, nil
	case missing:
		return []key.Fingerprint{primary.Fingerprint}, ErrNoSecret
	}
	return []key.Fingerprint{primary.Fingerprint}, why(primary, order[:len(order)-1])
}

// why returns the reason why no key of a certificate can sign. It is about the primary key, or about the newest
// subkey that is meant to sign.
func why(primary key.Candidate, subkeys []key.Candidate) error {
	if primary.Err != nil && !errors.Is(primary.Err, ErrCannotSign) {
		return primary.Err
	}
	for _, c := range subkeys {
		if !errors.Is(c.Err, ErrCannotSign) {
			return fmt.Errorf("its subkey %s: %w", c.Fingerprint, c.Err)
		}
	}
	return primary.Err
}

// Expiry returns the time until which a public key may sign: the expiry of the primary key or subkey that gpg picks
// at a time. Zero means for ever. If no key may sign any more, it is the time at which the last one expired.
func Expiry(p *key.Public, at time.Time) time.Time {
	candidates := p.Candidates(at)
	chosen, err := Choose(candidates, func(key.Fingerprint) error { return nil })
	var last time.Time
	for _, c := range candidates {
		if err == nil && c.Fingerprint == chosen[0] {
			return c.Expires
		}
		if errors.Is(c.Err, key.ErrExpired) && c.Expires.After(last) {
			last = c.Expires
		}
	}
	if last.IsZero() {
		return p.Expires()
	}
	return last
}

// Public implements Signer.
func (m *memory) Public() []byte { return m.public }

// Key implements Signer.
func (m *memory) Key() key.Fingerprint { return m.fingerprint }

// Sign implements Signer.
func (m *memory) Sign(_ context.Context, kind Kind, content io.Reader) ([]byte, error) {
	at := time.Now()
	sig := unsigned(&m.private.PublicKey, kind, crypto.SHA512, at)
	h := crypto.SHA512.New()
	if _, err := io.Copy(h, content); err != nil {
		return nil, err
	}
	if err := sig.Sign(h, m.private, config(at)); err != nil {
		return nil, err
	}
	return serialized(sig)
}

// config returns the configuration for signatures in gpg's form, without random notations.
func config(at time.Time) *packet.Config {
	plain := false
	return &packet.Config{
		Time:                                  func() time.Time { return at },
		DefaultHash:                           crypto.SHA512,
		NonDeterministicSignaturesViaNotation: &plain,
	}
}

// unsigned returns a signature that has yet to be computed.
func unsigned(public *packet.PublicKey, kind Kind, hash crypto.Hash, at time.Time) *packet.Signature {
	return &packet.Signature{
		Version:      4,
		SigType:      packet.SignatureType(kind),
		PubKeyAlgo:   public.PubKeyAlgo,
		Hash:         hash,
		CreationTime: at,
		IssuerKeyId:  &public.KeyId,
	}
}

func serialized(sig *packet.Signature) ([]byte, error) {
	var b bytes.Buffer
	if err := sig.Serialize(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
