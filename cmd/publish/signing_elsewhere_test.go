package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/kms/kmstest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// atKMS lets the program find a stand-in for KMS.
func atKMS(t *testing.T) *kmstest.Server {
	t.Helper()
	s := kmstest.Start(t)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_KMS": s.URL, "AWS_REGION": kmstest.Region, "AWS_ACCESS_KEY_ID": "AKIDCANARY", "AWS_SECRET_ACCESS_KEY": passphrase,
		"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	return s
}

// create makes the public key of a key in KMS.
func create(t *testing.T, dir, name string) (file string) {
	t.Helper()
	code, stdout, stderr := execute(t, nil, "keys", "create", "--kms", name, "--name", "Cache releases", "--email", "cache@example.org")
	if code != cli.ExitDone || !strings.Contains(stderr, "made the public key ") {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	file = filepath.Join(dir, "release.pub")
	write(t, file, stdout)
	return file
}

// A key in KMS signs what is published, once; a rotation to it signs the rest. Verify accepts both.
func TestAKeyInKMSSigns(t *testing.T) {
	s := atKMS(t)
	s.Add(t, "RSA_2048", "release")
	const name = "awskms:///alias/release"
	public := create(t, t.TempDir(), name)
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		out := "file://" + filepath.Join(t.TempDir(), "mirror")
		for _, status := range []string{"published", "unchanged"} {
			before := s.Asked("Sign")
			code, stdout, stderr := execute(t, nil, "--json", "--sign-key", name, "--sign-public-key", public, spack(t, fixture), out)
			if code != cli.ExitDone || !strings.Contains(stdout, `"result": "`+status) {
				t.Fatalf("%s: exit %d: %s%s", fixture, code, stdout, stderr)
			}
			if signed := s.Asked("Sign") - before; (status == "unchanged") != (signed == 0) {
				t.Errorf("%s: %s: %d signatures", fixture, status, signed)
			}
		}
		if code, stdout, stderr := execute(t, nil, "verify", "--require-signed", "--trusted-keys", public, out); code != cli.ExitDone {
			t.Errorf("%s: verify: %s%s", fixture, stdout, stderr)
		}
	}
	out := "file://" + filepath.Join(t.TempDir(), "mirror")
	if code, _, stderr := execute(t, nil, spack(t, "v3-signed"), out); code != cli.ExitDone {
		t.Fatal(stderr)
	}
	s.Fail(kmstest.Fault{Status: 400, Code: "ThrottlingException"}, kmstest.Fault{Status: 500, Code: "KMSInternalException"})
	code, stdout, stderr := execute(t, nil, "keys", "rotate", "--from", "E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5", "--sign-key", name, "--sign-public-key", public, out)
	if code != cli.ExitDone || !strings.Contains(stdout, "11 packages were signed again") {
		t.Errorf("rotate: exit %d: %s%s", code, stdout, stderr)
	}
	if n := s.Asked("GetPublicKey") + s.Asked("DescribeKey"); n != 2 {
		t.Errorf("%d requests beside those for signatures, want the two of keys create: signing takes kms:Sign alone", n)
	}
}

