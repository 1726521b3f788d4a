package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// The keys of a tree of mirrors are listed, one is added, and it takes over; what is wrong is said before anything is changed.
func TestKeys(t *testing.T) {
	const old = "E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5"
	dir := t.TempDir()
	tree := "file://" + filepath.Join(dir, "cache")
	for path, fixture := range map[string]string{"/noble/spack": "v3-signed", "/jammy/spack": "v2-signed"} {
		if code, _, stderr := execute(t, nil, clitest.Spack(t, fixture), tree+path); code != cli.ExitDone {
			t.Fatal(stderr)
		}
	}
	private := signtest.Private(t, "next", 90*24*time.Hour)
	k, err := sign.ReadKey(private, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	armored, err := k.Public().Armored()
	if err != nil {
		t.Fatal(err)
	}
	keyFile, public := filepath.Join(dir, "next.asc"), filepath.Join(dir, "next.pub")
	clitest.Write(t, keyFile, string(private))
	clitest.Write(t, public, string(armored))
	next := string(k.Fingerprint())
	for _, step := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"keys", "list", tree}, cli.ExitDone, []string{old + "  11", old + "  9", "noble/spack: v3", "jammy/spack: v2", "never", "yes"}},
		{[]string{"keys", "add", tree}, cli.ExitUsage, []string{"--public-key"}},
		{[]string{"keys", "add", "--public-key", keyFile, tree}, cli.ExitUsage, []string{"PGP PUBLIC KEY BLOCK"}},
		{[]string{"keys", "rotate", "--sign-key", keyFile, tree}, cli.ExitUsage, []string{"--from"}},
		{[]string{"keys", "rotate", "--from", "1234", "--sign-key", keyFile, tree}, cli.ExitUsage, []string{"40 or 64"}},
		{[]string{"keys", "rotate", "--from", old, tree}, cli.ExitUsage, []string{"no key: give --sign-key"}},
		{[]string{"keys", "rotate", "--from", next, "--sign-key", keyFile, tree}, cli.ExitUsage, []string{"want another one"}},
		{[]string{"keys", "rotate", "--from", old, "--to", old, "--sign-key", keyFile, tree}, cli.ExitUsage, []string{"--to is " + old + ", and the key of --sign-key is " + next}},
		{[]string{"keys", "rotate", "--from", old, "--to", "1234", "--sign-key", keyFile, tree}, cli.ExitUsage, []string{"--to: ", "40 or 64"}},
		{[]string{"keys", "rotate", "--from", strings.Repeat("A", 40), "--sign-key", keyFile, tree}, cli.ExitUsage, []string{"does not hold that key"}},
		{[]string{"keys", "rotate", "a", "b"}, cli.ExitUsage, []string{"want: publish keys rotate DESTINATION"}},
		{[]string{"keys", "list", "file://" + dir + "/none"}, cli.ExitSource, []string{"no Spack mirror"}},
		{[]string{"keys", "add", "--public-key", public, tree}, cli.ExitDone, []string{"from now on"}},
		{[]string{"keys", "list", tree}, cli.ExitDone, []string{next + "  0", time.Now().Add(90 * 24 * time.Hour).UTC().Format("2006-01"), "next@example.invalid"}},
		{[]string{"keys", "rotate", "--from", strings.ToLower(old), "--sign-key", keyFile, tree}, cli.ExitDone, []string{"11 packages were signed again", "9 packages were signed again"}},
		{[]string{"keys", "list", tree}, cli.ExitDone, []string{next + "  11", next + "  9", old + "  0"}},
		{[]string{"keys", "rotate", "--from", old, "--sign-key", keyFile, tree}, cli.ExitDone, []string{"0 packages were signed again, 11 by the new key already"}},
		{[]string{"verify", "--require-signed", tree}, cli.ExitDone, []string{"no damage"}},
		{[]string{"keys", "retire", tree}, cli.ExitUsage, []string{"want: publish keys retire DESTINATION FINGERPRINT"}},
		{[]string{"keys", "retire", tree, "1234"}, cli.ExitUsage, []string{"40 or 64"}},
		{[]string{"keys", "retire", tree, strings.Repeat("A", 40)}, cli.ExitUsage, []string{"does not hold that key"}},
		{[]string{"keys", "retire", tree, next}, cli.ExitSource, []string{"20 packages: jammy/spack/2s42rzq, jammy/spack/5x56jzi, ", "and 10 more", "--force", "publish keys rotate --from " + next}},
		{[]string{"keys", "retire", "--dry-run", tree, old}, cli.ExitDone, []string{"noble/spack: v3: the key would be retired", "jammy/spack: v2: the key would be retired"}},
		{[]string{"keys", tree, "--timeout", "1m"}, cli.ExitDone, []string{old + "  0         never       yes"}},
		{[]string{"keys", "retire", tree, strings.ToLower(old)}, cli.ExitDone, []string{"noble/spack: v3: the key was retired", "jammy/spack: v2: the key was retired"}},
		{[]string{"keys", "list", tree}, cli.ExitDone, []string{old + "  0         never       retired"}},
		{[]string{"keys", "retire", tree, old}, cli.ExitDone, []string{"the key is retired already"}},
		{[]string{"verify", "--require-signed", tree}, cli.ExitDone, []string{"no damage"}},
		{[]string{"index", tree}, cli.ExitDone, []string{"is right already"}},
		{[]string{"keys", "list", tree}, cli.ExitDone, []string{old + "  0         never       retired"}},
		{[]string{"keys", "retire", "--force", tree, next}, cli.ExitDone, []string{"11 packages are signed with it", "9 packages are signed with it"}},
		{[]string{"verify", tree}, cli.ExitDone, []string{"this key was retired, and publish keys add offers it again"}},
		{[]string{"keys", "rotate", "--from", old, "--sign-key", keyFile, tree}, cli.ExitUsage, []string{"--sign-key: that key was retired: " + next, "publish keys add"}},
		{[]string{"keys", "add", "--public-key", public, tree}, cli.ExitDone, []string{"from now on"}},
	} {
		code, stdout, stderr := execute(t, nil, step.args...)
		if code != step.code {
			t.Errorf("%q: exit %d, want %d: %s%s", step.args, code, step.code, stdout, stderr)
		}
		for _, want := range step.want {
			if !strings.Contains(stdout+stderr, want) {
				t.Errorf("%q: no %q in %s%s", step.args, want, stdout, stderr)
			}
		}
	}
}

