package sign_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	signgpg "github.com/vantagecompute/slurm-factory-publish/publish/sign/gpg"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
)

func load(t testing.TB, content []byte, passphrase string) *sign.Key {
	t.Helper()
	k, err := sign.ReadKey(content, []byte(passphrase), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(t testing.TB, k *sign.Key) []byte {
	t.Helper()
	armored, err := k.Public().Armored()
	if err != nil {
		t.Fatal(err)
	}
	return armored
}

// spacks is the rule by which Spack 0.23 to 1.2 take the text out of a signed document.
var spacks = regexp.MustCompile(`(?ms)^-----BEGIN PGP SIGNED MESSAGE-----\s+Hash:\s+[^\s]+\s+(.+)-----BEGIN PGP SIGNATURE-----`)

func unsigned(t testing.TB) [][]byte {
	t.Helper()
	var all [][]byte
	for _, pattern := range []string{"v3-unsigned/v3/manifests/spec/*/*.json", "v2-unsigned/build_cache/*.spec.json"} {
		names, _ := filepath.Glob("../../test/testdata/" + pattern)
		for _, name := range names {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, content)
		}
	}
	if len(all) < 5 {
		t.Fatalf("%d unsigned documents", len(all))
	}
	return all
}

// gpg and Spack accept what a key of each kind has signed: gpg by its exit status.
func TestGPGAcceptsWhatIsSigned(t *testing.T) {
	gpg := newKeyring(t)
	for _, algorithm := range []string{"rsa3072", "rsa2048", "ed25519", "nistp256", "nistp384", "dsa2048"} {
		k := load(t, gpg.secret("", gpg.key("", algorithm, "sign", "never")), "")
		client := importing(t, public(t, k))
		for i, text := range unsigned(t) {
			if i > 3 && algorithm != "rsa3072" {
				break
			}
			document, err := k.Document(context.Background(), text)
			if err != nil {
				t.Fatal(algorithm, err)
			}
			if said := client.rejects(document); said != "" {
				t.Errorf("%s: gpg rejects it: %s", algorithm, said)
			}
			m := spacks.FindSubmatch(document)
			if m == nil || !bytes.Equal(bytes.TrimSpace(m[1]), bytes.TrimSpace(text)) {
				t.Errorf("%s: Spack reads another text", algorithm)
			}
		}
		content := bytes.Repeat([]byte("release\r\n \x00"), 1000)
		signature, err := k.Detached(context.Background(), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
		if err != nil {
			t.Fatal(algorithm, err)
		}
		if said := client.rejectsDetached(content, signature); said != "" {
			t.Errorf("%s: gpg rejects the detached signature: %s", algorithm, said)
		}
	}
}

// Without its checksum, gpg fails on a signature whose base64 has no padding: one of about 3,000 of ed25519.
func TestASignatureWithoutPaddingHasItsChecksum(t *testing.T) {
	gpg := newKeyring(t)
	k := load(t, gpg.secret("", gpg.key("", "ed25519", "sign", "never")), "")
	for i := range 100_000 {
		document, err := k.Document(context.Background(), fmt.Appendf(nil, `{"version":%d}`, i))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(document)), "\n")
		sum, last := lines[len(lines)-2], lines[len(lines)-3]
		if !strings.HasPrefix(sum, "=") || len(sum) != 5 {
			t.Fatalf("no checksum in %s", document)
		}
		if !strings.HasSuffix(last, "=") {
			if said := importing(t, public(t, k)).rejects(document); said != "" {
				t.Errorf("gpg rejects it: %s", said)
			}
			return
		}
	}
	t.Error("no signature without padding")
}

