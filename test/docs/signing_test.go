package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign/kms/kmstest"
)

// The scripts of the page on signing work, one after the other, as they stand there.
func TestSigningRuns(t *testing.T) {
	scripts := regexp.MustCompile("(?s)<!-- this runs in a test -->\n```sh\n(.*?)```").FindAllStringSubmatch(pages(t)["docs/signing.md"], -1)
	if len(scripts) < 3 {
		t.Fatalf("%d scripts", len(scripts))
	}
	home, err := os.MkdirTemp("", "gpg") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	dir, bin := t.TempDir(), t.TempDir()
	if err := os.Symlink(publish(t), filepath.Join(bin, "publish")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "buildcache"), os.DirFS("../testdata/v3-unsigned")); err != nil {
		t.Fatal(err)
	}
	// Where a person would be asked, the passphrase comes from the file, which the first script makes.
	gpg := "#!/bin/sh\nexec " + which(t, "gpg") + " --batch --pinentry-mode loopback --passphrase-file " + filepath.Join(dir, "passphrase") + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "gpg"), []byte(gpg), 0o755); err != nil {
		t.Fatal(err)
	}
	kms := kmstest.Start(t)
	kms.Add(t, "RSA_4096", "release")
	for _, script := range scripts {
		cmd := exec.Command("bash", "-euxo", "pipefail", "-c", script[1])
		cmd.Dir = dir
		cmd.Stdin = strings.NewReader("correct horse\n")
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home, "PATH="+bin+":"+os.Getenv("PATH"),
			"AWS_ENDPOINT_URL_KMS="+kms.URL, "AWS_REGION="+kmstest.Region, "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if strings.Contains(string(out), "correct horse") {
			t.Errorf("the passphrase is shown: %s", out)
		}
		t.Logf("%s", out)
	}
}

func which(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
