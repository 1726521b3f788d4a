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

// maxLine is the number of bytes of a line that gpg reads. It drops or garbles the rest.
const maxLine = 19_990

// Signed reports whether document begins like a signed message.
func Signed(document []byte) bool { return bytes.HasPrefix(document, []byte(beginMessage)) }

// Text returns the text that Spack's reader sees in a document: the document itself, or the text inside its
// signature. Text does not check the signature.
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

// A message is a signed document, parsed.
type message struct {
	hash      string   // as its header names it
	text      []byte   // as Spack's reader sees it
	lines     []string // of the text
	signature *packet.Signature
}

var hashLine = regexp.MustCompile(`^Hash:[ \t]+([A-Z0-9-]+)[ \t]*$`)

// parseMessage reads the form that gpg --clearsign writes, and refuses any other.
//
// Spack 0.23 to 1.2 extract the text with
//
//	^-----BEGIN PGP SIGNED MESSAGE-----\s+Hash:\s+[^\s]+\s+(.+)-----BEGIN PGP SIGNATURE-----
//
// with MULTILINE and DOTALL. Dash escapes are not undone, \s is any white space of Unicode, and (.+) reaches to the
// last marker. gpg reads up to the first line that is a marker. Both see the same text if there is one marker, one
// header, an empty line, and no line that begins with a dash.
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

// CheckLine returns an error for a line of a signed document that gpg and Spack would read differently, or not at
// all.
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

// canonical returns the text that is signed: lines without blanks at their ends, joined by CRLF.
func (m *message) canonical() []byte {
	trimmed := make([]string, len(m.lines))
	for i, line := range m.lines {
		trimmed[i] = strings.TrimRight(line, " \t")
	}
	return []byte(strings.Join(trimmed, "\r\n"))
}

// onlySignature reads an armored block that holds exactly one signature.
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

// IssuerOf returns the key that a signed document names as its signer. It does not check the signature.
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

// IssuerOfDetached returns the key that a detached signature names as its signer. It does not check the signature.
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

// IssuersOfDetached returns all keys that the content of a signature file names as signers. It reads as gpg does:
// armored or not, with text around it, with several signatures. Other content, such as a public key, has no
// issuers. An error means that the content begins like a signature but is not OpenPGP.
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
	} else if len(content) == 0 || content[0]&^3 != 0x88 && content[0] != 0xc2 { // the first byte of a binary signature
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

// HashOf returns the hash algorithm of an armored signature, as the Hash header of a document names it.
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
