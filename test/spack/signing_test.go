//go:build spack

package spack

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/kms/kmstest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
)

// What we sign, Spack installs once it trusts the key that was published along, and not before. RSA of 3,072 bits is the size
// whose signatures gpg refuses without the checksum of their armor.
func TestSpackInstallsWhatWeSign(t *testing.T) {
	for _, algorithm := range []string{"rsa3072", "ed25519", "nistp256"} {
		t.Run(algorithm, func(t *testing.T) {
			s := newSpack(t)
			m := filepath.Join(t.TempDir(), "mirror")
			signed(t, m, algorithm, testdata+strings.Replace(s.fixtures()[0], "-signed", "-unsigned", 1))
			s.reading(t, m, true)
			hash := hashOf(t, s, m, "zlib")
			if out, err := s.try("buildcache", "install", "--otherarch", "/"+hash); err == nil {
				t.Errorf("Spack installs it without the key: %s", out)
			}
			s.run(t, "buildcache", "keys", "--install", "--trust")
			s.run(t, "buildcache", "install", "--otherarch", "/"+hash)
			if out := s.run(t, "find", "--format", "{hash}", "/"+hash); !strings.Contains(out, hash) {
				t.Errorf("zlib is not installed: %s", out)
			}
		})
	}
}

// What a key in AWS KMS and a key that gpg has sign, Spack installs as well.
func TestSpackInstallsWhatKeysElsewhereSign(t *testing.T) {
	k := kmstest.Start(t)
	k.Add(t, "RSA_4096", "release")
	public := filepath.Join(t.TempDir(), "kms.pub")
	writeFile(t, public, []byte(k.Certificate(t, "release")))
	home := gpgtest.Home(t)
	gpg := exec.Command("gpg", "--homedir", home, "--batch", "--passphrase", "", "--quick-generate-key", "release <release@example.invalid>", "ed25519", "sign", "never")
	if out, err := gpg.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	listing, err := exec.Command("gpg", "--homedir", home, "--with-colons", "--list-keys").Output()
	fingerprint := regexp.MustCompile(`(?m)^fpr:+([0-9A-F]{40}):`).FindSubmatch(listing)
	if err != nil || fingerprint == nil {
		t.Fatalf("%v: %s", err, listing)
	}
	for name, args := range map[string][]string{
		"AWS KMS": {"--sign-key", "awskms:///alias/release", "--sign-public-key", public},
		"gpg":     {"--sign-key", "gpg:" + string(fingerprint[1])},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpack(t)
			m := filepath.Join(t.TempDir(), "mirror")
			cmd := exec.Command(bin(t), append(args, testdata+strings.Replace(s.fixtures()[0], "-signed", "-unsigned", 1), "file://"+m)...)
			cmd.Env = append(os.Environ(), "GNUPGHOME="+home, "AWS_ENDPOINT_URL_KMS="+k.URL, "AWS_REGION="+kmstest.Region, "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
			}
			s.reading(t, m, true)
			s.run(t, "buildcache", "keys", "--install", "--trust")
			s.run(t, "buildcache", "install", "--otherarch", "/"+hashOf(t, s, m, "zlib"))
		})
	}
}

// After signatures were replaced, a client needs the new key and nothing else.
func TestSpackInstallsWhatWeSignAgain(t *testing.T) {
	s := newSpack(t)
	fixture := testdata + s.fixtures()[0]
	m := published(t, s.fixtures()[0])
	s.reading(t, m, true)
	s.run(t, "buildcache", "keys", "--install", "--trust")
	hash := hashOf(t, s, m, "zlib")
	signed(t, m, "ed25519", "--resign", "--trusted-keys", testdata+"keys/one.pub", fixture)
	if out, err := s.try("buildcache", "install", "--otherarch", "/"+hash); err == nil {
		t.Errorf("Spack installs it with the old key: %s", out)
	}
	s.run(t, "buildcache", "keys", "--install", "--trust")
	s.run(t, "buildcache", "install", "--otherarch", "/"+hash)
}

