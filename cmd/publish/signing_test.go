package main

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signing"
)

// passphrase is a canary: it must turn up nowhere.
const passphrase = "correct-horse-CANARY-staple"

// The passphrase comes from a file, an open file or the environment, the key from a file or the environment, and neither is
// shown, whatever goes wrong.
func TestSecretsOfASigningKey(t *testing.T) {
	private, armored := signtest.Protected(t, passphrase, "ed25519")
	dir := t.TempDir()
	public := filepath.Join(dir, "public.asc")
	clitest.Write(t, public, armored)
	keyFile, passFile, empty := filepath.Join(dir, "key.asc"), filepath.Join(dir, "passphrase"), filepath.Join(dir, "empty")
	clitest.Write(t, keyFile, private)
	clitest.Write(t, passFile, passphrase+"\n")
	clitest.Write(t, empty, "\n")
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(pipe[1], []byte(passphrase+"\n")); err != nil {
		t.Fatal(err)
	}
	unix.Close(pipe[1])
	fd := fmt.Sprint(pipe[0]) // which the program closes
	inEnv := clitest.Variables{signing.KeyVariable: private, signing.PassphraseVariable: passphrase}
	for n, row := range []struct {
		env  clitest.Variables
		args []string
		want string
	}{
		{nil, []string{"--sign-key", keyFile, "--sign-passphrase-file", passFile}, ""},
		{nil, []string{"--sign-key", keyFile, "--sign-passphrase-fd", fd}, ""},
		{inEnv, nil, ""},
		{clitest.Variables{signing.PassphraseVariable: passphrase}, []string{"--sign-key", keyFile}, ""},
		{clitest.Variables{"PUBLISH_SIGN_KEY": keyFile, signing.PassphraseVariable: passphrase}, nil, ""},
		{nil, []string{"--sign-key", keyFile}, "protected by a passphrase"},
		{clitest.Variables{signing.PassphraseVariable: "other"}, []string{"--sign-key", keyFile}, "passphrase is wrong"},
		{inEnv, []string{"--sign-key", keyFile}, "want one"},
		{inEnv, []string{"--sign-passphrase-file", passFile}, "more than once"},
		{nil, []string{"--sign-passphrase-file", passFile}, "is not given"},
		{clitest.Variables{signing.PassphraseVariable: passphrase}, nil, "a passphrase is given, but no private key"},
		{clitest.Variables{signing.KeyVariable: "", signing.PassphraseVariable: passphrase}, nil, "PUBLISH_SIGN_KEY_TEXT is set and empty"},
		{clitest.Variables{signing.KeyVariable: ""}, nil, "PUBLISH_SIGN_KEY_TEXT is set and empty"},
		{clitest.Variables{signing.KeyVariable: " \n"}, nil, "PUBLISH_SIGN_KEY_TEXT is set and empty"},
		{clitest.Variables{"PUBLISH_SIGN_KEY": ""}, nil, "PUBLISH_SIGN_KEY: it is empty"},
		{nil, []string{"--sign-key", ""}, "--sign-key\" flag: it is empty"},
		{nil, []string{"--sign-key", empty}, "it is empty"},
		{nil, []string{"--sign-key", os.DevNull}, "regular file"},
		{nil, []string{"--sign-key", keyFile, "--sign-passphrase-file", ""}, "it is empty"},
		{nil, []string{"--sign-key", keyFile, "--sign-passphrase-fd", passphrase}, "want the number of an open file"},
		{clitest.Variables{"PUBLISH_SIGN_PASSPHRASE_FD": passphrase}, []string{"--sign-key", keyFile}, "want the number of an open file"},
		{nil, []string{"--trusted-keys", ""}, "it is empty"},
		{nil, []string{"--sign-key", keyFile, "--sign-passphrase-file", empty}, "it is empty"},
		{nil, []string{"--sign-key", keyFile, "--sign-passphrase-fd", "977"}, "no file of that number is open for reading"},
		{nil, []string{"--sign-key", passFile, "--sign-passphrase-file", passFile}, "neither armored"},
		{nil, []string{"--sign-key", filepath.Join(dir, "none")}, "no such file"},
		{nil, []string{"--sign-key", public}, "public key"},
		{nil, []string{"--resign"}, "needs a private key"},
		{inEnv, []string{"--resign"}, "needs trusted keys"},
	} {
		out := filepath.Join(t.TempDir(), "mirror")
		code, stdout, stderr := execute(t, row.env, append(row.args, "--json", clitest.Spack(t, "v3-unsigned"), "file://"+out)...)
		signtest.WantNoSecret(t, passphrase, private, fmt.Sprint(row.args), stdout+stderr)
		_, err := os.Stat(out)
		switch {
		case row.want == "" && code != cli.ExitDone:
			t.Errorf("%d %v: exit %d: %s", n, row.args, code, stderr)
		case row.want != "" && (code != cli.ExitUsage || !strings.Contains(stderr, row.want)):
			t.Errorf("%d %v: exit %d: %s, want %q", n, row.args, code, stderr, row.want)
		case strings.Contains(stderr, "can be reached"):
			t.Errorf("%d %v: a hint about something else: %s", n, row.args, stderr)
		case row.want != "" && err == nil:
			t.Errorf("%d %v: something was published", n, row.args)
		}
		if row.want == "" {
			if code, stdout, stderr := execute(t, nil, "verify", "--require-signed", "--trusted-keys", public, "file://"+out); code != cli.ExitDone {
				t.Errorf("%v: verify: %s%s", row.args, stdout, stderr)
			}
			wantNoSecretBelow(t, private, out)
		}
	}
}