// Whatever is wrong with a key in KMS, there is an error that says so, and nothing is published.
func TestAKeyInKMSThatDoesNotSign(t *testing.T) {
	s := atKMS(t)
	theirs := s.Add(t, "RSA_2048", "release")
	other := s.Add(t, "RSA_2048", "other")
	const name = "awskms:///alias/release"
	dir := t.TempDir()
	public := create(t, dir, name)
	passFile, private := filepath.Join(dir, "passphrase"), filepath.Join(dir, "private")
	write(t, passFile, passphrase)
	write(t, private, string(signtest.Private(t, "x", 0)))
	both := []string{"--sign-key", name, "--sign-public-key", public}
	for want, row := range map[string]struct {
		args   []string
		code   int
		before func()
	}{
		"allow kms:Sign on awskms:///alias/release": {both, cli.ExitCredentials, func() { s.Deny("kms:Sign") }},
		"it is disabled":                          {both, cli.ExitCredentials, func() { s.Change(func() { theirs.State = "Disabled" }) }},
		"pending deletion":                        {both, cli.ExitCredentials, func() { s.Change(func() { theirs.State = "PendingDeletion" }) }},
		"not meant to sign":                       {both, cli.ExitCredentials, func() { s.Change(func() { theirs.Usage = "ENCRYPT_DECRYPT" }) }},
		"--sign-public-key is that of another":    {both, cli.ExitCredentials, func() { s.Point("release", other) }},
		"no such key in this region":              {both, cli.ExitCredentials, func() { s.Point("release", nil) }},
		"no region is known":                      {both, cli.ExitCredentials, func() { t.Setenv("AWS_REGION", "") }},
		"--sign-public-key: an awskms key needs":  {both[:2], cli.ExitUsage, func() {}},
		"PGP PUBLIC KEY BLOCK":                    {[]string{"--sign-key", name, "--sign-public-key", private}, cli.ExitUsage, func() {}},
		"no such file":                            {[]string{"--sign-key", name, "--sign-public-key", "/none"}, cli.ExitUsage, func() {}},
		"an awskms key has none":                  {slices.Concat(both, []string{"--sign-passphrase-file", passFile}), cli.ExitUsage, func() {}},
		"it belongs to an awskms key":             {[]string{"--sign-key", private, "--sign-public-key", public}, cli.ExitUsage, func() {}},
		"did you mean awskms:///alias/release?":   {[]string{"--sign-key", "kms:alias/release"}, cli.ExitUsage, func() {}},
		"it needs trusted keys":                   {slices.Concat(both, []string{"--resign"}), cli.ExitUsage, func() {}},
		"unknown kind of key":                     {[]string{"--sign-key", "pkcs11:token=release"}, cli.ExitUsage, func() {}},
		"want a file, gpg:FINGERPRINT or awskms":  {[]string{"--sign-key", "gcpkms://projects/p/locations/global"}, cli.ExitUsage, func() {}},
		"give --kms":                              {[]string{"keys", "create"}, cli.ExitUsage, func() {}},
		"--expires \"soon\"":                      {[]string{"keys", "create", "--kms", name, "--name", "x", "--expires", "soon"}, cli.ExitUsage, func() {}},
		"would have expired":                      {[]string{"keys", "create", "--kms", name, "--name", "x", "--expires", "2020-01-01"}, cli.ExitUsage, func() {}},
		"--kms \"alias/release\"":                 {[]string{"keys", "create", "--kms", "alias/release", "--name", "x"}, cli.ExitUsage, func() {}},
		"allow kms:DescribeKey":                   {[]string{"keys", "create", "--kms", name, "--name", "x"}, cli.ExitUpload, func() { s.Deny("kms:DescribeKey") }},
		"want Enabled, SIGN_VERIFY and RSA_4096":  {[]string{"keys", "create", "--kms", name, "--name", "x"}, cli.ExitCredentials, func() { s.Change(func() { theirs.State = "Disabled" }) }},
		"the signature was made with another key": {both, cli.ExitCredentials, func() { s.Change(func() { theirs.Again = true }) }},
	} {
		row.before()
		out := filepath.Join(t.TempDir(), "mirror")
		if row.args[0] != "keys" {
			row.args = slices.Concat(row.args, []string{spack(t, "v3-unsigned"), "file://" + out})
		}
		code, stdout, stderr := execute(t, nil, row.args...)
		if code != row.code || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit %d, want %d: %s", want, code, row.code, stderr)
		}
		if row.args[0] == "keys" && stdout != "" {
			t.Errorf("%q: a key is printed: %s", want, stdout)
		}
		wantNothingStored(t, want, out)
		if strings.Contains(stdout+stderr, passphrase) {
			t.Errorf("%q: a secret is shown: %s", want, stderr)
		}
		s.Change(func() { theirs.State, theirs.Usage, theirs.Again = "Enabled", "SIGN_VERIFY", false })
		s.Point("release", theirs)
		s.Deny()
		t.Setenv("AWS_REGION", kmstest.Region)
	}
}