// signed publishes into a directory with a new key.
func signed(t *testing.T, mirror, algorithm string, args ...string) {
	t.Helper()
	const passphrase = "correct horse"
	private, public := signtest.Protected(t, passphrase, algorithm)
	dir := t.TempDir()
	key, trusted := filepath.Join(dir, "key"), filepath.Join(dir, "public")
	writeFile(t, key, []byte(private))
	writeFile(t, trusted, []byte(public))
	cmd := exec.Command(bin(t), append(append([]string{"--sign-key", key}, args...), "file://"+mirror)...)
	cmd.Env = append(os.Environ(), "PUBLISH_SIGN_PASSPHRASE="+passphrase)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	if args[0] != "--resign" { // after which the old key is still there
		publish(t, "verify", "--require-signed", "--trusted-keys", trusted, "file://"+mirror)
	}
}

// hashOf is the hash of a package that a mirror offers.
func hashOf(t *testing.T, s *spack, mirror, name string) string {
	t.Helper()
	for hash, r := range indexOf(t, mirror, s.v3()) {
		if node := r.Spec.(map[string]any); r.InBuildcache && node["name"] == name {
			return hash
		}
	}
	t.Fatalf("the mirror offers no %s", name)
	return ""
}

// In layout v2 a document that was published before its package was signed stays beside the signed one. Spack reads the signed
// one, and without the key it installs neither.
func TestSpackReadsTheSignedOfTwoDocuments(t *testing.T) {
	s := newSpack(t)
	m := filepath.Join(t.TempDir(), "mirror")
	publish(t, testdata+"v2-unsigned", "file://"+m)
	signed(t, m, "ed25519", testdata+"v2-unsigned")
	documents, err := filepath.Glob(filepath.Join(m, "build_cache", "*.spec.json"))
	if err != nil || len(documents) < 5 {
		t.Fatal(documents, err)
	}
	checksum := regexp.MustCompile(`("hash":\s*")[0-9a-f]{64}`)
	for _, name := range documents { // so that what is read of them does not install
		text, err := os.ReadFile(name)
		if err != nil || !checksum.Match(text) {
			t.Fatalf("%s: %v: %s", name, err, text)
		}
		writeFile(t, name, checksum.ReplaceAll(text, []byte("${1}"+strings.Repeat("0", 64))))
	}
	hash := hashIn(t, m, "zlib")
	other := newSpack(t) // of its own, since 0.23 leaves an empty directory behind
	other.reading(t, m, true)
	if out, err := other.try("buildcache", "install", "--otherarch", "/"+hash); err == nil {
		t.Errorf("Spack installs it without the key: %s", out)
	}
	s.reading(t, m, true)
	s.run(t, "buildcache", "keys", "--install", "--trust")
	s.run(t, "buildcache", "install", "--otherarch", "/"+hash)
	if out := s.run(t, "find", "--format", "{hash}", "/"+hash); !strings.Contains(out, hash) {
		t.Errorf("zlib is not installed: %s", out)
	}
}

