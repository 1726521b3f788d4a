package sign_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
)

// A keyring is one of gpg's own, which makes keys and judges signatures.
type keyring struct {
	t    testing.TB
	home string
	day  string // what gpg takes for today; empty: today
}

func newKeyring(t testing.TB) *keyring {
	t.Helper()
	return &keyring{t: t, home: gpgtest.Home(t)}
}

func (k *keyring) at(day string) *keyring { return &keyring{k.t, k.home, day} }

func (k *keyring) command(passphrase string, args ...string) *exec.Cmd {
	all := []string{"--homedir", k.home, "--no-options", "--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", passphrase}
	if k.day != "" {
		all = append(all, "--faked-system-time", k.day+"T120000")
	}
	return exec.Command("gpg", append(all, args...)...)
}

func (k *keyring) run(passphrase string, args ...string) []byte {
	k.t.Helper()
	cmd := k.command(passphrase, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		k.t.Fatalf("gpg %v: %v\n%s", args, err, errs.String())
	}
	return out
}

// key makes a primary key and returns its fingerprint.
func (k *keyring) key(passphrase, algorithm, usage, expires string) string {
	k.t.Helper()
	name := strings.ReplaceAll(k.t.Name(), "/", " ") + " " + algorithm + " <release@example.invalid>"
	k.run(passphrase, "--quick-generate-key", name, algorithm, usage, expires)
	all := k.fingerprints()
	return all[len(all)-1]
}

// subkey adds a subkey and returns its fingerprint.
func (k *keyring) subkey(primary, algorithm, usage, expires string) string {
	k.t.Helper()
	k.run("", "--quick-add-key", primary, algorithm, usage, expires)
	all := k.fingerprints()
	return all[len(all)-1]
}

// fingerprints are those of all keys and subkeys, in the order in which gpg lists them.
func (k *keyring) fingerprints() []string {
	k.t.Helper()
	var all []string
	for _, line := range strings.Split(string(k.run("", "--with-colons", "--fingerprint", "--fingerprint")), "\n") {
		if f, ok := strings.CutPrefix(line, "fpr:::::::::"); ok {
			all = append(all, strings.TrimSuffix(f, ":"))
		}
	}
	return all
}

func (k *keyring) secret(passphrase string, who string) []byte {
	k.t.Helper()
	return k.run(passphrase, "--armor", "--export-secret-keys", who)
}

// importing returns a keyring that knows a public key.
func importing(t testing.TB, public []byte) *keyring {
	t.Helper()
	k := newKeyring(t)
	k.run("", "--import", k.file("key", public))
	return k
}

func (k *keyring) file(name string, content []byte) string {
	k.t.Helper()
	name = filepath.Join(k.home, name)
	if err := os.WriteFile(name, content, 0o600); err != nil {
		k.t.Fatal(err)
	}
	return name
}

// rejects is what gpg says against a document; empty if it exits with status 0, which is all that Spack looks at.
func (k *keyring) rejects(document []byte) string {
	k.t.Helper()
	out, err := k.command("", "--verify", k.file("document", document)).CombinedOutput()
	if err != nil {
		return string(out)
	}
	return ""
}

// rejectsDetached is rejects for a file and its detached signature.
func (k *keyring) rejectsDetached(content, signature []byte) string {
	k.t.Helper()
	out, err := k.command("", "--verify", k.file("content.asc", signature), k.file("content", content)).CombinedOutput()
	if err != nil {
		return string(out)
	}
	return ""
}

// signer is the fingerprint of the key or subkey that gpg names when it verifies a document.
func (k *keyring) signer(document []byte) string {
	k.t.Helper()
	for _, line := range strings.Split(string(k.run("", "--status-fd", "1", "--verify", k.file("document", document))), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "VALIDSIG" {
			return f[2]
		}
	}
	k.t.Fatal("gpg names no signer")
	return ""
}

// revokeSubkey revokes a subkey by its number, from 1 on.
func (k *keyring) revokeSubkey(primary string, n int) {
	k.t.Helper()
	cmd := exec.Command("gpg", "--homedir", k.home, "--no-options", "--no-tty", "--command-fd", "0", "--edit-key", primary)
	cmd.Stdin = strings.NewReader(fmt.Sprintf("key %d\nrevkey\ny\n0\n\ny\nsave\n", n))
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("revoke %d: %v\n%s", n, err, out)
	}
}
