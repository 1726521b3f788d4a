// Package sign makes the signatures that Spack's clients check.
//
// Clients run gpg --verify on a document and extract its text by their own rule. Both must succeed, so every
// signature has the form that gpg --clearsign writes, and is verified with the public key before it is returned. A
// faulty key, or a signer that returns anything else, yields an error and no document.
//
// A Signer has access to the private key: in memory, in gpg-agent, on a card, in a service.
package sign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// A Kind is the kind of a signature.
type Kind byte

// The kinds of signatures, numbered as in RFC 4880, section 5.2.1.
const (
	OfContent Kind = 0 // of unchanged content
	OfText    Kind = 1 // of lines that end with CRLF and have no trailing blanks
)

// A Signer signs with one private key. It may be used concurrently.
type Signer interface {
	// Public returns the public key with its subkeys, armored as gpg --export writes it.
	Public() []byte
	// Key returns the fingerprint of the primary key or subkey that signs.
	Key() key.Fingerprint
	// Sign returns an OpenPGP signature of version 4, by the public key or one of its subkeys. Content of kind
	// OfText is already in its final form. Errors contain no secrets.
	Sign(ctx context.Context, kind Kind, content io.Reader) ([]byte, error)
}

// A Key signs documents and files. It verifies every signature before it returns it.
type Key struct {
	signer  Signer
	others  []Signer // used in this order if signer must not sign
	public  *key.Public
	ring    *key.Ring
	expires time.Time
}

// New returns the key of a signer. The others are further subkeys of the same public key, or its primary key, in
// the order in which gpg would pick them: see Fit.
func New(s Signer, others ...Signer) (*Key, error) {
	public, err := key.ReadPublic(s.Public())
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	ring, err := key.ReadRing(s.Public())
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return (&Key{others: others, public: public, ring: ring}).by(s), nil
}

// by returns a copy of the key that signs with s.
func (k *Key) by(s Signer) *Key {
	with := *k
	with.signer = s
	for _, c := range k.public.Candidates(time.Now()) {
		if c.Fingerprint == s.Key() {
			with.expires = c.Expires
		}
	}
	return &with
}

// Signer returns the signer that makes the key's signatures.
func (k *Key) Signer() Signer { return k.signer }

// Public returns the public key, which clients need to check the signatures.
func (k *Key) Public() *key.Public { return k.public }

// Fingerprint returns the fingerprint of the primary key.
func (k *Key) Fingerprint() key.Fingerprint { return k.public.Fingerprint() }

// Observed returns a copy of the key that calls a function after each signature. A remote key may take long for
// many signatures.
func (k *Key) Observed(made func()) *Key {
	watched := *k
	watched.signer, watched.others = observed{k.signer, made}, make([]Signer, len(k.others))
	for i, s := range k.others {
		watched.others[i] = observed{s, made}
	}
	return &watched
}

type observed struct {
	Signer
	made func()
}

// Sign implements Signer.
func (o observed) Sign(ctx context.Context, kind Kind, content io.Reader) ([]byte, error) {
	packet, err := o.Signer.Sign(ctx, kind, content)
	if err == nil {
		o.made()
	}
	return packet, err
}

// Expires returns the time at which the primary key or subkey that signs expires. Zero means never.
func (k *Key) Expires() time.Time { return k.expires }

// alive returns an error if the key has expired since it was read.
func (k *Key) alive() error {
	if k.expires.IsZero() || time.Now().Before(k.expires) {
		return nil
	}
	return fmt.Errorf("%s: %w at %s", k.signer.Key(), ErrExpired, k.expires.UTC().Format(time.RFC3339))
}

// An UnfitError says that a key must not sign any more, according to a newer copy of its public key than the one
// that came with the private key.
type UnfitError struct{ Err error }

func (e *UnfitError) Error() string { return "the key that is to sign: " + e.Err.Error() }

// Unwrap returns the reason, such as ErrRevoked.
func (e *UnfitError) Unwrap() error { return e.Err }

// Fit returns the key as it may sign now, given other copies of its public key. A copy may say that a key was
// revoked or expires earlier. If this concerns a subkey, the next subkey in gpg's order signs. If no key may sign,
// the error is an UnfitError. Fit of a nil key returns nil.
func (k *Key) Fit(known *key.Ring) (*Key, error) {
	if k == nil {
		return nil, nil
	}
	all := k.public.Candidates(time.Now())
	if merged, ok := known.With(k.public).Primary(k.Fingerprint()); ok {
		all = merged.Candidates(time.Now())
	}
	var unfit error
	for n, s := range append([]Signer{k.signer}, k.others...) {
		i := slices.IndexFunc(all, func(c key.Candidate) bool { return c.Fingerprint == s.Key() })
		switch {
		case n == 0 && (i < 0 || all[i].Err == nil):
			return k, nil
		case i < 0:
		case all[i].Err == nil:
			return k.by(s), nil
		case n > 0:
		case i == 0:
			unfit = fmt.Errorf("%s: %w", all[i].Fingerprint, all[i].Err)
		default:
			unfit = fmt.Errorf("%s: %w", all[0].Fingerprint, why(all[0], all[i:i+1]))
		}
	}
	return nil, &UnfitError{unfit}
}

