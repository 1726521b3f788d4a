package key_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

const (
	testdata = "../../test/testdata/"
	signer   = key.Fingerprint("E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5") // keys/one.pub, which signed the fixtures
)

func read(t testing.TB, pattern string) []byte {
	t.Helper()
	names, _ := filepath.Glob(testdata + pattern)
	if len(names) == 0 {
		t.Fatalf("no file %s", pattern)
	}
	content, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func ring(t testing.TB, names ...string) *key.Ring {
	t.Helper()
	var armored []byte
	for _, name := range names {
		armored = append(armored, read(t, "keys/"+name)...)
	}
	r, err := key.ReadRing(armored)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func signedFixtures(t testing.TB) [][]byte {
	var docs [][]byte
	for _, pattern := range []string{"v3-signed/v3/manifests/spec/*/*.json", "v2-signed/build_cache/*.spec.json.sig"} {
		names, _ := filepath.Glob(testdata + pattern)
		for _, name := range names {
			docs = append(docs, read(t, strings.TrimPrefix(name, testdata)))
		}
	}
	if len(docs) < 20 {
		t.Fatalf("found %d signed fixtures", len(docs))
	}
	return docs
}

func TestSignaturesOfGPG(t *testing.T) {
	trusted, both, stranger := ring(t, "one.pub"), ring(t, "two.pub", "one.pub"), ring(t, "two.pub")
	for _, doc := range signedFixtures(t) {
		for _, r := range []*key.Ring{trusted, both} {
			if got, err := r.Verify(doc); err != nil || got != signer {
				t.Fatalf("signed by %s, %v", got, err)
			}
		}
		if _, err := stranger.Verify(doc); err == nil || !strings.Contains(err.Error(), "not among the trusted keys") {
			t.Errorf("a stranger's ring says %v", err)
		}
		text, err := key.Text(doc)
		if err != nil {
			t.Fatal(err)
		}
		_, asManifest := manifest.Parse(text)
		_, asSpec := spec.Parse(text, spec.Format5)
		if asManifest != nil && asSpec != nil {
			t.Errorf("text is neither a manifest nor a spec: %v, %v", asManifest, asSpec)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	trusted := ring(t, "one.pub")
	good := read(t, "v3-signed/v3/manifests/spec/zlib/*.json")
	text, err := key.Text(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string][]byte{
		"an edited text":          bytes.Replace(good, []byte(`"contentLength":4304`), []byte(`"contentLength":4305`), 1),
		"another text before it":  append([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{}\n"), good...),
		"something behind it":     append(bytes.Clone(good), good...),
		"a truncated signature":   good[:len(good)-200],
		"no hash header":          bytes.Replace(good, []byte("Hash: SHA512\n"), nil, 1),
		"two algorithms":          bytes.Replace(good, []byte("Hash: SHA512\n"), []byte("Hash: SHA512, SHA256\n"), 1),
		"an escaped line":         bytes.Replace(good, []byte("{\n\"version\""), []byte("- {\n\"version\""), 1),
		"a signature of nothing":  append([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"), text...),
		"the signature of others": swapSignature(good, read(t, "v3-signed/v3/manifests/spec/munge/*.json")),
	} {
		if bytes.Equal(doc, good) {
			t.Fatalf("%s: the test changes nothing", name)
		}
		if got, err := trusted.Verify(doc); err == nil {
			t.Errorf("%s: accepted as signed by %s", name, got)
		}
	}
	if _, err := trusted.Verify(text); !errors.Is(err, key.ErrUnsigned) {
		t.Errorf("an unsigned document: %v", err)
	}
}

func swapSignature(text, signature []byte) []byte {
	mark := []byte("-----BEGIN PGP SIGNATURE-----")
	return append(bytes.Clone(text[:bytes.Index(text, mark)]), signature[bytes.Index(signature, mark):]...)
}

func TestReadRing(t *testing.T) {
	if got := ring(t, "one.pub", "two.pub").Fingerprints(); len(got) != 2 || got[0] != signer {
		t.Errorf("fingerprints %v", got)
	}
	for name, text := range map[string]string{
		"nothing":           "",
		"no key":            "hello",
		"a truncated key":   string(read(t, "keys/one.pub")[:600]) + "\n-----END PGP PUBLIC KEY BLOCK-----",
		"a private key":     "-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
		"a private key too": string(read(t, "keys/one.pub")) + "-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
	} {
		if _, err := key.ReadRing([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// gpg itself makes the key and the detached signature.
func TestVerifyDetached(t *testing.T) {
	home := t.TempDir()
	gpg := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %v: %v", args, err)
		}
		return out
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	gpg("--quick-generate-key", "test <test@example.invalid>", "ed25519", "sign")
	artifact := filepath.Join(t.TempDir(), "a.tar.gz")
	if err := os.WriteFile(artifact, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	signature := gpg("--armor", "--detach-sign", "--output", "-", artifact)
	r, err := key.ReadRing(gpg("--armor", "--export"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.VerifyDetached(strings.NewReader("content"), signature); err != nil || got != r.Fingerprints()[0] {
		t.Errorf("signed by %s, %v", got, err)
	}
	if _, err := r.VerifyDetached(strings.NewReader("Content"), signature); err == nil {
		t.Error("other content accepted")
	}
	if _, err := r.VerifyDetached(strings.NewReader("content"), []byte("no signature")); err == nil {
		t.Error("no signature accepted")
	}
}

func FuzzText(f *testing.F) {
	for _, doc := range signedFixtures(f)[:3] {
		f.Add(doc)
	}
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{}\n-----BEGIN PGP SIGNATURE-----"))
	r := ring(f, "one.pub")
	f.Fuzz(func(t *testing.T, doc []byte) {
		text, err := key.Text(doc)
		if err == nil && key.Signed(doc) && !bytes.Contains(doc, text) {
			t.Errorf("text %q is not in the document", text)
		}
		if _, verr := r.Verify(doc); verr == nil && err != nil {
			t.Errorf("verified a document whose text cannot be read: %v", err)
		}
	})
}

// Whatever a key file holds, it is read or refused, and what is read can be given out again.
func FuzzReadPublic(f *testing.F) {
	f.Add(read(f, "keys/one.pub"))
	f.Add(read(f, "trust/keys/ed.pub"))
	f.Add(read(f, "trust/keys/exp3.pub"))
	f.Fuzz(func(t *testing.T, armored []byte) {
		p, err := key.ReadPublic(armored)
		r, ringErr := key.ReadRing(armored)
		if err != nil {
			return
		}
		if ringErr != nil || !r.Holds(p.Fingerprint()) {
			t.Errorf("%s cannot be trusted: %v", p.Fingerprint(), ringErr)
		}
	})
}