// A key that can sign nothing is refused, and of one that has expired, whose signatures are still there, there is a warning.
func TestKeysThatClientsHaveNoUseFor(t *testing.T) {
	home, dir := gpgtest.Home(t), t.TempDir()
	gpg := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--passphrase", "", "--armor"}, args...)...).Output()
		if err != nil {
			t.Fatal(args, err)
		}
		return string(out)
	}
	gpg("--quick-generate-key", "encrypts", "rsa2048", "encr", "never")
	gpg("--faked-system-time", "20250101T000000", "--quick-generate-key", "expired", "ed25519", "sign", "30d")
	tree := "file://" + filepath.Join(dir, "cache")
	if code, _, stderr := execute(t, nil, clitest.Spack(t, "v2-unsigned"), tree); code != cli.ExitDone {
		t.Fatal(stderr)
	}
	for name, want := range map[string]struct {
		code int
		text string
	}{
		"encrypts": {cli.ExitUsage, "is of no use to clients"},
		"expired":  {cli.ExitDone, "can no longer sign: it has expired at 2025-01-31"},
	} {
		file := filepath.Join(dir, name)
		clitest.Write(t, file, gpg("--export", name))
		code, stdout, stderr := execute(t, nil, "keys", "add", "--public-key", file, tree)
		if code != want.code || !strings.Contains(stderr, want.text) {
			t.Errorf("%s: exit %d: %s%s", name, code, stdout, stderr)
		}
	}
}

