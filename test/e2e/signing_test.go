package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// A private key and its passphrase in the environment reach no child process, and the process that holds them leaves no
// core. What a build makes is signed all the same.
func TestSecretsReachNoChild(t *testing.T) {
	const passphrase = "correct-horse-CANARY-staple"
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	private, public := signtest.Protected(t, passphrase, "ed25519")
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		t.Run(fixture, func(t *testing.T) { signsWhatACommandBuilds(t, bin, fixture, passphrase, private, public) })
	}
}

func signsWhatACommandBuilds(t *testing.T, bin, fixture, passphrase, private, public string) {
	dir := t.TempDir()
	source, mirror, trusted := filepath.Join(dir, "source"), "file://"+filepath.Join(dir, "mirror"), filepath.Join(dir, "public.asc")
	if err := os.CopyFS(source, os.DirFS("../testdata/"+fixture)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(trusted, []byte(public), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "exec", "--require-signed", source, mirror, "--", "sh", "-c", "env; tr '\\0' ' ' </proc/$PPID/cmdline; cat /proc/$PPID/limits")
	cmd.Env = append(os.Environ(), "PUBLISH_SIGN_KEY_TEXT="+private, "PUBLISH_SIGN_PASSPHRASE="+passphrase)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	signtest.WantNoSecret(t, passphrase, private, "the child", string(out))
	if !regexp.MustCompile(`Max core file size\s+0\s+0\s`).Match(out) {
		t.Errorf("the process may write a core: %s", out)
	}
	if out, err := exec.Command(bin, "verify", "--require-signed", "--trusted-keys", trusted, mirror).CombinedOutput(); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
}
