package key_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// edit takes gpg through its menu for a key.
func (k *keyring) edit(fingerprint string, lines ...string) {
	k.t.Helper()
	cmd := k.command("--command-fd", "0", "--yes", "--edit-key", fingerprint)
	cmd.Args = without(cmd.Args, "--batch")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\nsave\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("gpg --edit-key: %v\n%s", err, out)
	}
}

const manifestText = "{\n\"version\":3,\n\"data\":[]\n}"

// A judgement is a signed document, the keys that are trusted, and what is thought of it.
type judgement struct {
	name     string
	make     func(k *keyring) (ring, document []byte)
	gpg      bool   // whether gpg accepts it now, with the same keys
	reason   string // why we refuse it; empty: we accept it
	expected string // why gpg and we differ
}

// Each row is judged by gpg itself as well, so that this table cannot claim what is not so.
func TestKeysThroughTheirLives(t *testing.T) {
	text := []byte(manifestText)
	rows := []judgement{
		{"signed while the key was valid, which has expired since", func(k *keyring) ([]byte, []byte) {
			f := k.at("20250101").key("a", "ed25519", "sign", "20250110T000000")
			return k.public(f), k.at("20250105").sign(f, text)
		}, true, "", ""},
		{"signed after the key had expired", func(k *keyring) ([]byte, []byte) {
			f := k.at("20250101").key("a", "ed25519", "sign", "never")
			document := k.at("20250105").sign(f, text)
			k.at("20250102").run(nil, "--quick-set-expire", f, "20250103T000000")
			return k.public(f), document
		}, true, "the key expired at 2025-01-03", "gpg notes it and exits 0"},
		{"an old copy of the key before the extended one", func(k *keyring) ([]byte, []byte) {
			old, extended, document := extendedKey(k)
			return append(old, extended...), document
		}, true, "", ""},
		{"an old copy of the key after the extended one", func(k *keyring) ([]byte, []byte) {
			old, extended, document := extendedKey(k)
			return append(extended, old...), document
		}, true, "", ""},
		{"the old copy alone, of which nothing says that it was extended", func(k *keyring) ([]byte, []byte) {
			old, _, document := extendedKey(k)
			return old, document
		}, true, "the key expired at 2025-01-10", "gpg notes it and exits 0"},
		{"a key whose only self-signature is newer than what it signed", func(k *keyring) ([]byte, []byte) {
			f := k.at("20250101").key("a", "ed25519", "sign", "20250110T000000")
			document := k.at("20250105").sign(f, text)
			k.at("20250301").run(nil, "--quick-set-expire", f, "20350101T000000")
			return k.at("20250302").run(nil, "--armor", "--export-options", "export-minimal", "--export", f), document
		}, true, "", ""},
		{"a key that was revoked for no reason given", func(k *keyring) ([]byte, []byte) {
			f := k.at("20250101").key("a", "ed25519", "sign", "never")
			document := k.at("20250105").sign(f, text)
			k.at("20250201").revoke(f, "0")
			return k.public(f), document
		}, true, "the key was revoked", "gpg warns and exits 0"},
		{"a revoked copy of the key before one that is not", func(k *keyring) ([]byte, []byte) {
			f := k.key("a", "ed25519", "sign", "never")
			document, good := k.sign(f, text), k.public(f)
			k.revoke(f, "1")
			return append(k.public(f), good...), document
		}, true, "the key was revoked", "gpg warns and exits 0"},
		{"a revocation certificate beside the key", func(k *keyring) ([]byte, []byte) {
			f := k.key("a", "ed25519", "sign", "never")
			document, public := k.sign(f, text), k.public(f)
			other := k.key("b", "ed25519", "sign", "never")
			return slices.Concat(public, k.public(other), k.revoke(f, "1"), k.revoke(other, "0")), document
		}, true, "the key was revoked", "gpg warns and exits 0"},
		{"signed before the key was retired", func(k *keyring) ([]byte, []byte) {
			f := k.at("20250101").key("a", "ed25519", "sign", "never")
			document := k.at("20250105").sign(f, text)
			k.at("20250201").revoke(f, "3")
			return k.public(f), document
		}, true, "", ""},
		{"signed after the key was retired", func(k *keyring) ([]byte, []byte) {
			f := k.at("20250101").key("a", "ed25519", "sign", "never")
			document := k.at("20250305").sign(f, text)
			k.at("20250201").revoke(f, "3")
			return k.public(f), document
		}, true, "before it signed this at 2025-03-05", "gpg warns and exits 0"},
		{"signed by a subkey", func(k *keyring) ([]byte, []byte) {
			f := k.key("a", "rsa2048", "cert", "never")
			k.run(nil, "--quick-add-key", f, "ed25519", "sign", "never")
			return k.public(f), k.sign(f, text)
		}, true, "", ""},
		{"signed by a subkey that was revoked", func(k *keyring) ([]byte, []byte) {
			f := k.key("a", "ed25519", "cert", "never")
			k.run(nil, "--quick-add-key", f, "ed25519", "sign", "never")
			document := k.sign(f, text)
			k.edit(f, "key 1", "revkey", "y", "1", "", "y")
			return k.public(f), document
		}, true, "its subkey ", "gpg warns and exits 0"},
		{"signed by a subkey beside one that was revoked", func(k *keyring) ([]byte, []byte) {
			f := k.at("20250101").key("a", "ed25519", "cert", "never")
			k.run(nil, "--quick-add-key", f, "ed25519", "sign", "never")
			k.at("20250102").run(nil, "--quick-add-key", f, "ed25519", "sign", "never")
			document := k.at("20250103").sign(f, text)
			k.edit(f, "key 1", "revkey", "y", "1", "", "y")
			return k.public(f), document
		}, true, "", ""},
		{"signed by a subkey whose primary key was revoked", func(k *keyring) ([]byte, []byte) {
			f := k.key("a", "ed25519", "cert", "never")
			k.run(nil, "--quick-add-key", f, "ed25519", "sign", "never")
			document := k.sign(f, text)
			k.revoke(f, "1")
			return k.public(f), document
		}, true, "the key was revoked", "gpg warns and exits 0"},
		{"a key with two user IDs of which one was revoked", func(k *keyring) ([]byte, []byte) {
			f := k.key("a", "ed25519", "sign", "never")
			k.run(nil, "--quick-add-uid", f, "b <b@example.invalid>")
			k.run(nil, "--quick-revoke-uid", f, "a <a@example.invalid>")
			return k.public(f), k.sign(f, text)
		}, true, "", ""},
		{"a signature older than its key", func(k *keyring) ([]byte, []byte) {
			f := k.at("20250201").key("a", "ed25519", "sign", "never")
			return k.public(f), k.at("20250101").sign(f, text, "--ignore-time-conflict", "--ignore-valid-from")
		}, false, "it is older", ""},
		{"a key that is still to be made", func(k *keyring) ([]byte, []byte) {
			f := k.at("20990201").key("a", "ed25519", "sign", "never")
			return k.public(f), k.at("20990202").sign(f, text)
		}, false, "still to come", ""},
		{"a signature that is still to be made", func(k *keyring) ([]byte, []byte) {
			f := k.at("20250201").key("a", "ed25519", "sign", "never")
			return k.public(f), k.at("20990202").sign(f, text)
		}, true, "still to come", "gpg does not look"},
		{"a signature that has expired", func(k *keyring) ([]byte, []byte) {
			f := k.at("20250101").key("a", "ed25519", "sign", "never")
			return k.public(f), k.at("20250102").sign(f, text, "--default-sig-expire", "2d")
		}, false, "it has expired", ""},
		{"two signatures", func(k *keyring) ([]byte, []byte) {
			a, b := k.key("a", "ed25519", "sign", "never"), k.key("b", "ed25519", "sign", "never")
			return append(k.public(a), k.public(b)...), k.sign(a, text, "--local-user", b)
		}, true, "2 signatures", "it accepts them where both keys are known"},
		{"SHA-1", made("rsa2048", "--digest-algo", "SHA1"), true, "SHA-1, which is too weak", "gpg 2.2 accepts it"},
		{"RIPEMD-160", made("rsa2048", "--digest-algo", "RIPEMD160"), true, "bad signature", "gpg accepts it"},
		{"SHA-224", made("rsa2048", "--digest-algo", "SHA224"), true, "", ""},
		{"RSA of 1024 bits", made("rsa1024", "--digest-algo", "SHA256"), true, "too short", "gpg 2.2 accepts it"},
		{"RSA of 3072 bits", made("rsa3072"), true, "", ""},
		{"DSA", made("dsa2048"), true, "", ""},
		{"ECDSA over P-256", made("nistp256"), true, "", ""},
		{"ECDSA over P-384", made("nistp384", "--digest-algo", "SHA384"), true, "", ""},
		{"ECDSA over brainpool", made("brainpoolP256r1"), true, "", ""},
		{"ECDSA over secp256k1", made("secp256k1"), true, "", ""},
		{"a line of 19,990 bytes", lineOf(19_990), true, "", ""},
		{"a line of 20,100 bytes", lineOf(20_100), false, "gpg reads no more", ""},
	}
	version := newKeyring(t).version()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ring, document := row.make(newKeyring(t))
			client := newKeyring(t) // has imported exactly what is trusted
			client.run(ring, "--import")
			// Where we are stricter, a newer gpg may have become so as well.
			if got := client.accepts(document); got != row.gpg && (row.expected == "" || version == "2.2") {
				t.Errorf("gpg accepts: %v, the table says %v", got, row.gpg)
			}
			if row.gpg != (row.reason == "") && row.expected == "" {
				t.Error("the table does not say why gpg and we differ")
			}
			r, err := key.ReadRing(ring)
			if err != nil {
				t.Fatal(err)
			}
			switch _, err = r.Verify(document); {
			case row.reason == "" && err != nil:
				t.Errorf("refused: %v", err)
			case row.reason != "" && (err == nil || !strings.Contains(err.Error(), row.reason)):
				t.Errorf("got %v, want %q", err, row.reason)
			}
		})
	}
}

