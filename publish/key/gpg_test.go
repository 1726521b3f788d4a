package key_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
)

// A keyring is one of gpg's own, which makes keys and signatures, and judges them.
type keyring struct {
	t    testing.TB
	home string
	time string // what gpg takes for now; empty: the time
}

func newKeyring(t testing.TB) *keyring {
	t.Helper()
	return &keyring{t: t, home: gpgtest.Home(t)}
}

func (k *keyring) command(args ...string) *exec.Cmd {
	all := []string{"--homedir", k.home, "--no-options", "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}
	if k.time != "" {
		all = append(all, "--faked-system-time", k.time)
	}
	return exec.Command("gpg", append(all, args...)...)
}

func (k *keyring) run(input []byte, args ...string) []byte {
	k.t.Helper()
	cmd := k.command(args...)
	var errs strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(input)), &errs
	out, err := cmd.Output()
	if err != nil {
		k.t.Fatalf("gpg %v: %v\n%s", args, err, errs.String())
	}
	return out
}

// version is that of gpg: 2.2, 2.4.
func (k *keyring) version() string {
	k.t.Helper()
	parts := strings.SplitN(strings.Fields(string(k.run(nil, "--version")))[2], ".", 3)
	return parts[0] + "." + parts[1]
}

// at makes it another time.
func (k *keyring) at(day string) *keyring { return &keyring{k.t, k.home, day + "T120000"} }

// key makes a key that never expires, and returns its fingerprint.
func (k *keyring) key(name, algorithm, usage, expires string) string {
	k.t.Helper()
	k.run(nil, "--quick-generate-key", name+" <"+name+"@example.invalid>", algorithm, usage, expires)
	for _, line := range strings.Split(string(k.run(nil, "--with-colons", "--fingerprint", "="+name+" <"+name+"@example.invalid>")), "\n") {
		if f, ok := strings.CutPrefix(line, "fpr:::::::::"); ok {
			return strings.TrimSuffix(f, ":")
		}
	}
	k.t.Fatal("gpg made no key")
	return ""
}

func (k *keyring) public(who string) []byte {
	k.t.Helper()
	return k.run(nil, "--armor", "--export", who)
}

func (k *keyring) sign(who string, text []byte, more ...string) []byte {
	k.t.Helper()
	return k.run(text, append(more, "--local-user", who, "--clearsign", "--armor", "--output", "-")...)
}

// accepts is all that Spack asks of gpg: the exit status.
func (k *keyring) accepts(document []byte) bool {
	k.t.Helper()
	f, err := os.CreateTemp(k.home, "document")
	if err != nil {
		k.t.Fatal(err)
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(document); err != nil {
		k.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		k.t.Fatal(err)
	}
	return k.command("--verify", f.Name()).Run() == nil
}

// revoke revokes a key as of now, for a reason that gpg gives by number, and returns the
// certificate of that.
func (k *keyring) revoke(fingerprint, reason string) []byte {
	k.t.Helper()
	cmd := k.command("--command-fd", "0", "--output", filepath.Join(k.home, "revoke.asc"), "--yes", "--gen-revoke", fingerprint)
	cmd.Args = without(cmd.Args, "--batch")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("y\n%s\n\ny\n", reason))
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("gpg --gen-revoke: %v\n%s", err, out)
	}
	certificate, err := os.ReadFile(filepath.Join(k.home, "revoke.asc"))
	if err != nil {
		k.t.Fatal(err)
	}
	k.run(certificate, "--import")
	return certificate
}

func without(args []string, arg string) []string {
	var rest []string
	for _, a := range args {
		if a != arg {
			rest = append(rest, a)
		}
	}
	return rest
}
