// Package signtest makes private keys for tests.
package signtest

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
)

// Private returns a new armored private key of ed25519 with a lifetime. 0 means for ever.
func Private(t testing.TB, name string, lifetime time.Duration) []byte {
	t.Helper()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(lifetime / time.Second), Time: func() time.Time { return time.Now().Add(-time.Minute) }}
	e, err := openpgp.NewEntity(name, "", name+"@example.invalid", config)
	if err != nil {
		t.Fatal(err)
	}
	e.Subkeys = nil
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PrivateKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SerializePrivateWithoutSigning(w, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

// Protected returns a new private key that gpg has made and protected, and its public half, both armored. The
// algorithm is one of gpg's, such as ed25519.
func Protected(t testing.TB, passphrase, algorithm string) (private, public string) {
	t.Helper()
	home := gpgtest.Home(t)
	gpg := func(args ...string) string {
		cmd := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", passphrase, "--armor"}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(args, err)
		}
		return string(out)
	}
	gpg("--quick-generate-key", "release <release@example.invalid>", algorithm, "sign", "never")
	return gpg("--export-secret-keys"), gpg("--export")
}

// Secrets returns the texts that must not be shown: a passphrase, and the lines of a private key.
func Secrets(passphrase, private string) []string {
	secrets := []string{passphrase}
	for _, line := range strings.Split(private, "\n") {
		if len(line) > 40 && !strings.HasPrefix(line, "-") {
			secrets = append(secrets, line)
		}
	}
	return secrets
}

// WantNoSecret fails the test if a text shows a secret.
func WantNoSecret(t testing.TB, passphrase, private, where, text string) {
	t.Helper()
	for _, secret := range Secrets(passphrase, private) {
		if strings.Contains(text, secret) {
			t.Errorf("%s: a secret is shown: %s", where, text)
		}
	}
}

// Key returns a new key in memory.
func Key(t testing.TB, name string) *sign.Key {
	t.Helper()
	k, err := sign.ReadKey(Private(t, name, 0), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A Counter is a Signer that counts its signatures, and can fail after a number of them.
type Counter struct {
	sign.Signer
	Signed atomic.Int64
	Fail   int64 // the number of signatures after which it fails; 0 means never
	Err    error
}

// Sign implements sign.Signer.
func (c *Counter) Sign(ctx context.Context, kind sign.Kind, content io.Reader) ([]byte, error) {
	if n := c.Signed.Add(1); c.Fail > 0 && n > c.Fail {
		return nil, c.Err
	}
	return c.Signer.Sign(ctx, kind, content)
}