// extendedKey returns two copies of one key, and what it signed when the first was no longer valid.
func extendedKey(k *keyring) (old, extended, document []byte) {
	f := k.at("20250101").key("a", "ed25519", "sign", "20250110T000000")
	old = k.public(f)
	k.at("20250105").run(nil, "--quick-set-expire", f, "20350101T000000")
	return old, k.public(f), k.at("20250301").sign(f, []byte(manifestText))
}

func made(algorithm string, options ...string) func(*keyring) ([]byte, []byte) {
	return func(k *keyring) ([]byte, []byte) {
		f := k.key("a", algorithm, "sign", "never")
		return k.public(f), k.sign(f, []byte(manifestText), options...)
	}
}

func lineOf(n int) func(*keyring) ([]byte, []byte) {
	return func(k *keyring) ([]byte, []byte) {
		f := k.key("a", "ed25519", "sign", "never")
		// gpg cuts a long line as it signs, so the line is made longer afterwards where it must be.
		line := `"` + strings.Repeat("x", min(n, 19_990)-2) + `"`
		document := k.sign(f, []byte(line))
		return k.public(f), bytes.Replace(document, []byte("xx"), []byte(strings.Repeat("x", 2+n-min(n, 19_990))), 1)
	}
}

// A clock that is minutes behind that of the signer refuses nothing; one that is hours behind
// says so.
func TestClocksMayDiffer(t *testing.T) {
	k := newKeyring(t)
	signed := time.Now()
	f := k.key("a", "ed25519", "sign", "never")
	document := k.sign(f, []byte(manifestText))
	r, err := key.ReadRing(k.public(f))
	if err != nil {
		t.Fatal(err)
	}
	for behind, ok := range map[time.Duration]bool{0: true, 5 * time.Minute: true, time.Hour: false} {
		restore := key.SetClock(signed.Add(-behind))
		_, err := r.Verify(document)
		restore()
		if ok != (err == nil) || !ok && !strings.Contains(fmt.Sprint(err), "is a clock wrong?") {
			t.Errorf("clock %s behind: %v", behind, err)
		}
	}
}

