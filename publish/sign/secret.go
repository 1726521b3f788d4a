package sign

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// Tags of packets (RFC 4880, section 4.3).
const (
	tagSignature  = 2
	tagPrivateKey = 5
	tagPublicKey  = 6
	tagPrivateSub = 7
	tagSubkey     = 14
)

// maxPackets is how many packets a private key may have.
const maxPackets = 10_000

// A secret is a private key as it was read, and the public key that belongs to it.
type secret struct {
	public []byte // armored
	parts  map[key.Fingerprint]*part
}

// A part is the packet of a private primary key or subkey.
type part struct {
	packet *packet.OpaquePacket
	s2k    []byte // how the private numbers are protected, and they
}

// Where the private numbers of a part are.
type place int

const (
	inFile    place = iota
	elsewhere       // GNU dummy: it was left out when the key was exported
	onCard
)

// split takes a private key apart. Nothing is decrypted.
func split(packets []byte) (*secret, error) {
	s := &secret{parts: make(map[key.Fingerprint]*part)}
	var public []*packet.OpaquePacket
	primaries := make(map[string]bool)
	skip := false // signatures on a key of an algorithm that is not known
	r := packet.NewOpaqueReader(bytes.NewReader(packets))
	for n := 0; ; n++ {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("it is damaged: %w", err)
		}
		if n == maxPackets {
			return nil, fmt.Errorf("it has more than %d OpenPGP packets", maxPackets)
		}
		switch p.Tag {
		case tagPublicKey:
			if n == 0 {
				return nil, ErrPublic
			}
			return nil, errors.New("it holds public keys as well: export the private key alone")
		case tagPrivateKey:
			primaries[string(p.Contents)] = true
			fallthrough
		case tagPrivateSub:
			half, err := s.add(p)
			if skip = err != nil; skip && p.Tag == tagPrivateKey {
				return nil, err
			}
			if !skip {
				public = append(public, half)
			}
		default:
			if n == 0 {
				return nil, errors.New("it does not begin with a private key: want what gpg --export-secret-keys FINGERPRINT writes")
			}
			if !(skip && p.Tag == tagSignature) {
				public = append(public, p)
			}
		}
	}
	switch len(primaries) {
	case 0:
		return nil, errors.New("it holds no key")
	case 1:
	default:
		return nil, fmt.Errorf("it holds %d private keys: want the one that signs (gpg --armor --export-secret-keys FINGERPRINT)", len(primaries))
	}
	var err error
	s.public, err = armorPublic(public)
	return s, err
}

// add keeps a private key and returns its public half.
func (s *secret) add(p *packet.OpaquePacket) (*packet.OpaquePacket, error) {
	tag := uint8(tagPublicKey)
	if p.Tag == tagPrivateSub {
		tag = tagSubkey
	}
	parsed, err := (&packet.OpaquePacket{Tag: tag, Contents: p.Contents}).Parse()
	if err != nil {
		return nil, fmt.Errorf("its key cannot be read: %w", err)
	}
	pk, ok := parsed.(*packet.PublicKey)
	if !ok {
		return nil, errors.New("its key cannot be read")
	}
	var b bytes.Buffer
	if err := pk.Serialize(&b); err != nil {
		return nil, fmt.Errorf("its key cannot be read: %w", err)
	}
	half, err := packet.NewOpaqueReader(&b).Next()
	if err != nil || !bytes.HasPrefix(p.Contents, half.Contents) {
		return nil, errors.New("its key cannot be read: numbers are not written as OpenPGP wants them")
	}
	fingerprint := key.Fingerprint(strings.ToUpper(fmt.Sprintf("%x", pk.Fingerprint)))
	s.parts[fingerprint] = &part{p, p.Contents[len(half.Contents):]}
	return half, nil
}

func armorPublic(packets []*packet.OpaquePacket) ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, "PGP PUBLIC KEY BLOCK", nil)
	if err != nil {
		return nil, err
	}
	for _, p := range packets {
		if err := p.Serialize(w); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return append(b.Bytes(), '\n'), nil
}

// s2kOf returns the part of a protected key that says how its passphrase becomes a key (RFC 9580, section 3.7.1); nil: it
// is not protected.
func (p *part) s2kOf() []byte {
	switch {
	case len(p.s2k) > 3 && p.s2k[0] == 253: // with an AEAD algorithm behind the cipher
		return p.s2k[3:]
	case len(p.s2k) > 2 && (p.s2k[0] == 254 || p.s2k[0] == 255):
		return p.s2k[2:]
	}
	return nil
}

// place tells where the private numbers are. GnuPG marks those that are not in a file: 101, a hash, GNU and a mode.
func (p *part) place() place {
	s := p.s2kOf()
	if len(s) < 6 || s[0] != 101 || string(s[2:5]) != "GNU" {
		return inFile
	}
	if s[5] == 2 {
		return onCard
	}
	return elsewhere
}

// argon2 is the number of the S2K that takes as much memory as the file says.
const argon2 = 4

// maxArgon2 is the most memory that decrypting a key may take, as its exponent: 2^20 KiB are 1 GiB.
const maxArgon2 = 20

// decrypt returns the private key that the part is.
func (p *part) decrypt(passphrase []byte) (*packet.PrivateKey, error) {
	if s := p.s2kOf(); len(s) > 19 && s[0] == argon2 && s[19] > maxArgon2 {
		return nil, errors.New("decrypting it takes more than 1 GiB of memory: protect it with less")
	}
	parsed, err := p.packet.Parse()
	if err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	private, ok := parsed.(*packet.PrivateKey)
	if !ok {
		return nil, errors.New("it cannot be read")
	}
	if !private.Encrypted {
		return private, nil
	}
	if len(passphrase) == 0 {
		return nil, ErrNoPassphrase
	}
	if err := private.Decrypt(passphrase); err != nil {
		return nil, ErrPassphrase
	}
	return private, nil
}

// wipe overwrites what was read.
func (s *secret) wipe() {
	for _, p := range s.parts {
		clear(p.packet.Contents)
	}
}