// Texts that gpg and Spack would read differently are refused, and white space that gpg does not sign is dropped.
func TestTextsThatCannotBeSigned(t *testing.T) {
	gpg := newKeyring(t)
	k := load(t, gpg.secret("", gpg.key("", "ed25519", "sign", "never")), "")
	client := importing(t, public(t, k))
	long := `{"a":"` + strings.Repeat("x", 19_990) + `"}`
	for text, want := range map[string]string{
		"":                                      "not JSON",
		"{":                                     "not JSON",
		"[\n-1\n]":                              "begins with a dash",
		long:                                    "gpg reads no more than",
		"{\"a\":\"\xff\"}":                      "not UTF-8",
		`{"a":"-----BEGIN PGP SIGNATURE-----"}`: "BEGIN PGP SIGNATURE",
		`{"a":"-----BEGIN PGP SIGNED MESSAGE-----"}`: "BEGIN PGP SIGNED MESSAGE",
		"-----BEGIN PGP SIGNED MESSAGE-----\n":       "signed already",
	} {
		if _, err := k.Document(context.Background(), []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"{}\n", "\n\n{}\n\n", "{\r\n\"a\":1\r\n}", "{ \t\n}", "{\"a\":\r1}", "{\"ü\":\"☃\"}", "1"} {
		document, err := k.Document(context.Background(), []byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if said := client.rejects(document); said != "" {
			t.Errorf("%q: gpg rejects it: %s", text, said)
		}
	}
}

// The key that signs is the one that gpg picks.
func TestSubkeysArePickedAsByGPG(t *testing.T) {
	gpg := newKeyring(t)
	primary := gpg.at("20240101").key("", "ed25519", "cert", "never")
	older := gpg.at("20240201").subkey(primary, "ed25519", "sign", "never")
	gpg.at("20240301").subkey(primary, "cv25519", "encr", "never")
	newer := gpg.at("20240401").subkey(primary, "rsa2048", "sign", "never")
	expired := gpg.at("20240501").subkey(primary, "ed25519", "sign", "1d")

	check := func(name string, exported []byte, want string) {
		t.Helper()
		k := load(t, exported, "")
		document, err := k.Document(context.Background(), []byte("{}"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if got := importing(t, public(t, k)).signer(document); got != want {
			t.Errorf("%s: signed by %s, want %s", name, got, want)
		}
		if k.Fingerprint() != key.Fingerprint(primary) {
			t.Errorf("%s: primary key %s, want %s", name, k.Fingerprint(), primary)
		}
		other := newKeyring(t)
		other.run("", "--import", other.file("secret", exported))
		if got := other.signer(other.run("", "--local-user", primary, "--clearsign", "--output", "-", other.file("text", []byte("{}")))); got != want {
			t.Errorf("%s: gpg signs with %s, and this test wants %s", name, got, want)
		}
	}
	check("all", gpg.secret("", primary), newer)
	check("binary", gpg.run("", "--export-secret-keys", primary), newer)
	check("subkeys only", gpg.run("", "--armor", "--export-secret-subkeys", primary), newer)
	check("one subkey", gpg.run("", "--armor", "--export-secret-subkeys", older+"!"), older)
	_ = expired
}

// Each reason why a key cannot be used has its own message, and nothing is signed.
func TestKeysThatCannotSign(t *testing.T) {
	gpg := newKeyring(t)
	protected := gpg.secret("secret", gpg.key("secret", "rsa2048", "sign", "never"))
	if _, err := load(t, protected, "secret\n").Document(context.Background(), []byte("{}")); err != nil {
		t.Error(err)
	}
	good := gpg.key("", "ed25519", "sign", "never")
	expired := gpg.at("20240101").key("", "ed25519", "sign", "1d")
	revoked := gpg.key("", "rsa2048", "sign", "never")
	certificate, err := os.ReadFile(filepath.Join(gpg.home, "openpgp-revocs.d", revoked+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	gpg.run("", "--import", gpg.file("revoke", bytes.ReplaceAll(certificate, []byte(":-----BEGIN"), []byte("-----BEGIN"))))
	certifies := gpg.key("", "ed25519", "cert", "never")
	withSubkey := gpg.at("20240102").key("", "ed25519", "cert", "never")
	gpg.at("20240102").subkey(withSubkey, "ed25519", "sign", "1d")
	short := gpg.key("", "rsa1024", "sign", "never")
	subkeys := gpg.key("", "ed25519", "sign", "never")
	gpg.subkey(subkeys, "cv25519", "encr", "never")

	goodKey := gpg.secret("", good)
	for name, row := range map[string]struct {
		content    []byte
		passphrase string
		is         error
		want       string
	}{
		"wrong passphrase": {protected, "other", sign.ErrPassphrase, "passphrase is wrong"},
		"no passphrase":    {protected, "", sign.ErrNoPassphrase, "none is given"},
		"expired":          {gpg.secret("", expired), "", sign.ErrExpired, "expired at 2024-01-02"},
		"expired subkey":   {gpg.secret("", withSubkey), "", sign.ErrExpired, "its subkey"},
		"revoked":          {gpg.secret("", revoked), "", sign.ErrRevoked, "revoked at"},
		"certifies only":   {gpg.secret("", certifies), "", sign.ErrCannotSign, "not meant to sign"},
		"too short":        {gpg.secret("", short), "", nil, "too short"},
		"public":           {gpg.run("", "--armor", "--export", good), "", sign.ErrPublic, "public key"},
		"public, binary":   {gpg.run("", "--export", good), "", sign.ErrPublic, "public key"},
		"no secret":        {gpg.run("", "--armor", "--export-secret-subkeys", subkeys), "", sign.ErrNoSecret, "private part"},
		"several":          {gpg.run("", "--armor", "--export-secret-keys", good, subkeys), "", nil, "2 private keys"},
		"several blocks":   {append(bytes.Clone(goodKey), gpg.secret("", subkeys)...), "", nil, "several armored blocks"},
		"empty":            {[]byte(" \n"), "", nil, "empty"},
		"cut":              {goodKey[:len(goodKey)/2], "", nil, "cut off"},
		"line ends lost":   {bytes.ReplaceAll(goodKey, []byte("\n"), []byte(" ")), "", nil, "line ends are lost"},
		"SSH":              {[]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"), "", nil, "OPENSSH PRIVATE KEY"},
		"something":        {[]byte("hello, world"), "", nil, "neither armored"},
		"a number":         {[]byte("abcd"), "", nil, "not of a private key"},
		"card":             {onCard(t, gpg.run("", "--export-secret-subkeys", subkeys)), "", sign.ErrCard, "smartcard"},
		"too large":        {make([]byte, 2<<20), "", nil, "more than"},
		"a changed digit":  {changed(goodKey), "", nil, "damaged"},
		"memory of Argon2": {protectedBy(t, gpg.run("", "--export-secret-keys", good), 21), "x", nil, "1 GiB"},
	} {
		k, err := sign.ReadKey(row.content, []byte(row.passphrase), time.Now())
		switch {
		case k != nil || err == nil:
			t.Errorf("%s: accepted", name)
		case row.is != nil && !errors.Is(err, row.is), !strings.Contains(err.Error(), row.want):
			t.Errorf("%s: %v, want %q", name, err, row.want)
		case row.passphrase != "" && row.passphrase != "x" && strings.Contains(err.Error(), row.passphrase):
			t.Errorf("%s: the passphrase is in %v", name, err)
		}
	}
}

// onCard makes the stubs that gpg has written for keys that are not in the file those of keys on a card.
func onCard(t *testing.T, exported []byte) []byte {
	t.Helper()
	if !bytes.Contains(exported, []byte("GNU\x01")) {
		t.Fatal("no stub of gpg")
	}
	return bytes.ReplaceAll(exported, []byte("GNU\x01"), []byte("GNU\x02"))
}

func changed(armored []byte) []byte {
	lines := strings.Split(string(armored), "\n")
	i := len(lines) / 2
	lines[i] = strings.Map(func(r rune) rune {
		if r == 'A' {
			return 'B'
		}
		return 'A'
	}, lines[i])
	return []byte(strings.Join(lines, "\n"))
}

// protectedBy returns the beginning of a private key that says that it takes 2^exponent KiB of memory to decrypt it.
func protectedBy(t *testing.T, exported []byte, exponent byte) []byte {
	t.Helper()
	// An old packet header with a length of one byte, and a key of ed25519, which ends behind 51 bytes.
	if len(exported) < 100 || exported[0] != 0x94 {
		t.Fatalf("unexpected packet %x", exported[:2])
	}
	protection := append([]byte{253, 9, 2, 4}, make([]byte, 16)...) // AES256, OCB, Argon2 and its salt
	protection = append(protection, 1, 4, exponent)
	protection = append(protection, make([]byte, 15+36)...) // nonce and numbers
	body := append(bytes.Clone(exported[2:53]), protection...)
	rest := exported[2+int(exported[1]):]
	return append(append([]byte{0x94, byte(len(body))}, body...), rest...)
}

// Keys are accepted in the forms in which they arrive from the settings of CI systems.
func TestFormsOfAKey(t *testing.T) {
	gpg := newKeyring(t)
	fingerprint := gpg.key("", "rsa2048", "sign", "never")
	armored := gpg.secret("", fingerprint)
	binary := gpg.run("", "--export-secret-keys", fingerprint)
	text := string(armored)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	wrapped := func(b []byte) string {
		s := base64.StdEncoding.EncodeToString(b)
		var all []string
		for ; len(s) > 76; s = s[76:] {
			all = append(all, s[:76])
		}
		return strings.Join(append(all, s), "\n") + "\n"
	}
	for name, form := range map[string]string{
		"as exported":        text,
		"no final line end":  strings.TrimSpace(text),
		"CRLF":               strings.ReplaceAll(text, "\n", "\r\n"),
		"CR":                 strings.ReplaceAll(text, "\n", "\r"),
		"BOM":                "\ufeff" + text,
		"text before":        "My key:\n" + text,
		"trailing blanks":    strings.ReplaceAll(text, "\n", "  \n"),
		"indented":           "  " + strings.Join(lines, "\n  "),
		"headers":            strings.Replace(text, "\n\n", "\nVersion: GnuPG v2\nComment: mine\n\n", 1),
		"no empty line":      strings.Replace(text, "\n\n", "\n", 1),
		"no checksum":        strings.Join(append(append([]string{}, lines[:len(lines)-2]...), lines[len(lines)-1]), "\n"),
		"twice":              text + text,
		`written \n`:         strings.ReplaceAll(text, "\n", `\n`),
		"quoted":             `"` + strings.ReplaceAll(strings.TrimSpace(text), "\n", `\n`) + `"`,
		"binary":             string(binary),
		"base64":             base64.StdEncoding.EncodeToString(armored),
		"base64, wrapped":    wrapped(armored),
		"base64 of binary":   wrapped(binary),
		"base64, no padding": base64.RawStdEncoding.EncodeToString(binary),
	} {
		k, err := sign.ReadKey([]byte(form), nil, time.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := k.Document(context.Background(), []byte("{}")); err != nil || string(k.Fingerprint()) != fingerprint {
			t.Errorf("%s: %s: %v", name, k.Fingerprint(), err)
		}
	}
}

// A faulty signer yields an error and no document.
func TestASignatureIsVerifiedBeforeItIsUsed(t *testing.T) {
	gpg := newKeyring(t)
	good := load(t, gpg.secret("", gpg.key("", "ed25519", "sign", "never")), "")
	other := load(t, gpg.secret("", gpg.key("", "ed25519", "sign", "never")), "")
	for name, s := range map[string]*liar{
		"another key":     {other.Signer(), public(t, good), func(s []byte) []byte { return s }, false},
		"another content": {good.Signer(), public(t, good), func(s []byte) []byte { return s }, true},
		"changed":         {good.Signer(), public(t, good), func(s []byte) []byte { s[len(s)-1] ^= 1; return s }, false},
		"cut":             {good.Signer(), public(t, good), func(s []byte) []byte { return s[:len(s)-3] }, false},
		"empty":           {good.Signer(), public(t, good), func(s []byte) []byte { return nil }, false},
		"twice":           {good.Signer(), public(t, good), func(s []byte) []byte { return append(s, s...) }, false},
	} {
		k, err := sign.New(s)
		if err != nil {
			t.Fatal(err)
		}
		if document, err := k.Document(context.Background(), []byte("{}")); err == nil || document != nil {
			t.Errorf("%s: %v, %s", name, err, document)
		}
		open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("content")), nil }
		if signature, err := k.Detached(context.Background(), open); err == nil || signature != nil {
			t.Errorf("%s, detached: %v, %s", name, err, signature)
		}
	}
}

// A liar returns something else than the signature that it was asked for.
type liar struct {
	sign.Signer
	public []byte
	change func([]byte) []byte
	other  bool
}

func (l *liar) Public() []byte { return l.public }

func (l *liar) Sign(ctx context.Context, kind sign.Kind, content io.Reader) ([]byte, error) {
	if l.other {
		content = strings.NewReader("other")
	}
	packet, err := l.Signer.Sign(ctx, kind, content)
	if err != nil {
		return nil, err
	}
	return l.change(packet), nil
}

// Reading a key ends with a key or an error, whatever is in it.
func FuzzReadKey(f *testing.F) {
	gpg := newKeyring(f)
	fingerprint := gpg.key("", "ed25519", "sign", "never")
	gpg.subkey(fingerprint, "cv25519", "encr", "never")
	f.Add(gpg.secret("", fingerprint))
	f.Add(gpg.run("", "--export-secret-keys", fingerprint))
	f.Add(gpg.run("", "--export-secret-subkeys", fingerprint))
	f.Add(gpg.run("", "--export", fingerprint))
	f.Add([]byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlFgE\n-----END PGP PRIVATE KEY BLOCK-----"))
	f.Fuzz(func(t *testing.T, content []byte) {
		k, err := sign.ReadKey(content, []byte("x"), time.Now())
		if (k == nil) == (err == nil) {
			t.Fatalf("%v, %v", k, err)
		}
		if err == nil {
			if _, err := k.Document(context.Background(), []byte("{}")); err != nil {
				t.Skip(err) // private and public numbers do not belong together
			}
		}
	})
}

// What watches a key learns of each signature that was made, and of no other.
func TestSignaturesAreObserved(t *testing.T) {
	k := signtest.Key(t, "release")
	made := 0
	watched := k.Observed(func() { made++ })
	for range 3 {
		if _, err := watched.Document(t.Context(), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := watched.Document(t.Context(), []byte("no JSON")); err == nil || made != 3 || watched.Fingerprint() != k.Fingerprint() {
		t.Errorf("%v, %d signatures", err, made)
	}
}

// What is told of when a key expires is about the key that signs: a subkey, if it is one.
func TestWhenAKeyExpires(t *testing.T) {
	gpg := newKeyring(t)
	if k := load(t, gpg.secret("", gpg.key("", "ed25519", "sign", "never")), ""); !k.Expires().IsZero() || k.Signer().Key() != k.Fingerprint() {
		t.Errorf("%s, %s", k.Expires(), k.Signer().Key())
	}
	primary := gpg.key("", "ed25519", "cert", "never")
	sub := gpg.subkey(primary, "ed25519", "sign", "30d")
	k := load(t, gpg.secret("", primary), "")
	if left := time.Until(k.Expires()); string(k.Signer().Key()) != sub || left < 29*24*time.Hour || left > 30*24*time.Hour {
		t.Errorf("%s expires in %s, want %s in 30 days", k.Signer().Key(), left, sub)
	}
}

// A key that was read before it expired signs nothing afterwards.
func TestAKeyThatExpiresMeanwhileSignsNoMore(t *testing.T) {
	k := load(t, signtest.Private(t, "release", time.Minute+2*time.Second), "") // which was made a minute ago
	if _, err := k.Document(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(k.Expires()) + time.Second)
	if document, err := k.Document(t.Context(), []byte("{}")); document != nil || !errors.Is(err, sign.ErrExpired) {
		t.Errorf("%v, %s", err, document)
	}
}

// Where a newer copy of the public key says that the subkey which signs was revoked, the next one signs, which is the one that gpg picks, also
// by way of gpg. If all were revoked, nothing is signed.
func TestTheNextSubkeySignsWhereOneWasRevoked(t *testing.T) {
	gpg := newKeyring(t)
	t.Setenv("GNUPGHOME", gpg.home)
	primary := gpg.at("20260101").key("", "ed25519", "cert", "never")
	var subkeys []string
	for _, day := range []string{"20260102", "20260103", "20260104"} {
		subkeys = append(subkeys, gpg.at(day).subkey(primary, "ed25519", "sign", "never"))
	}
	inMemory := load(t, gpg.secret("", primary), "")
	byGPG, err := signgpg.Open("gpg:"+primary, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for n := len(subkeys); n > 0; n-- {
		known, err := key.ReadRing(gpg.run("", "--armor", "--export", primary))
		if err != nil {
			t.Fatal(err)
		}
		picked := gpg.signer(gpg.run("", "--local-user", primary, "--clearsign", "--output", "-", gpg.file("text", []byte("{}"))))
		if picked != subkeys[n-1] {
			t.Fatalf("gpg picks %s of %q", picked, subkeys)
		}
		for how, k := range map[string]*sign.Key{"in memory": inMemory, "by gpg": byGPG} {
			fit, err := k.Fit(known)
			if err != nil {
				t.Fatalf("%s: %d subkeys: %v", how, n, err)
			}
			document, err := fit.Document(t.Context(), []byte("{}"))
			if err != nil || gpg.signer(document) != picked {
				t.Errorf("%s: %d subkeys: %v, signed by %s, want %s", how, n, err, fit.Signer().Key(), picked)
			}
		}
		gpg.revokeSubkey(primary, n)
	}
	known, err := key.ReadRing(gpg.run("", "--armor", "--export", primary))
	if err != nil {
		t.Fatal(err)
	}
	unfit := (*sign.UnfitError)(nil)
	if _, err := inMemory.Fit(known); !errors.As(err, &unfit) || !errors.Is(err, sign.ErrRevoked) || !strings.Contains(err.Error(), "its subkey "+subkeys[2]) {
		t.Errorf("all revoked: %v", err)
	}
}
