package key

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// ErrUnsigned: the document carries no signature.
var ErrUnsigned = errors.New("not signed")

const (
	beginMessage   = "-----BEGIN PGP SIGNED MESSAGE-----"
	beginSignature = "-----BEGIN PGP SIGNATURE-----"
)

// maxLine is how many bytes of a line gpg reads; it drops or garbles what is behind them.
const maxLine = 19_990

// Signed reports whether document is, or pretends to be, a signed message.
func Signed(document []byte) bool { return bytes.HasPrefix(document, []byte(beginMessage)) }

// Text returns what Spack's reader takes a document for: the document itself, or the text
// inside its signature, which is not checked here.
func Text(document []byte) ([]byte, error) {
	if !Signed(document) {
		return document, nil
	}
	m, err := parseMessage(document)
	if err != nil {
		return nil, err
	}
	return m.text, nil
}

// A message is a signed document, taken apart.
type message struct {
	hash      string   // that its header names
	text      []byte   // as Spack's reader sees it
	lines     []string // of the text
	signature *packet.Signature
}

var hashLine = regexp.MustCompile(`^Hash:[ \t]+([A-Z0-9-]+)[ \t]*$`)

// parseMessage reads the form that gpg --clearsign writes, and refuses any other.
//
// Spack 0.23 to 1.2 take the text out by
//
//	^-----BEGIN PGP SIGNED MESSAGE-----\s+Hash:\s+[^\s]+\s+(.+)-----BEGIN PGP SIGNATURE-----
//
// with MULTILINE and DOTALL, without undoing dash escapes, where \s is any white space of Unicode
// and (.+) reaches to the last marker. gpg reads to the first line that is a marker. So
// there must be one marker, one header, an empty line, and no line that begins with a dash:
// then both see the same text.
func parseMessage(document []byte) (*message, error) {
	if !utf8.Valid(document) {
		return nil, errors.New("signed message: it is not UTF-8")
	}
	for _, marker := range []string{beginMessage, beginSignature} {
		n := bytes.Count(document, []byte(marker))
		if n == 0 {
			return nil, fmt.Errorf("signed message: it has no %q: Spack cannot read it", marker)
		}
		if n > 1 {
			return nil, fmt.Errorf("signed message: it has %q %d times, want one: Spack reads up to the last one and gpg to the first", marker, n)
		}
	}
	all, err := lines(document)
	if err != nil {
		return nil, fmt.Errorf("signed message: %w", err)
	}
	if len(all) < 4 || all[0] != beginMessage {
		return nil, errors.New("signed message: there is something behind its first marker")
	}
	header := hashLine.FindStringSubmatch(all[1])
	if header == nil || all[2] != "" {
		return nil, errors.New("signed message: want one Hash header with one algorithm and then an empty line: Spack or gpg cannot read it")
	}
	m := &message{hash: header[1]}
	rest := all[3:]
	for len(rest) > 0 && rest[0] != beginSignature {
		if err := CheckLine(rest[0]); err != nil {
			return nil, fmt.Errorf("signed message: %w", err)
		}
		m.lines, rest = append(m.lines, rest[0]), rest[1:]
	}
	m.text = bytes.Trim([]byte(strings.Join(m.lines, "\n")), " \t\n")
	if m.signature, err = onlySignature([]byte(strings.Join(rest, "\n"))); err != nil {
		return nil, fmt.Errorf("signed message: %w", err)
	}
	return m, nil
}

// CheckLine refuses a line that gpg and Spack would read differently, or not at all, in a signed document.
func CheckLine(line string) error {
	if strings.HasPrefix(line, "-") {
		return fmt.Errorf("the line %.40q begins with a dash: gpg undoes an escape there and Spack does not", line)
	}
	for _, marker := range []string{beginMessage, beginSignature} {
		if strings.Contains(line, marker) {
			return fmt.Errorf("a line contains %q, where Spack takes the signed text to begin or to end", marker)
		}
	}
	if len(line) > maxLine {
		return fmt.Errorf("a line has %d bytes; gpg reads no more than %d", len(line), maxLine)
	}
	return nil
}

