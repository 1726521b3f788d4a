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

// maxPackets is the maximum number of packets in a private key.
const maxPackets = 10_000

// A secret is a private key as it was read, and its public key.
type secret struct {
	public []byte // armored
	parts  map[key.Fingerprint]*part
}

// A part is the packet of a private primary key or subkey.
type part struct {
	packet *packet.OpaquePacket
	s2k    []byte // the protection of the private numbers, then the numbers
}

// A place says where the private numbers of a part are.
type place int

const (
	inFile    place = iota
	elsewhere       // GNU dummy: the export left it out
	onCard
)

// split parses a private key. It decrypts nothing.
func split(packets []byte) (*secret, error) {
	s := &secret{parts: make(map[key.Fingerprint]*part)}
	var public []*packet.OpaquePacket
	primaries := make(map[string]bool)
	skip := false // set for signatures on a key of an unknown algorithm
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

// s2kOf returns the S2K specifier of a protected key, which says how the passphrase becomes a key (RFC 9580,
// section 3.7.1). It is nil if the key is not protected.
func (p *part) s2kOf() []byte {
	switch {
	case len(p.s2k) > 3 && p.s2k[0] == 253: // with an AEAD algorithm behind the cipher
		return p.s2k[3:]
	case len(p.s2k) > 2 && (p.s2k[0] == 254 || p.s2k[0] == 255):
		return p.s2k[2:]
	}
	return nil
}

// place returns the place of the private numbers. GnuPG marks numbers that are not in the file with 101, a hash,
// GNU and a mode.
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

// argon2 is the number of the S2K whose use of memory is set by the file.
const argon2 = 4

// maxArgon2 is the maximum memory for decrypting a key, as an exponent: 2^20 KiB are 1 GiB.
const maxArgon2 = 20

// decrypt returns the private key in the part.
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

// wipe overwrites the packets that were read.
func (s *secret) wipe() {
	for _, p := range s.parts {
		clear(p.packet.Contents)
	}
}