func wantNoSecretBelow(t testing.TB, private, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		signtest.WantNoSecret(t, passphrase, private, name, string(content))
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// publish sign signs a directory where it is; what is published of it then needs no key. A second run signs nothing.
func TestSignSignsASource(t *testing.T) {
	private := string(signtest.Private(t, "release", 0))
	k, err := sign.ReadKey([]byte(private), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	armored, err := k.Public().Armored()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keyFile, public := filepath.Join(dir, "key"), filepath.Join(dir, "public")
	clitest.Write(t, keyFile, private)
	clitest.Write(t, public, string(armored))
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		source, out := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "mirror")
		if err := os.CopyFS(source, os.DirFS(clitest.Spack(t, fixture))); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := execute(t, nil, "sign", "--dry-run", "--sign-key", keyFile, source)
		if code != cli.ExitDone || !strings.Contains(stdout, "would sign") {
			t.Errorf("%s: dry run: exit %d: %s%s", fixture, code, stdout, stderr)
		}
		if code, _, _ := execute(t, nil, "--require-signed", source, "file://"+out); code != cli.ExitSource {
			t.Errorf("%s: a dry run has signed: exit %d", fixture, code)
		}
		code, stdout, stderr = execute(t, nil, "sign", "--sign-key", keyFile, source)
		if code != cli.ExitDone || !strings.Contains(stdout, string(k.Fingerprint())) {
			t.Errorf("%s: exit %d: %s%s", fixture, code, stdout, stderr)
		}
		if code, stdout, stderr := execute(t, nil, "--require-signed", "--trusted-keys", public, source, "file://"+out); code != cli.ExitDone {
			t.Errorf("%s: published: exit %d: %s%s", fixture, code, stdout, stderr)
		}
		if code, stdout, stderr := execute(t, nil, "verify", "--require-signed", "--trusted-keys", public, "file://"+out); code != cli.ExitDone || strings.Contains(stdout, "warning") {
			t.Errorf("%s: verify: exit %d: %s%s", fixture, code, stdout, stderr)
		}
		code, stdout, _ = execute(t, nil, "sign", "--sign-key", keyFile, source)
		if code != cli.ExitDone || !strings.Contains(stdout, "signed 0 packages") {
			t.Errorf("%s: again: exit %d: %s", fixture, code, stdout)
		}
	}
	if code, _, stderr := execute(t, nil, "sign", clitest.Spack(t, "v3-unsigned")); code != cli.ExitUsage || !strings.Contains(stderr, "no key") {
		t.Errorf("without a key: exit %d: %s", code, stderr)
	}
}

