//go:build spack

package spack

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