// A key that gpg has signs what is published, also with a passphrase, which is shown nowhere and is no argument of gpg.
func TestAKeyOfGPGSigns(t *testing.T) {
	home := gpgtest.Home(t)
	t.Setenv("GNUPGHOME", home)
	gpg := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("gpg", append([]string{"--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", passphrase}, args...)...).Output()
		if err != nil {
			t.Fatal(args, err)
		}
		return string(out)
	}
	gpg("--quick-generate-key", "release <release@example.invalid>", "ed25519", "sign", "never")
	dir := t.TempDir()
	public, passFile, wrongFile := filepath.Join(dir, "release.pub"), filepath.Join(dir, "passphrase"), filepath.Join(dir, "wrong")
	write(t, public, gpg("--armor", "--export"))
	write(t, passFile, passphrase+"\n")
	write(t, wrongFile, "another-CANARY")
	name := "gpg:"
	for line := range strings.Lines(gpg("--with-colons", "--list-keys")) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			name += f[9]
		}
	}
	spied := spyOnGPG(t)
	for want, row := range map[string]struct {
		args []string
		code int
	}{
		"":                                       {[]string{"--sign-key", name, "--sign-passphrase-file", passFile}, cli.ExitDone},
		"gpg: something that nobody knows":       {[]string{"--sign-key", name, "--sign-passphrase-file", passFile, "--keep-going"}, cli.ExitCredentials},
		"the passphrase is wrong":                {[]string{"--sign-key", name, "--sign-passphrase-file", wrongFile}, cli.ExitUsage},
		"give --sign-passphrase-file, or unlock": {[]string{"--sign-key", name}, cli.ExitUsage},
		"gpg has no private key":                 {[]string{"--sign-key", "gpg:" + strings.Repeat("B", 40)}, cli.ExitUsage},
		"want gpg:FINGERPRINT":                   {[]string{"--sign-key", "gpg:release@example.invalid"}, cli.ExitUsage},
		"it belongs to an awskms key":            {[]string{"--sign-key", name, "--sign-public-key", public}, cli.ExitUsage},
	} {
		if out, err := exec.Command("gpgconf", "--kill", "gpg-agent").CombinedOutput(); err != nil { // it forgets the passphrase
			t.Fatalf("%v: %s", err, out)
		}
		t.Setenv("BROKEN", map[bool]string{true: "yes"}[row.code == cli.ExitCredentials])
		mirror := filepath.Join(t.TempDir(), "mirror")
		code, stdout, stderr := execute(t, nil, append(row.args, spack(t, "v3-unsigned"), "file://"+mirror)...)
		if code != row.code || want != "" && !strings.Contains(stderr, want) {
			t.Errorf("%q: exit %d, want %d: %s", want, code, row.code, stderr)
		}
		if strings.Contains(stdout+stderr, "CANARY") {
			t.Errorf("%q: a secret is shown: %s%s", want, stdout, stderr)
		}
		if want == "" {
			if code, stdout, stderr := execute(t, nil, "verify", "--require-signed", "--trusted-keys", public, "file://"+mirror); code != cli.ExitDone {
				t.Errorf("verify: %s%s", stdout, stderr)
			}
			wantNoSecretBelow(t, passphrase, mirror)
		} else {
			wantNothingStored(t, want, mirror)
		}
	}
	said, err := os.ReadFile(spied)
	if err != nil || !strings.Contains(string(said), "--detach-sign") {
		t.Fatalf("%v: gpg was not seen: %s", err, said)
	}
	if strings.Contains(string(said), "CANARY") {
		t.Errorf("a secret is in the arguments or in the environment of gpg: %s", said)
	}
}

// wantNothingStored fails the test if a mirror has any object: a signer that does not sign is found out before content is sent.
func wantNothingStored(t *testing.T, what, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("%q: %s is stored", what, name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// spyOnGPG notes arguments and environment of each gpg in a file. With BROKEN, gpg signs nothing.
func spyOnGPG(t *testing.T) string {
	t.Helper()
	real, err := exec.LookPath("gpg")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	notes := filepath.Join(bin, "notes")
	clitest.Write(t, filepath.Join(bin, "gpg"), "#!/bin/sh\n{ echo \"$@\"; env; } >>"+notes+"\ncase \"$BROKEN $*\" in yes*--detach-sign*) echo gpg: something that nobody knows >&2; exit 2;; esac\nexec "+real+" \"$@\"\n")
	if err := os.Chmod(filepath.Join(bin, "gpg"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return notes
}