// In layout v2 a signed document stands beside the one that was published before. It alone is the package: for verify, for
// publish keys, and where the mirror is a source.
func TestASignedDocumentSupersedesTheOther(t *testing.T) {
	dir := t.TempDir()
	keyFile, public := filepath.Join(dir, "key"), filepath.Join(dir, "public")
	private := signtest.Private(t, "release", 0)
	k, err := sign.ReadKey(private, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	armored, err := k.Public().Armored()
	if err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, keyFile, string(private))
	clitest.Write(t, public, string(armored))
	mirror, copied := filepath.Join(dir, "mirror"), filepath.Join(dir, "copied")
	for _, step := range []struct {
		args []string
		want []string
		not  string
	}{
		{[]string{spack(t, "v2-unsigned"), "file://" + mirror}, []string{"published 9 packages"}, ""},
		{[]string{"--sign-key", keyFile, spack(t, "v2-unsigned"), "file://" + mirror}, []string{"published 9 packages"}, ""},
		{[]string{"--sign-key", keyFile, spack(t, "v2-unsigned"), "file://" + mirror}, []string{"nothing to do"}, ""},
		{[]string{"verify", "--require-signed", "--trusted-keys", public, "file://" + mirror}, []string{"9 packages", "left over from before it was signed", "no damage", "0 errors"}, ""},
		{[]string{"keys", "list", "file://" + mirror}, []string{string(k.Fingerprint()) + "  9 "}, "not signed"},
		{[]string{"index", "file://" + mirror}, []string{"is right already"}, ""},
		{[]string{"--require-signed", "--trusted-keys", public, mirror, "file://" + copied}, []string{"published 9 packages"}, "not signed"},
		{[]string{"verify", "--require-signed", "--trusted-keys", public, "file://" + copied}, []string{"9 packages", "no damage"}, "left over"},
	} {
		code, stdout, stderr := execute(t, nil, step.args...)
		for _, want := range step.want {
			if code != cli.ExitDone || !strings.Contains(stdout, want) || step.not != "" && strings.Contains(stdout+stderr, step.not) {
				t.Errorf("%q: exit %d, want %q: %s%s", step.args, code, want, stdout, stderr)
			}
		}
	}
}

// The text of a key, or a passphrase, given where the name of its file is wanted is not shown.
func TestASecretGivenAsAFileIsNotShown(t *testing.T) {
	private := string(signtest.Private(t, passphrase, 0))
	file := filepath.Join(t.TempDir(), "key")
	clitest.Write(t, file, private)
	line := strings.ReplaceAll(private, "\n", "")
	for _, row := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{nil, []string{"--sign-key", private}, "give the text in PUBLISH_SIGN_KEY_TEXT"},
		{nil, []string{"--json", "--sign-key", line}, "give the text in PUBLISH_SIGN_KEY_TEXT"},
		{nil, []string{"--sign-key", base64.StdEncoding.EncodeToString([]byte(private))}, "give the text in PUBLISH_SIGN_KEY_TEXT"},
		{map[string]string{"PUBLISH_SIGN_KEY": private}, nil, "give the text in PUBLISH_SIGN_KEY_TEXT"},
		{nil, []string{"--sign-key", file, "--sign-passphrase-file", passphrase}, "there is no such file"},
	} {
		code, stdout, stderr := execute(t, row.env, append(row.args, spack(t, "v3-unsigned"), "file://"+t.TempDir()+"/mirror")...)
		if code != cli.ExitUsage || !strings.Contains(stderr, row.want) {
			t.Errorf("exit %d, want %q: %s", code, row.want, stderr)
		}
		if strings.Contains(stdout+stderr, passphrase) || strings.Contains(stdout+stderr, private[100:140]) || strings.Contains(stdout+stderr, "LS0tLS1CRUdJTi") {
			t.Errorf("a secret is shown: %s%s", stdout, stderr)
		}
	}
}