// publish index says that it has taken a retired key out of the index of keys, where Spack had offered it again.
func TestIndexTakesOutARetiredKey(t *testing.T) {
	for fixture, name := range map[string]string{"v3-signed": layout.V3KeyIndex, "v2-signed": layout.V2KeyIndex} {
		dir := filepath.Join(t.TempDir(), "cache")
		run := func(args ...string) string {
			t.Helper()
			code, stdout, stderr := execute(t, nil, args...)
			if code != cli.ExitDone {
				t.Fatalf("%q: exit %d: %s%s", args, code, stdout, stderr)
			}
			return stdout
		}
		run(clitest.Spack(t, fixture), dir)
		run("keys", "add", "--public-key", "../../test/testdata/keys/two.pub", dir)
		offered, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		public, err := os.ReadFile("../../test/testdata/keys/two.pub")
		if err != nil {
			t.Fatal(err)
		}
		two, err := key.ReadPublic(public)
		if err != nil {
			t.Fatal(err)
		}
		run("keys", "retire", dir, string(two.Fingerprint()))
		clitest.Write(t, filepath.Join(dir, name), string(offered))
		const done = "is right already, and the index of keys was put right"
		if out := run("index", dir); !strings.Contains(out, done) {
			t.Errorf("%s: %s", fixture, out)
		}
		if out := run("index", dir); !strings.Contains(out, "is right already") || strings.Contains(out, done) {
			t.Errorf("%s: again: %s", fixture, out)
		}
	}
}