// canonical is what is signed: lines without blanks at their ends, joined by CRLF.
func (m *message) canonical() []byte {
	trimmed := make([]string, len(m.lines))
	for i, line := range m.lines {
		trimmed[i] = strings.TrimRight(line, " \t")
	}
	return []byte(strings.Join(trimmed, "\r\n"))
}

// onlySignature reads an armored block that holds one signature.
func onlySignature(armored []byte) (*packet.Signature, error) {
	body, err := unarmor(armored, signatureBlock)
	if err != nil {
		return nil, fmt.Errorf("bad signature: %w", err)
	}
	packets, err := packetsOf(body)
	if err != nil {
		return nil, fmt.Errorf("bad signature: %w", err)
	}
	if len(packets) != 1 {
		return nil, fmt.Errorf("it carries %d signatures, want one: with more, gpg wants every key", len(packets))
	}
	parsed, err := packets[0].Parse()
	if err != nil {
		return nil, fmt.Errorf("bad signature: %w", err)
	}
	sig, ok := parsed.(*packet.Signature)
	if !ok || sig.Version != 4 {
		return nil, errors.New("bad signature: want an OpenPGP signature of version 4, as gpg makes it")
	}
	return sig, nil
}

// IssuerOf returns the key that a signed document says it was signed with. The signature
// is not checked.
func IssuerOf(document []byte) (Issuer, error) {
	if !Signed(document) {
		return Issuer{}, ErrUnsigned
	}
	m, err := parseMessage(document)
	if err != nil {
		return Issuer{}, err
	}
	i, ok := issuerOf(m.signature)
	if !ok {
		return Issuer{}, errNoIssuer
	}
	return i, nil
}

// IssuerOfDetached returns the key that a detached signature says it was made with. It is not checked.
func IssuerOfDetached(armored []byte) (Issuer, error) {
	sig, err := onlySignature(armored)
	if err != nil {
		return Issuer{}, err
	}
	i, ok := issuerOf(sig)
	if !ok {
		return Issuer{}, errNoIssuer
	}
	return i, nil
}

// IssuersOfDetached returns all keys that what stands beside a file says it was made with, as gpg would read it: armored or not, with text around
// it, and with several signatures. Other things, such as public keys, have none. The error says what is no OpenPGP although it begins like a signature.
func IssuersOfDetached(content []byte) ([]Issuer, error) {
	blocks := [][]byte{content}
	if armored := bytes.Split(content, []byte("-----BEGIN "+signatureBlock)); len(armored) > 1 {
		blocks = nil
		for _, rest := range armored[1:] {
			block, err := armor.Decode(io.MultiReader(strings.NewReader("-----BEGIN "+signatureBlock), bytes.NewReader(rest)))
			if err != nil {
				return nil, fmt.Errorf("bad signature: armor: %w", err)
			}
			body, err := io.ReadAll(block.Body)
			if err != nil {
				return nil, fmt.Errorf("bad signature: armor: %w", err)
			}
			blocks = append(blocks, body)
		}
	} else if len(content) == 0 || content[0]&^3 != 0x88 && content[0] != 0xc2 { // the first byte of a signature that is not armored
		return nil, nil
	}
	var all []Issuer
	for _, body := range blocks {
		packets, err := packetsOf(body)
		if err != nil {
			return nil, fmt.Errorf("bad signature: %w", err)
		}
		for _, p := range packets {
			parsed, err := p.Parse()
			if err != nil {
				return nil, fmt.Errorf("bad signature: %w", err)
			}
			if sig, ok := parsed.(*packet.Signature); ok {
				if i, ok := issuerOf(sig); ok {
					all = append(all, i)
				}
			}
		}
	}
	return all, nil
}

var errNoIssuer = errors.New("bad signature: it does not name the key that made it")

// HashOf returns what the Hash header of a document calls the algorithm of an armored signature.
func HashOf(armored []byte) (string, error) {
	sig, err := onlySignature(armored)
	if err != nil {
		return "", err
	}
	name := hashName(sig.Hash)
	if name == "" {
		return "", fmt.Errorf("the signature was made with %s, which is too weak: want SHA-256 or SHA-512", sig.Hash)
	}
	return name, nil
}