// A signature without a checksum in its armor is read by gpg only where the end of its base64
// shows: what go-crypto writes, for example, is refused by every client in some cases.
func TestArmorWithoutChecksum(t *testing.T) {
	k := newKeyring(t)
	f := k.key("a", "rsa2048", "sign", "never")
	r, err := key.ReadRing(k.public(f))
	if err != nil {
		t.Fatal(err)
	}
	done := make(map[bool]bool)
	for i := 0; len(done) < 2 && i < 100; i++ { // a longer user ID moves the end of the base64
		document := k.sign(f, []byte(manifestText), "--sender", strings.Repeat("x", i+1)+"@example.invalid")
		padded := bytes.Contains(document, []byte("=\n="))
		lines := bytes.SplitAfter(document, []byte("\n"))
		lines = slices.DeleteFunc(lines, func(line []byte) bool { return len(line) == 6 && line[0] == '=' })
		without := bytes.Join(lines, nil)
		if done[padded] || len(without) == len(document) {
			continue
		}
		done[padded] = true
		if got := k.accepts(without); got != padded {
			t.Errorf("padded %v: gpg accepts: %v", padded, got)
		}
		if _, err := r.Verify(without); (err == nil) != padded || !padded && !strings.Contains(err.Error(), "the checksum is missing") {
			t.Errorf("padded %v: %v", padded, err)
		}
	}
	if len(done) < 2 {
		t.Errorf("only these were seen: %v", done)
	}
}

