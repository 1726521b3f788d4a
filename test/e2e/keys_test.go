package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// A gpg is a keyring of its own, in which keys have no passphrase.
type gpg struct {
	t    *testing.T
	home string
}

func newGPG(t *testing.T) gpg { return gpg{t, gpgtest.Home(t)} }

func (g gpg) try(stdin string, args ...string) (string, error) {
	cmd := exec.Command("gpg", append([]string{"--homedir", g.home, "--no-options", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (g gpg) run(stdin string, args ...string) string {
	g.t.Helper()
	out, err := g.try(stdin, args...)
	if err != nil {
		g.t.Fatalf("gpg %v: %v\n%s", args, err, out)
	}
	return out
}

// at runs gpg as if it were another time.
func (g gpg) at(t time.Time, args ...string) {
	g.t.Helper()
	g.run("", append([]string{"--batch", "--faked-system-time", t.UTC().Format("20060102T150405")}, args...)...)
}

// fingerprint is that of the only key.
func (g gpg) fingerprint() string {
	g.t.Helper()
	for line := range strings.Lines(g.run("", "--with-colons", "--list-keys")) {
		if f, ok := strings.CutPrefix(line, "fpr:::::::::"); ok {
			return strings.TrimSuffix(strings.TrimSpace(f), ":")
		}
	}
	g.t.Fatal("no key")
	return ""
}

// write exports keys into a file.
func (g gpg) write(name string, args ...string) string {
	g.t.Helper()
	if err := os.WriteFile(name, []byte(g.run("", append([]string{"--batch", "--armor"}, args...)...)), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return name
}

// judged is what gpg thinks of the only key in a file, once it has imported that: its validity, and when it expires.
func judged(t *testing.T, armored string) (validity, expires string) {
	t.Helper()
	g := newGPG(t)
	g.run(armored, "--batch", "--import")
	for line := range strings.Lines(g.run("", "--with-colons", "--list-keys")) {
		if fields := strings.Split(line, ":"); fields[0] == "pub" {
			return fields[1], fields[6]
		}
	}
	t.Fatal("gpg has imported no key")
	return "", ""
}

// served is the key that clients of a mirror get, as they find it.
func served(t *testing.T, mirror, fixture, fingerprint string) string {
	t.Helper()
	name := filepath.Join(mirror, "build_cache/_pgp", fingerprint+".pub")
	if strings.HasPrefix(fixture, "v3") {
		manifest, err := os.ReadFile(filepath.Join(mirror, "v3/manifests/key", fingerprint+".key.manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(manifest), `"checksum":`)
		digest := strings.Split(rest, `"`)[1]
		name = filepath.Join(mirror, "blobs/sha256", digest[:2], digest)
	}
	armored, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(armored)
}

// What is new about a key reaches clients: one that signs is published again once it was extended, one that was revoked by keys add, and
// no publisher with an older copy takes that back. gpg imports what is served.
func TestWhatIsNewAboutAKeyIsPublished(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		t.Run(fixture, func(t *testing.T) {
			g, dir := newGPG(t), t.TempDir()
			mirror := filepath.Join(dir, "mirror")
			run := func(args ...string) string {
				t.Helper()
				out, err := exec.Command(bin, args...).CombinedOutput()
				if err != nil {
					t.Fatalf("publish %v: %v\n%s", args, err, out)
				}
				return string(out)
			}
			g.at(time.Now().Add(-48*time.Hour), "--quick-generate-key", "cache", "ed25519", "sign", "10d")
			f := g.fingerprint()
			first, firstPublic := g.write(filepath.Join(dir, "first.asc"), "--export-secret-keys"), g.write(filepath.Join(dir, "first.pub"), "--export")
			run("--sign-key", first, "../testdata/"+fixture, "file://"+mirror)
			_, soon := judged(t, served(t, mirror, fixture, f))
			if out := run("verify", "file://"+mirror); !strings.Contains(out, "it expires on") {
				t.Errorf("verify does not warn: %s", out)
			}

			g.at(time.Now().Add(-24*time.Hour), "--quick-set-expire", f, "5y")
			extended := g.write(filepath.Join(dir, "extended.asc"), "--export-secret-keys")
			run("--sign-key", extended, "../testdata/"+fixture, "file://"+mirror)
			validity, later := judged(t, served(t, mirror, fixture, f))
			if later <= soon || validity == "r" {
				t.Errorf("gpg takes the key to expire at %s, before at %s", later, soon)
			}
			if out := run("verify", "file://"+mirror); strings.Contains(out, "warning") {
				t.Errorf("verify warns: %s", out)
			}
			for _, old := range [][]string{{"--sign-key", first, "../testdata/" + fixture}, {"keys", "add", "--public-key", firstPublic}} {
				run(append(old, "file://"+mirror)...)
				if _, still := judged(t, served(t, mirror, fixture, f)); still != later {
					t.Errorf("%v: gpg takes the key to expire at %s, before at %s", old, still, later)
				}
			}

			certificate := g.run("y\n0\n\ny\n", "--command-fd", "0", "--armor", "--gen-revoke", f)
			g.run(certificate[strings.Index(certificate, "-----BEGIN"):], "--batch", "--import")
			out := run("keys", "add", "--public-key", g.write(filepath.Join(dir, "revoked.pub"), "--export"), "file://"+mirror)
			if !strings.Contains(out, "the changed key was published again") || !strings.Contains(out, "can no longer sign: it has been revoked") {
				t.Errorf("keys add says %s", out)
			}
			run("keys", "add", "--public-key", firstPublic, "file://"+mirror)
			if validity, _ := judged(t, served(t, mirror, fixture, f)); validity != "r" {
				t.Errorf("gpg takes the key for %q", validity)
			}
			if out := run("keys", "list", "file://"+mirror); !strings.Contains(out, "revoked "+time.Now().UTC().Format(time.DateOnly)) {
				t.Errorf("keys list shows %s", out)
			}
			if out := run("verify", "file://"+mirror); !strings.Contains(out, "it was revoked on") {
				t.Errorf("verify does not warn: %s", out)
			}
			if out := run("verify", "--deep", "file://"+mirror); !strings.Contains(out, "no damage") {
				t.Errorf("verify: %s", out)
			}
		})
	}
}