// Verify returns an error unless a document was signed by this key, as clients check it.
func (k *Key) Verify(document []byte) error {
	_, err := k.ring.Verify(document)
	return err
}

// An Error says that a signer made no valid signature.
type Error struct{ Err error }

func (e *Error) Error() string { return "sign: " + e.Err.Error() }

// Unwrap returns the signer's error.
func (e *Error) Unwrap() error { return e.Err }

// Prove makes and verifies a signature that is not stored. A remote key may be out of reach or locked, or not match
// its public key. Prove is called before anything else is stored.
func (k *Key) Prove(ctx context.Context) error {
	_, err := k.Document(ctx, []byte(`{"proof":"this key signs"}`))
	return err
}

// asSigned returns the text of a document in the form that is signed: without white space at the ends of lines,
// which gpg does not sign. It fails if gpg and Spack would read the text differently.
func asSigned(text []byte) ([]byte, error) {
	lines, err := linesOf(text)
	return []byte(strings.Join(lines, "\n")), err
}

// TextOf returns the text of a document in the form that is signed. The document may be signed already.
func TextOf(document []byte) ([]byte, error) {
	text, err := key.Text(document)
	if err != nil {
		return nil, err
	}
	return asSigned(text)
}

// Document signs the JSON text of a manifest or a spec.
func (k *Key) Document(ctx context.Context, text []byte) ([]byte, error) {
	lines, err := linesOf(text)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := k.alive(); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	packet, err := k.signer.Sign(ctx, OfText, strings.NewReader(strings.Join(lines, "\r\n")))
	if err != nil {
		return nil, &Error{err}
	}
	armored, err := armorSignature(packet)
	if err != nil {
		return nil, err
	}
	signed := strings.Join(lines, "\n")
	hash, err := key.HashOf(armored)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	document := []byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: " + hash + "\n\n" + signed + "\n" + string(armored))
	if err := k.Verify(document); err != nil {
		return nil, &Error{fmt.Errorf("the signature that was made does not verify: %w", err)}
	}
	if read, err := key.Text(document); err != nil || string(read) != signed {
		return nil, fmt.Errorf("sign: Spack would read another text than the one that was signed: %w", err)
	}
	return document, nil
}

// Detached signs unchanged content and returns the content of its .asc file. It reads the content twice: to sign
// it, and to verify the signature.
func (k *Key) Detached(ctx context.Context, open func() (io.ReadCloser, error)) ([]byte, error) {
	if err := k.alive(); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	var packet []byte
	err := reading(open, func(r io.Reader) (err error) {
		if packet, err = k.signer.Sign(ctx, OfContent, r); err != nil {
			err = &Error{err}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	armored, err := armorSignature(packet)
	if err != nil {
		return nil, err
	}
	err = reading(open, func(r io.Reader) error {
		_, err := k.ring.VerifyDetached(r, armored)
		return err
	})
	if err != nil {
		return nil, &Error{fmt.Errorf("the signature that was made does not verify: %w", err)}
	}
	return armored, nil
}

func reading(open func() (io.ReadCloser, error), do func(io.Reader) error) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	return do(r)
}

// armorSignature returns an armored signature with a checksum. Without the checksum, gpg fails on every signature
// whose base64 ends without padding.
func armorSignature(packet []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, "PGP SIGNATURE", nil)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if _, err := w.Write(packet); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return append(b.Bytes(), '\n'), nil
}

// linesOf returns the lines of a JSON text in the form that is signed. It drops white space at the ends of lines,
// which gpg does not sign. It fails if gpg and Spack would read the text differently.
func linesOf(text []byte) ([]string, error) {
	switch {
	case key.Signed(text):
		return nil, errors.New("it is signed already")
	case !utf8.Valid(text):
		return nil, errors.New("it is not UTF-8")
	case !jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true)):
		return nil, errors.New("it is not JSON")
	}
	// Within JSON, a line end is white space, of whatever kind it is.
	plain := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(text))
	lines := strings.Split(strings.Trim(plain, " \t\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \t")
		if err := key.CheckLine(lines[i]); err != nil {
			return nil, err
		}
	}
	return lines, nil
}