// What a mirror offers as a key is what clients import and trust, all of it.
func TestAKeyFileHoldsOneKey(t *testing.T) {
	k := newKeyring(t)
	a, b := k.key("a", "ed25519", "sign", "never"), k.key("b", "rsa2048", "sign", "never")
	one, two := k.public(a), k.public(b)
	p, err := key.ReadPublic(one)
	if err != nil || string(p.Fingerprint()) != a {
		t.Fatalf("one key: %v, %v", p, err)
	}
	lf := []byte("\n")
	both := k.run(nil, "--armor", "--export", a, b)
	if n := bytes.Count(k.show(both), []byte("pub:")); n != 2 {
		t.Fatalf("gpg sees %d keys", n)
	}
	binary := k.run(nil, "--export", b)
	for name, file := range map[string][]byte{
		"two keys in one block":           both,
		"two blocks":                      append(bytes.Clone(one), two...),
		"a binary key before the block":   append(bytes.Clone(binary), one...),
		"a binary key behind the block":   append(bytes.Clone(one), binary...),
		"something before the block":      append([]byte("trust me\n"), one...),
		"something behind the block":      append(bytes.Clone(one), "trust me\n"...),
		"a block within a header":         bytes.Replace(one, lf, append([]byte("\nComment: "), two...), 1),
		"the same key twice":              append(bytes.Clone(one), one...),
		"no key":                          []byte("hello"),
		"nothing":                         nil,
		"a signature":                     k.sign(a, []byte(manifestText)),
		"a wrong checksum":                bytes.Replace(one, []byte("\n="), []byte("\n=A"), 1)[:len(one)],
		"a secret key":                    k.run(nil, "--armor", "--export-secret-keys", a),
		"a key that only other keys know": k.run(nil, "--armor", "--export-options", "export-minimal", "--export", a)[:120],
	} {
		if p, err := key.ReadPublic(file); err == nil {
			t.Errorf("%s: taken for the key %s", name, p.Fingerprint())
		}
	}
	if _, err := key.ReadPublic(bytes.ReplaceAll(one, lf, []byte("\r\n"))); err != nil {
		t.Errorf("CRLF: %v", err)
	}
}

