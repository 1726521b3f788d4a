package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// A Certificate describes the OpenPGP public key of a remote key. The fingerprint depends only on Key and Created,
// so it stays the same when a certificate is issued again with a later expiry.
type Certificate struct {
	Key     crypto.PublicKey // RSA or ECDSA
	Created time.Time
	Name    string
	Email   string    // may be empty
	Expires time.Time // zero means never
}

// minRSA is the minimum size of an RSA key in bits, as for every key that signs.
const minRSA = 2048

// Issue returns the public key, armored as gpg --export writes it. The Digester signs it once.
func (c Certificate) Issue(ctx context.Context, d Digester, at time.Time) ([]byte, error) {
	if err := c.Validate(at); err != nil {
		return nil, err
	}
	pk, err := c.packet()
	if err != nil {
		return nil, err
	}
	s, ok := schemeOf(pk)
	if !ok {
		return nil, errors.New("it is of an algorithm that gpg cannot verify")
	}
	made := config(at)
	made.DefaultHash = s.hash
	if !c.Expires.IsZero() {
		made.KeyLifetimeSecs = uint32(c.Expires.Sub(pk.CreationTime) / time.Second)
	}
	e := &openpgp.Entity{PrimaryKey: pk, Identities: make(map[string]*openpgp.Identity)}
	err = lend(ctx, pk, s, d, func(private *packet.PrivateKey) error {
		e.PrivateKey = private
		return e.AddUserId(c.Name, "", c.Email, made)
	})
	if err != nil {
		return nil, err
	}
	armored, err := armorKey(e)
	if err != nil {
		return nil, err
	}
	if _, err := key.ReadPublic(armored); err != nil { // which verifies the signature
		return nil, fmt.Errorf("the public key that was made is not good: %w", err)
	}
	return armored, nil
}

// Validate returns an error for values that a public key cannot hold.
func (c Certificate) Validate(at time.Time) error {
	unreadable := func(s string) bool {
		return !utf8.ValidString(s) || strings.ContainsAny(s, "()<>") || strings.ContainsFunc(s, unicode.IsControl)
	}
	lifetime := c.Expires.Sub(c.Created)
	switch {
	case strings.TrimSpace(c.Name) == "" || unreadable(c.Name):
		return fmt.Errorf("name %q: want a name without brackets and control characters", c.Name)
	case c.Email != "" && (unreadable(c.Email) || strings.ContainsFunc(c.Email, unicode.IsSpace) || !strings.Contains(strings.Trim(c.Email, "@"), "@")):
		return fmt.Errorf("email %q: want an address such as cache@example.org", c.Email)
	case c.Created.After(at):
		return fmt.Errorf("the key was made at %s, which is still to come: is a clock wrong?", c.Created.UTC().Format(time.DateTime))
	case c.Expires.IsZero():
		return nil
	case !c.Expires.After(at):
		return fmt.Errorf("it would have expired at %s", c.Expires.UTC().Format(time.DateOnly))
	case lifetime/time.Second > math.MaxUint32:
		return errors.New("it would expire more than 136 years after the key was made, which OpenPGP cannot express: let it never expire")
	}
	return nil
}

// packet returns the primary key (RFC 9580, section 5.5.2.2). It is written here and parsed, since go-crypto cannot
// convert keys of the standard library on NIST curves.
func (c Certificate) packet() (*packet.PublicKey, error) {
	body := binary.BigEndian.AppendUint32([]byte{4}, uint32(c.Created.Unix()))
	switch k := c.Key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return nil, fmt.Errorf("it has %d bits: want RSA of at least %d, 4096 for example", k.N.BitLen(), minRSA)
		}
		body = append(body, byte(packet.PubKeyAlgoRSA))
		body = appendMPI(body, k.N)
		body = appendMPI(body, big.NewInt(int64(k.E)))
	case *ecdsa.PublicKey:
		oid, ok := oids[k.Curve]
		if !ok {
			return nil, fmt.Errorf("it is on the curve %s: want RSA of 4096 bits, or NIST P-256, P-384 or P-521", k.Params().Name)
		}
		point, err := k.Bytes()
		if err != nil {
			return nil, err
		}
		body = append(body, byte(packet.PubKeyAlgoECDSA), byte(len(oid)))
		body = append(body, oid...)
		body = appendMPI(body, new(big.Int).SetBytes(point))
	default:
		return nil, fmt.Errorf("it is of the type %T: want RSA of 4096 bits", c.Key)
	}
	p, err := (&packet.OpaquePacket{Tag: tagPublicKey, Contents: body}).Parse()
	if err != nil {
		return nil, err
	}
	return p.(*packet.PublicKey), nil
}

// oids are the encoded object identifiers of curves (RFC 9580, section 9.2).
var oids = map[elliptic.Curve][]byte{
	elliptic.P256(): {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07},
	elliptic.P384(): {0x2b, 0x81, 0x04, 0x00, 0x22},
	elliptic.P521(): {0x2b, 0x81, 0x04, 0x00, 0x23},
}

// appendMPI appends a number with its length in bits.
func appendMPI(b []byte, n *big.Int) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(n.BitLen())), n.Bytes()...)
}

func armorKey(e *openpgp.Entity) ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		return nil, err
	}
	if err := e.Serialize(w); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return append(b.Bytes(), '\n'), nil
}
