package sign

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// An Algorithm is the algorithm of a Digester's signatures.
type Algorithm string

// The algorithms of remote keys. EdDSA is not among them: it signs the whole message, which a service or a token
// does not accept.
const (
	RSA   Algorithm = "RSA"
	ECDSA Algorithm = "ECDSA"
)

// A Digest is the input that a Digester signs.
type Digest struct {
	Algorithm Algorithm
	Hash      crypto.Hash
	Sum       []byte
}

// A Digester signs digests with a remote private key: in a service, or in a token that is reached by PKCS #11
// (C_Sign with CKM_RSA_PKCS or CKM_ECDSA). It may be used concurrently.
type Digester interface {
	// SignDigest returns a signature in the form of crypto.Signer: the PKCS #1 v1.5 signature of RSA, or r and s of
	// ECDSA in ASN.1.
	SignDigest(ctx context.Context, d Digest) ([]byte, error)
}

// ErrOtherKey: the signature is not by the public key that was given.
var ErrOtherKey = errors.New("the signature was made with another key than the public key that is given")

// remote is a private key outside of this process. Only its public key is here.
type remote struct {
	armored  []byte
	primary  key.Fingerprint
	public   *packet.PublicKey
	scheme   scheme
	digester Digester
}

// NewRemote returns the key whose primary private key a Digester uses.
func NewRemote(armored []byte, d Digester, at time.Time) (*Key, error) {
	public, err := key.ReadPublic(armored)
	if err != nil {
		return nil, err
	}
	if primary := public.Candidates(at)[0]; primary.Err != nil {
		return nil, fmt.Errorf("%s: %w", primary.Fingerprint, primary.Err)
	}
	pk, err := primaryOf(armored)
	if err != nil {
		return nil, err
	}
	s, ok := schemeOf(pk)
	if !ok {
		return nil, fmt.Errorf("%s: its algorithm (%d) is none that a key elsewhere can have: want RSA, or ECDSA of a NIST curve", public.Fingerprint(), pk.PubKeyAlgo)
	}
	return New(&remote{armored, public.Fingerprint(), pk, s, d})
}

// primaryOf returns the packet of the primary key.
func primaryOf(armored []byte) (*packet.PublicKey, error) {
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	p, err := packet.Read(block.Body)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	pk, ok := p.(*packet.PublicKey)
	if !ok {
		return nil, errors.New("public key: it does not begin with a primary key")
	}
	return pk, nil
}

// A scheme is the algorithm of a key and its hash, which is as strong as the key.
type scheme struct {
	algorithm Algorithm
	hash      crypto.Hash
}

// schemeOf returns the scheme of a public key. Services tie each curve to its hash.
func schemeOf(pk *packet.PublicKey) (scheme, bool) {
	switch pk.PubKeyAlgo {
	case packet.PubKeyAlgoRSA:
		return scheme{RSA, crypto.SHA512}, true
	case packet.PubKeyAlgoECDSA:
		curve, err := pk.Curve()
		h, ok := hashOfCurve[curve]
		return scheme{ECDSA, h}, err == nil && ok
	}
	return scheme{}, false
}

var hashOfCurve = map[packet.Curve]crypto.Hash{
	packet.CurveNistP256: crypto.SHA256,
	packet.CurveNistP384: crypto.SHA384,
	packet.CurveNistP521: crypto.SHA512,
}

// Public implements Signer.
func (r *remote) Public() []byte { return r.armored }

// Key implements Signer.
func (r *remote) Key() key.Fingerprint { return r.primary }

// Sign implements Signer.
func (r *remote) Sign(ctx context.Context, kind Kind, content io.Reader) ([]byte, error) {
	at := time.Now()
	sig := unsigned(r.public, kind, r.scheme.hash, at)
	h := r.scheme.hash.New()
	if _, err := io.Copy(h, content); err != nil {
		return nil, err
	}
	again, err := h.(hash.Cloner).Clone()
	if err != nil {
		return nil, err
	}
	err = lend(ctx, r.public, r.scheme, r.digester, func(private *packet.PrivateKey) error { return sig.Sign(h, private, config(at)) })
	if err != nil {
		return nil, err
	}
	if err := r.public.VerifySignature(again, sig); err != nil {
		return nil, fmt.Errorf("%w (%X)", ErrOtherKey, r.public.Fingerprint)
	}
	return serialized(sig)
}

// lend calls do with a stand-in for a remote private key. go-crypto drops errors of RSA keys, so lend keeps the
// Digester's first error and returns it instead of the error of do.
func lend(ctx context.Context, public *packet.PublicKey, s scheme, d Digester, do func(*packet.PrivateKey) error) error {
	var failed error
	private := &packet.PrivateKey{PublicKey: *public, PrivateKey: signerFunc(func(sum []byte, h crypto.Hash) ([]byte, error) {
		signature, err := d.SignDigest(ctx, Digest{s.algorithm, h, sum})
		if err == nil && len(signature) == 0 {
			err = errors.New("the signature that was made is empty")
		}
		if err != nil && failed == nil {
			failed = err
		}
		return signature, err
	})}
	err := do(private)
	if failed != nil {
		return failed
	}
	return err
}

// A signerFunc is a function as a crypto.Signer.
type signerFunc func(sum []byte, h crypto.Hash) ([]byte, error)

// Public implements crypto.Signer. It is not called, since go-crypto has the public key already.
func (f signerFunc) Public() crypto.PublicKey { return nil }

// Sign implements crypto.Signer.
func (f signerFunc) Sign(_ io.Reader, sum []byte, opts crypto.SignerOpts) ([]byte, error) {
	return f(sum, opts.HashFunc())
}