// A copy of the key that is damaged is named by what fails on it, and put right by keys add.
func TestADamagedKeyIsPutRight(t *testing.T) {
	dir := t.TempDir()
	to := "file://" + filepath.Join(dir, "cache")
	if code, _, stderr := execute(t, nil, clitest.Spack(t, "v2-signed"), to); code != cli.ExitDone {
		t.Fatal(stderr)
	}
	const one = "E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5"
	clitest.Write(t, filepath.Join(dir, "cache/build_cache/_pgp/"+one+".pub"), "junk")
	next := filepath.Join(dir, "next.asc")
	clitest.Write(t, next, string(signtest.Private(t, "next", 90*24*time.Hour)))
	code, stdout, stderr := execute(t, nil, "keys", "rotate", "--from", one, "--sign-key", next, to)
	if code != cli.ExitSource || stdout != "" || !strings.Contains(stderr, "the copy of the key "+one+" that the destination holds cannot be read: build_cache/_pgp/"+one+".pub: ") || !strings.Contains(stderr, "publish keys add --public-key FILE DESTINATION") {
		t.Errorf("exit %d: %q, %s", code, stdout, stderr)
	}
	if code, stdout, stderr := execute(t, nil, "keys", "list", to); code != cli.ExitDone || strings.Count(stdout, one) != 1 {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = execute(t, nil, "keys", "add", "--public-key", "../../test/testdata/keys/one.pub", to)
	if code != cli.ExitDone || !strings.Contains(stdout, "the changed key was published again") {
		t.Errorf("exit %d: %q, %s", code, stdout, stderr)
	}
	if code, stdout, stderr := execute(t, nil, "keys", "rotate", "--from", one, "--sign-key", next, to); code != cli.ExitDone {
		t.Errorf("exit %d: %q, %s", code, stdout, stderr)
	}
}

// The JSON of a list has what the table has, for each layout of each mirror, and only that is on standard output.
func TestKeysListJSON(t *testing.T) {
	const signer = "E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5"
	dir := t.TempDir()
	tree := "file://" + filepath.Join(dir, "cache")
	for path, fixture := range map[string]string{"/noble/spack": "v3-signed", "/jammy/spack": "v2-unsigned"} {
		if code, _, stderr := execute(t, nil, clitest.Spack(t, fixture), tree+path); code != cli.ExitDone {
			t.Fatal(stderr)
		}
	}
	k, err := sign.ReadKey(signtest.Private(t, "next", 90*24*time.Hour), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	armored, err := k.Public().Armored()
	if err != nil {
		t.Fatal(err)
	}
	public := filepath.Join(dir, "next.pub")
	clitest.Write(t, public, string(armored))
	if code, _, stderr := execute(t, nil, "keys", "add", "--public-key", public, tree+"/noble/spack"); code != cli.ExitDone {
		t.Fatal(stderr)
	}
	if code, _, stderr := execute(t, nil, "keys", "retire", "--force", tree+"/noble/spack", signer); code != cli.ExitDone {
		t.Fatal(stderr)
	}
	code, stdout, stderr := execute(t, nil, "keys", "list", "--json", tree)
	var got struct {
		Version int
		Mirrors []struct {
			Mirror, Layout string
			Unsigned       int
			Keys           []map[string]any
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != cli.ExitDone {
		t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	if got.Version != 1 || len(got.Mirrors) != 2 {
		t.Fatalf("got %+v", got)
	}
	if m := got.Mirrors[0]; m.Mirror != "jammy/spack" || m.Layout != "v2" || m.Unsigned == 0 || m.Keys == nil || len(m.Keys) != 0 {
		t.Errorf("got %+v", m)
	}
	m := got.Mirrors[1]
	if m.Mirror != "noble/spack" || m.Layout != "v3" || m.Unsigned != 0 || len(m.Keys) != 2 {
		t.Fatalf("got %+v", m)
	}
	for _, listed := range m.Keys {
		want := map[string]any{"fingerprint": signer, "owners": listed["owners"], "offered": false, "retired": true, "packages": 11.0}
		if listed["fingerprint"] != signer {
			want = map[string]any{"fingerprint": string(k.Fingerprint()), "owners": []any{"next <next@example.invalid>"}, "expires": k.Public().Expires().UTC().Format(time.RFC3339), "offered": true, "retired": false, "packages": 0.0}
		}
		if !reflect.DeepEqual(listed, want) {
			t.Errorf("got %v, want %v", listed, want)
		}
	}
	if code, stdout, _ := execute(t, nil, "keys", "list", "--json", "file://"+dir+"/none"); code != cli.ExitSource || !strings.Contains(stdout, `"result": "failed"`) {
		t.Errorf("of nothing: exit %d, %s", code, stdout)
	}
}

// Where DESTINATION says that the newest subkey was revoked, a publish and a rotation with the private key as it was exported before sign with the
// next one. If that was revoked too, nothing is signed.
func TestARevokedSubkeyIsPassedOver(t *testing.T) {
	home, dir := gpgtest.Home(t), t.TempDir()
	gpg := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", home, "--no-options", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "", "--armor"}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(args, err)
		}
		return string(out)
	}
	gpg("", "--batch", "--faked-system-time", "20260101T120000", "--quick-generate-key", "release", "ed25519", "cert", "never")
	primary := regexp.MustCompile(`fpr:+([0-9A-F]{40}):`).FindStringSubmatch(gpg("", "--with-colons", "--list-keys"))[1]
	gpg("", "--batch", "--faked-system-time", "20260102T120000", "--quick-add-key", primary, "ed25519", "sign", "never")
	gpg("", "--batch", "--faked-system-time", "20260103T120000", "--quick-add-key", primary, "ed25519", "sign", "never")
	revoked := regexp.MustCompile(`fpr:+([0-9A-F]{40}):`).FindAllStringSubmatch(gpg("", "--with-colons", "--list-keys"), -1)[2][1]
	private, public := filepath.Join(dir, "key.asc"), filepath.Join(dir, "key.pub")
	clitest.Write(t, private, gpg("", "--export-secret-keys"))
	to := func(name string) string { return "file://" + filepath.Join(dir, name) }
	if code, _, stderr := execute(t, nil, "--sign-key", private, clitest.Spack(t, "v3-unsigned"), to("before")); code != cli.ExitDone {
		t.Fatal(stderr)
	}
	// What the subkey had signed is not taken for done where trusted keys refuse it. A publish that replaces signatures signs it again.
	again := func() {
		t.Helper()
		if code, _, stderr := execute(t, nil, "keys", "add", "--public-key", public, to("before")); code != cli.ExitDone {
			t.Fatal(stderr)
		}
		for _, row := range []struct {
			flags   []string
			told    bool
			damaged int
		}{{nil, true, cli.ExitVerification}, {[]string{"--resign"}, false, cli.ExitDone}, {nil, false, cli.ExitDone}} {
			args := append([]string{"--sign-key", private, "--require-signed", "--trusted-keys", public, clitest.Spack(t, "v3-unsigned"), to("before")}, row.flags...)
			code, stdout, stderr := execute(t, nil, args...)
			if code != cli.ExitDone || strings.Contains(stdout, ": its subkey "+revoked+" was revoked at ") != row.told || strings.Contains(stdout, "the destination offers 11 objects that the trusted keys do not cover") != row.told {
				t.Errorf("%q: exit %d: %s%s", row.flags, code, stdout, stderr)
			}
			if code, stdout, _ := execute(t, nil, "verify", "--require-signed", "--trusted-keys", public, to("before")); code != row.damaged {
				t.Errorf("%q: verify: exit %d, want %d: %s", row.flags, code, row.damaged, stdout)
			}
			if _, stdout, _ := execute(t, nil, "verify", to("before")); strings.Contains(stdout, "its subkey "+revoked+" was revoked on ") != row.told || strings.Contains(stdout, "it was revoked") {
				t.Errorf("%q: verify without trusted keys: %s", row.flags, stdout)
			}
		}
	}
	for _, step := range []struct {
		revoked int // the subkey that is revoked before
		code    int
		said    string
	}{{2, cli.ExitDone, ""}, {1, cli.ExitUsage, "it has been revoked"}} {
		gpg(fmt.Sprintf("key %d\nrevkey\ny\n0\n\ny\nsave\n", step.revoked), "--command-fd", "0", "--edit-key", primary)
		clitest.Write(t, public, gpg("", "--export"))
		if step.code == cli.ExitDone {
			again()
		}
		for fixture, args := range map[string][]string{
			"v3-unsigned": {"--sign-key", private, clitest.Spack(t, "v3-unsigned"), to("v3-unsigned")},
			"v3-signed":   {"keys", "rotate", "--from", "E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5", "--sign-key", private, to("v3-signed")},
		} {
			for _, before := range [][]string{{clitest.Spack(t, fixture), to(fixture)}, {"keys", "add", "--public-key", public, to(fixture)}} {
				if code, _, stderr := execute(t, nil, before...); code != cli.ExitDone {
					t.Fatal(fixture, stderr)
				}
			}
			if code, stdout, stderr := execute(t, nil, args...); code != step.code || !strings.Contains(stderr, step.said) {
				t.Errorf("%s: exit %d, want %d: %s%s", fixture, code, step.code, stdout, stderr)
			}
		}
		for _, fixture := range []string{"v3-unsigned", "v3-signed"} {
			code, stdout, stderr := execute(t, nil, "verify", "--require-signed", "--trusted-keys", public, "--trusted-keys", "../../test/testdata/keys/one.pub", to(fixture))
			if (code == cli.ExitDone) != (step.code == cli.ExitDone) {
				t.Errorf("%s: verify: exit %d: %s%s", fixture, code, stdout, stderr)
			}
		}
	}
}

// A key is not retired while a plain file is signed with it; a rotation signs the file again.
func TestKeysOfPlainFiles(t *testing.T) {
	dir := t.TempDir()
	to, from := "file://"+filepath.Join(dir, "cache"), filepath.Join(dir, "out")
	if err := os.CopyFS(filepath.Join(from, "noble/spack"), os.DirFS(clitest.Spack(t, "v3-unsigned"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(from, "dist"), 0o755); err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, filepath.Join(from, "dist/slurm.tar.gz"), "slurm")
	keyFile := func(name string) (string, string) {
		private := signtest.Private(t, name, 0)
		k, err := sign.ReadKey(private, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name+".asc")
		clitest.Write(t, file, string(private))
		armored, err := k.Public().Armored()
		if err != nil {
			t.Fatal(err)
		}
		clitest.Write(t, filepath.Join(dir, name+".pub"), string(armored))
		return file, string(k.Fingerprint())
	}
	oldFile, old := keyFile("old")
	nextFile, next := keyFile("next")
	forced, fileOnly := "file://"+filepath.Join(dir, "forced"), "file://"+filepath.Join(dir, "file-only")
	for _, step := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"--files", "dist/*", "--sign-key", oldFile, from, to}, cli.ExitDone, nil},
		{[]string{"--files", "dist/*", "--sign-key", oldFile, from, forced}, cli.ExitDone, nil},
		{[]string{"keys", "retire", to, old}, cli.ExitSource, []string{"for 11 packages: ", "; and for 1 file: dist/slurm.tar.gz", "publish keys rotate --from " + old}},
		{[]string{"keys", "retire", "--force", forced, old}, cli.ExitDone, []string{"1 file is signed with it", "11 packages are signed with it"}},
		{[]string{"--files", "dist/*", "--resign", "--trusted-keys", filepath.Join(dir, "old.pub"), "--sign-key", nextFile, from, forced}, cli.ExitDone, []string{"signing key: " + next + ", in place of " + old + "\n"}},
		{[]string{"--json", "--files", "dist/*", "--resign", "--trusted-keys", filepath.Join(dir, "next.pub"), "--sign-key", oldFile, from, forced}, cli.ExitDone, []string{`"was_signed_by": "` + next + "\"\n    }\n  ],\n  \"findings\""}},
		{[]string{"--sign-key", nextFile, from, fileOnly}, cli.ExitDone, nil},
		{[]string{"--files", "dist/*", "--sign-key", oldFile, from, fileOnly}, cli.ExitDone, nil},
		{[]string{"keys", "add", "--public-key", filepath.Join(dir, "old.pub"), fileOnly}, cli.ExitDone, nil},
		{[]string{"keys", "retire", fileOnly, old}, cli.ExitSource, []string{"clients need the key " + old + " for 1 file: dist/slurm.tar.gz"}},
		{[]string{"keys", "rotate", "--from", old, "--sign-key", nextFile, to}, cli.ExitDone, []string{"11 packages were signed again", "files: 1 file was signed again, 0 by the new key already, 0 by others"}},
		{[]string{"keys", "retire", to, next}, cli.ExitSource, []string{"; and for 1 file: dist/slurm.tar.gz"}},
		{[]string{"keys", "retire", to, old}, cli.ExitDone, []string{"the key was retired"}},
	} {
		code, stdout, stderr := execute(t, nil, step.args...)
		if code != step.code {
			t.Errorf("%q: exit %d, want %d: %s%s", step.args, code, step.code, stdout, stderr)
		}
		for _, want := range step.want {
			if !strings.Contains(stdout+stderr, want) {
				t.Errorf("%q: no %q in %s%s", step.args, want, stdout, stderr)
			}
		}
	}
	// A damaged signature is named each time, and keeps nothing from being rotated.
	clitest.Write(t, filepath.Join(dir, "file-only/dist/broken"), "content")
	clitest.Write(t, filepath.Join(dir, "file-only/dist/broken.asc"), "-----BEGIN PGP SIGNATURE-----\n\niQ")
	for _, n := range []string{"1 file was", "0 files were"} {
		code, stdout, stderr := execute(t, nil, "keys", "rotate", "--from", old, "--sign-key", nextFile, fileOnly)
		if code != cli.ExitDone || !strings.Contains(stdout, "warning: \"dist/broken.asc\": ") || !strings.Contains(stdout, "publish the file again") || !strings.Contains(stdout, n+" signed again") {
			t.Errorf("exit %d: %s%s", code, stdout, stderr)
		}
	}
	clitest.Write(t, filepath.Join(dir, "forced/dist/slurm.tar.gz"), "other content")
	code, stdout, stderr := execute(t, nil, "keys", "rotate", "--from", old, "--sign-key", nextFile, forced)
	if code != cli.ExitSource || !strings.Contains(stdout, "error: \"dist/slurm.tar.gz.asc\": ") || !strings.Contains(stderr, "hint: all others were signed again") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}
