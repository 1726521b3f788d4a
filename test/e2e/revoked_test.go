package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// contents are the files below a directory.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := os.ReadFile(name)
		all.WriteString(name + "\n" + string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// A private key that was exported before it, or its subkey, was revoked signs nothing where a copy of the public key says so: among the
// trusted keys, in SOURCE or in DESTINATION. Nothing is stored.
func TestKeyThatIsKnownToBeRevokedSignsNothing(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"key", "subkey"} {
		for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
			t.Run(what+" "+fixture, func(t *testing.T) {
				g, before, dir := newGPG(t), newGPG(t), t.TempDir()
				file := func(name string) string { return filepath.Join(dir, name) }
				usage := map[string]string{"key": "sign", "subkey": "cert"}[what]
				g.at(time.Now().Add(-48*time.Hour), "--quick-generate-key", "cache", "ed25519", usage, "never")
				f := g.fingerprint()
				if what == "subkey" {
					g.at(time.Now().Add(-24*time.Hour), "--quick-add-key", f, "ed25519", "sign", "never")
				}
				old := g.write(file("old.sec"), "--export-secret-keys")
				before.run("", "--batch", "--import", old)
				if what == "key" {
					certificate := g.run("y\n0\n\ny\n", "--command-fd", "0", "--armor", "--gen-revoke", f)
					g.run(certificate[strings.Index(certificate, "-----BEGIN"):], "--batch", "--import")
				} else {
					g.run("key 1\nrevkey\ny\n0\n\ny\nsave\n", "--command-fd", "0", "--edit-key", f)
				}
				revoked := g.write(file("revoked.pub"), "--export")
				other := newGPG(t)
				other.run("", "--batch", "--quick-generate-key", "other", "ed25519", "sign", "never")
				otherKey, otherPublic := other.write(file("other.sec"), "--export-secret-keys"), other.write(file("other.pub"), "--export")
				both := file("both.pub")
				if err := os.WriteFile(both, []byte(contents(t, revoked)+contents(t, otherPublic)), 0o600); err != nil {
					t.Fatal(err)
				}
				run := func(args ...string) (string, int) {
					t.Helper()
					cmd := exec.Command(bin, args...)
					cmd.Env = append(os.Environ(), "GNUPGHOME="+before.home)
					out, err := cmd.CombinedOutput()
					if err != nil && cmd.ProcessState == nil {
						t.Fatal(err)
					}
					return string(out), cmd.ProcessState.ExitCode()
				}
				must := func(args ...string) {
					t.Helper()
					if out, code := run(args...); code != 0 {
						t.Fatalf("publish %v: exit code %d\n%s", args, code, out)
					}
				}
				copied := func(name string) string {
					t.Helper()
					if err := os.CopyFS(file(name), os.DirFS("../testdata/"+fixture)); err != nil {
						t.Fatal(err)
					}
					return file(name)
				}
				// Three mirrors: one that offers the key, one that is signed by another key as well, and a SOURCE with the key.
				source, signed, keyed := copied("source"), file("signed"), copied("keyed")
				must("--sign-key", otherKey, source, "file://"+signed)
				must("keys", "add", "--public-key", revoked, "file://"+signed)
				must("keys", "add", "--public-key", revoked, "file://"+keyed)
				for _, row := range []struct {
					changes string // what stays as it is
					args    []string
				}{
					{file("none"), []string{"--sign-key", old, "--trusted-keys", revoked, source, "file://" + file("none")}},
					{file("none"), []string{"--sign-key", "gpg:" + f, "--trusted-keys", revoked, source, "file://" + file("none")}},
					{file("none"), []string{"--sign-key", old, keyed, "file://" + file("none")}},
					{source, []string{"sign", "--sign-key", old, "--trusted-keys", revoked, source}},
					{keyed, []string{"sign", "--sign-key", old, keyed}},
					{keyed, []string{"--sign-key", old, source, "file://" + keyed}},
					{signed, []string{"--sign-key", old, "--resign", "--if-exists", "overwrite", "--trusted-keys", both, source, "file://" + signed}},
					{signed, []string{"--sign-key", old, "--resign", "--trusted-keys", otherPublic, source, "file://" + signed}},
					{signed, []string{"--sign-key", old, "--publish-keys=false", source, "file://" + signed}},
					{signed, []string{"keys", "rotate", "--from", other.fingerprint(), "--sign-key", old, "file://" + signed}},
					{signed, []string{"keys", "rotate", "--from", other.fingerprint(), "--sign-key", "gpg:" + f, "file://" + signed}},
				} {
					was := contents(t, row.changes)
					out, code := run(row.args...)
					if code != 2 || !strings.Contains(out, f) || !strings.Contains(out, "it has been revoked at") || !strings.Contains(out, "sign with another key") {
						t.Errorf("publish %v: exit code %d\n%s", row.args, code, out)
					}
					if contents(t, row.changes) != was {
						t.Errorf("publish %v: it has changed %s", row.args, row.changes)
					}
				}
			})
		}
	}
}
