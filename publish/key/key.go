// Package key checks OpenPGP signatures on what a mirror holds. It is the only
// package that knows OpenPGP.
//
// Spack signs a document by replacing it, at the same name, with a cleartext signed
// message (gpg --clearsign). Spack's reader takes the text out by a rule of its own
// and lets gpg check the signature, so a document is accepted here only if the text that
// the reader takes out is the text that is signed.
package key

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
)

// ErrUnsigned: the document carries no signature.
var ErrUnsigned = errors.New("not signed")

// A Fingerprint names an OpenPGP key: 40 upper-case hexadecimal digits for the
// version 4 keys that gpg makes. Spack names key files by it.
type Fingerprint string

const (
	beginMessage   = "-----BEGIN PGP SIGNED MESSAGE-----"
	beginSignature = "-----BEGIN PGP SIGNATURE-----"
	beginPublic    = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	beginPrivate   = "-----BEGIN PGP PRIVATE KEY BLOCK-----"
)

// readerRule is how Spack finds the signed text (spack 1.2, url_buildcache.py): exactly one
// Hash header with one algorithm, white space, then everything up to the signature.
var readerRule = regexp.MustCompile(`(?s)^` + beginMessage + `\s+Hash:\s+\S+\s+(.*?)` + beginSignature)

// Signed reports whether document is, or pretends to be, a signed message.
func Signed(document []byte) bool { return bytes.HasPrefix(document, []byte(beginMessage)) }

// Text returns what Spack's reader takes a document for: the document itself, or the text
// inside its signature, which is not checked here.
func Text(document []byte) ([]byte, error) {
	if !Signed(document) {
		return document, nil
	}
	m := readerRule.FindSubmatch(document)
	if m == nil {
		return nil, errors.New("signed message: want one Hash header with one algorithm, the text and a signature; Spack cannot read it")
	}
	return bytes.TrimSpace(m[1]), nil
}

// A Ring is a set of public keys that are trusted to sign.
type Ring struct{ entities openpgp.EntityList }

// ReadRing reads armored public keys, any number after each other.
func ReadRing(armored []byte) (*Ring, error) {
	if bytes.Contains(armored, []byte(beginPrivate)) {
		return nil, errors.New("it holds a private key: export public keys only (gpg --armor --export FINGERPRINT)")
	}
	r := new(Ring)
	for _, block := range bytes.SplitAfter(armored, []byte("-----END PGP PUBLIC KEY BLOCK-----")) {
		if !bytes.Contains(block, []byte(beginPublic)) {
			continue
		}
		entities, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(block))
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		r.entities = append(r.entities, entities...)
	}
	if len(r.entities) == 0 {
		return nil, errors.New("it holds no armored public key")
	}
	return r, nil
}

// Fingerprints lists the keys of the ring, in the order in which they were read.
func (r *Ring) Fingerprints() []Fingerprint {
	var all []Fingerprint
	for _, e := range r.entities {
		all = append(all, fingerprint(e))
	}
	return all
}

func fingerprint(e *openpgp.Entity) Fingerprint {
	return Fingerprint(fmt.Sprintf("%X", e.PrimaryKey.Fingerprint))
}

// Verify checks the signature of a document and returns who signed it.
// ErrUnsigned says that it has none.
func (r *Ring) Verify(document []byte) (Fingerprint, error) {
	if !Signed(document) {
		return "", ErrUnsigned
	}
	text, err := Text(document)
	if err != nil {
		return "", err
	}
	block, rest := clearsign.Decode(document)
	if block == nil {
		return "", errors.New("signed message: it cannot be decoded")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return "", errors.New("signed message: there is something behind the signature")
	}
	if !bytes.Equal(trimLines(block.Plaintext), trimLines(text)) {
		return "", errors.New("signed message: what Spack would read is not what is signed")
	}
	signer, err := block.VerifySignature(r.entities, nil)
	if err != nil {
		return "", explain(err)
	}
	return fingerprint(signer), nil
}

// VerifyDetached checks an armored detached signature (.asc) over content.
func (r *Ring) VerifyDetached(content io.Reader, signature []byte) (Fingerprint, error) {
	signer, err := openpgp.CheckArmoredDetachedSignature(r.entities, content, bytes.NewReader(signature), nil)
	if err != nil {
		return "", explain(err)
	}
	return fingerprint(signer), nil
}

func explain(err error) error {
	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return fmt.Errorf("signature by a key that is not among the trusted keys: %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("bad signature: it is truncated")
	}
	return fmt.Errorf("bad signature: %w", err)
}

// trimLines undoes what OpenPGP does not sign: line ends and blanks before them, and
// white space around the whole.
func trimLines(text []byte) []byte {
	var out [][]byte
	for line := range bytes.Lines(bytes.TrimSpace(text)) {
		out = append(out, bytes.TrimRight(line, " \t\r\n"))
	}
	return bytes.Join(out, []byte("\n"))
}

// ParseFingerprint refuses what cannot name a key file.
func ParseFingerprint(s string) (Fingerprint, error) {
	if len(s) != 40 && len(s) != 64 || strings.Trim(s, "0123456789ABCDEF") != "" {
		return "", fmt.Errorf("fingerprint %q: want 40 or 64 upper-case hexadecimal digits", s)
	}
	return Fingerprint(s), nil
}