// No client could check what such a key signs, so it is refused where it is named, not where it is used.
func TestKeysThatGPGCannotRead(t *testing.T) {
	for want, config := range map[string]*packet.Config{
		"is of OpenPGP version 6": {V6Keys: true, Algorithm: packet.PubKeyAlgoEd25519},
		"has an algorithm (27)":   {Algorithm: packet.PubKeyAlgoEd25519},
	} {
		e, err := openpgp.NewEntity("new", "", "new@example.invalid", config)
		if err != nil {
			t.Fatal(err)
		}
		var file bytes.Buffer
		w, err := armor.Encode(&file, openpgp.PublicKeyType, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Serialize(w); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if imported, fine := newKeyring(t).imports(append(file.Bytes(), '\n')); fine && len(imported) > 0 {
			t.Errorf("gpg imports %q", imported)
		}
		if _, err := key.ReadRing(file.Bytes()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("as a trusted key: %v, want %q", err, want)
		}
		if _, err := key.ReadPublic(file.Bytes()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("as a key file: %v, want %q", err, want)
		}
	}
}

// A key file made to take long is refused at once.
func TestAKeyOfManyParts(t *testing.T) {
	var body bytes.Buffer
	block, err := armor.Decode(bytes.NewReader(read(t, "keys/one.pub")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&body, block.Body); err != nil {
		t.Fatal(err)
	}
	for i := range 300_000 {
		fmt.Fprintf(&body, "\xb4\x06%06d", i) // a user ID
	}
	var file bytes.Buffer
	w, err := armor.Encode(&file, block.Type, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, &body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := key.ReadPublic(file.Bytes()); err == nil || !strings.Contains(err.Error(), "more than 10000 OpenPGP packets") {
		t.Errorf("got %v", err)
	}
}

// show is what gpg finds in a key file without importing it.
func (k *keyring) show(file []byte) []byte {
	k.t.Helper()
	return k.run(file, "--with-colons", "--show-keys")
}

// The signer of a document can be told without trusting anything, and be found in a key file.
func TestIssuerOf(t *testing.T) {
	k := newKeyring(t)
	f := k.key("a", "ed25519", "cert", "never")
	k.run(nil, "--quick-add-key", f, "ed25519", "sign", "never")
	other := k.key("b", "ed25519", "sign", "never")
	issuer, err := key.IssuerOf(k.sign(f, []byte(manifestText)))
	if err != nil {
		t.Fatal(err)
	}
	for fingerprint, want := range map[string]bool{f: true, other: false} {
		p, err := key.ReadPublic(k.public(fingerprint))
		if err != nil {
			t.Fatal(err)
		}
		if p.Made(issuer) != want {
			t.Errorf("made by %s: want %v", fingerprint, want)
		}
	}
	if issuer.String() == f || len(issuer.String()) != 40 {
		t.Errorf("issuer %s, want the fingerprint of the subkey", issuer)
	}
	if _, err := key.IssuerOf([]byte("{}")); err != key.ErrUnsigned {
		t.Errorf("an unsigned document: %v", err)
	}
}

// A ring gives out a key as gpg would export it, merged of all its copies: what gpg imports from
// it checks what was signed.
func TestPublicOfARing(t *testing.T) {
	k := newKeyring(t)
	old, extended, document := extendedKey(k)
	r, err := key.ReadRing(slices.Concat(old, k.public(k.key("b", "rsa2048", "sign", "never")), extended))
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := key.IssuerOf(document)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := r.Public(issuer)
	if !ok || p.Fingerprint() != r.Fingerprints()[0] {
		t.Fatalf("%v, %t", p, ok)
	}
	armored, err := r.Armored(p.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := key.ReadPublic(armored); err != nil || again.Fingerprint() != p.Fingerprint() {
		t.Errorf("it cannot be published: %v", err)
	}
	client := newKeyring(t)
	client.run(armored, "--import")
	if !client.accepts(document) || bytes.Contains(client.run(nil, "--with-colons", "--list-keys"), []byte("pub:e")) {
		t.Errorf("gpg has imported:\n%s", client.run(nil, "--with-colons", "--list-keys"))
	}
	if _, ok := r.Public(key.Issuer{ID: 1}); ok {
		t.Error("found a key that is not in the ring")
	}
	if _, err := r.Armored(key.Fingerprint(strings.Repeat("A", 40))); !errors.Is(err, key.ErrUntrusted) {
		t.Errorf("of another key: %v", err)
	}
}