// hashIn is the hash of a package of a mirror of layout v2, by the name of its document.
func hashIn(t *testing.T, mirror, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(mirror, "build_cache", "*-"+name+"-*.spec.json"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	base := strings.TrimSuffix(filepath.Base(found[0]), ".spec.json")
	return base[strings.LastIndex(base, "-")+1:]
}

// What is new about a key reaches Spack when it installs the keys of a mirror again: that it was extended, has expired, or was revoked. Spack installs
// what an expired or a revoked key has signed all the same, which is what verify and the documentation say.
func TestSpackLearnsWhatIsNewAboutAKey(t *testing.T) {
	home, dir := gpgtest.Home(t), t.TempDir()
	gpg := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", home, "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(args, err)
		}
		return string(out)
	}
	at := func(hours int, args ...string) {
		t.Helper()
		gpg("", append([]string{"--batch", "--faked-system-time", time.Now().Add(-time.Duration(hours) * time.Hour).UTC().Format("20060102T150405")}, args...)...)
	}
	s := newSpack(t)
	m, key, public := filepath.Join(dir, "mirror"), filepath.Join(dir, "key"), filepath.Join(dir, "public")
	at(96, "--quick-generate-key", "cache", "ed25519", "sign", "10d")
	listing := gpg("", "--with-colons", "--list-keys")
	f := regexp.MustCompile(`(?m)^fpr:+([0-9A-F]{40}):`).FindStringSubmatch(listing)[1]
	writeFile(t, key, []byte(gpg("", "--batch", "--armor", "--export-secret-keys")))
	publish(t, "--sign-key", key, testdata+strings.Replace(s.fixtures()[0], "-signed", "-unsigned", 1), "file://"+m)
	s.reading(t, m, true)
	s.run(t, "buildcache", "keys", "--install", "--trust")

	for _, step := range []struct {
		name     string
		change   func()
		validity string // as gpg lists it: u ultimate, e expired, r revoked
		installs string
	}{
		{"extended", func() { at(72, "--quick-set-expire", f, "5y") }, "u", "munge"},
		{"expired before it signed", func() { at(48, "--quick-set-expire", f, "1d") }, "e", "zlib"},
		{"revoked", func() {
			certificate := gpg("y\n0\n\ny\n", "--command-fd", "0", "--armor", "--gen-revoke", f)
			gpg(certificate, "--batch", "--import")
		}, "r", "zlib"},
	} {
		step.change()
		writeFile(t, public, []byte(gpg("", "--batch", "--armor", "--export")))
		publish(t, "keys", "add", "--public-key", public, "file://"+m)
		s.run(t, "buildcache", "keys", "--install", "--trust", "--force") // 0.23 keeps the file that it has fetched before
		if got := s.validity(t, f); got != step.validity {
			t.Errorf("%s: gpg of Spack takes the key for %q, want %q", step.name, got, step.validity)
		}
		hash := hashOf(t, s, m, step.installs)
		s.run(t, "buildcache", "install", "--otherarch", "--force", "/"+hash)
		if out := s.run(t, "find", "--format", "{hash}", "/"+hash); !strings.Contains(out, hash) {
			t.Errorf("%s: %s is not installed: %s", step.name, step.installs, out)
		}
	}
}

// validity is what the gpg of Spack thinks of a key: one letter.
func (s *spack) validity(t *testing.T, fingerprint string) string {
	t.Helper()
	out, err := exec.Command("gpg", "--homedir", filepath.Join(s.home, "gpg"), "--with-colons", "--list-keys", fingerprint).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Split(line, ":"); fields[0] == "pub" {
			return fields[1]
		}
	}
	t.Fatalf("it is not there: %s", out)
	return ""
}

// After a rotation, a client needs the new key. Once the old key was retired, a new client is offered the new one alone, and installs.
func TestSpackInstallsAfterARotation(t *testing.T) {
	const old, passphrase = "E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5", "correct horse"
	private, public := signtest.Protected(t, passphrase, "ed25519")
	next, trusted := filepath.Join(t.TempDir(), "next.asc"), filepath.Join(t.TempDir(), "next.pub")
	writeFile(t, next, []byte(private))
	writeFile(t, trusted, []byte(public))
	had := newSpack(t)
	m := published(t, had.fixtures()[0])
	had.reading(t, m, true)
	had.run(t, "buildcache", "keys", "--install", "--trust")
	hash := hashOf(t, had, m, "zlib")
	rotate := exec.Command(bin(t), "keys", "rotate", "--from", old, "--sign-key", next, "file://"+m)
	rotate.Env = append(os.Environ(), "PUBLISH_SIGN_PASSPHRASE="+passphrase)
	if out, err := rotate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	publish(t, "keys", "retire", "file://"+m, old)
	publish(t, "verify", "--require-signed", "--trusted-keys", trusted, "file://"+m)
	if out, err := had.try("buildcache", "install", "--otherarch", "/"+hash); err == nil {
		t.Errorf("Spack installs it with the old key: %s", out)
	}
	for what, s := range map[string]*spack{"one that had the old key": had, "a new one": newSpack(t)} {
		s.reading(t, m, true)
		s.run(t, "buildcache", "keys", "--install", "--trust")
		if out := s.run(t, "gpg", "list", "--trusted"); strings.Contains(out, old) != (s == had) {
			t.Errorf("%s: it trusts %s", what, out)
		}
		s.run(t, "buildcache", "install", "--otherarch", "/"+hash)
	}
}
