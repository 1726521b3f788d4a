package gpg_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/gpg"
)

// A home is a keyring of gpg with an agent of its own.
type home struct {
	t   *testing.T
	dir string
}

// newHome makes a keyring and lets what runs in this process use it.
func newHome(t *testing.T) home {
	t.Helper()
	h := home{t, gpgtest.Home(t)}
	h.use()
	return h
}

func (h home) use() { h.t.Setenv("GNUPGHOME", h.dir) }

func (h home) gpg(passphrase string, args ...string) []byte {
	h.t.Helper()
	cmd := exec.Command("gpg", append([]string{"--homedir", h.dir, "--no-options", "--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", passphrase}, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("gpg %v: %v\n%s", args, err, errs.String())
	}
	return out
}

// create makes a key and returns its fingerprint.
func (h home) create(passphrase, algorithm, usage string) string {
	h.t.Helper()
	h.gpg(passphrase, "--quick-generate-key", strings.ReplaceAll(h.t.Name(), "/", " ")+" "+algorithm+" <release@example.invalid>", algorithm, usage, "never")
	return h.last()
}

func (h home) subkey(primary, algorithm, usage string) string {
	h.t.Helper()
	h.gpg("", "--quick-add-key", primary, algorithm, usage, "never")
	return h.last()
}

// last is the fingerprint of the key or subkey that was made last.
func (h home) last() string {
	h.t.Helper()
	last := ""
	for line := range strings.Lines(string(h.gpg("", "--with-colons", "--fingerprint", "--fingerprint"))) {
		if f, ok := strings.CutPrefix(line, "fpr:::::::::"); ok {
			last = strings.TrimSuffix(strings.TrimSpace(f), ":")
		}
	}
	return last
}

// verified is the fingerprint of the signer by which gpg, with nothing but the public key, accepts a document.
func verified(t *testing.T, k *sign.Key, document []byte) string {
	t.Helper()
	client := home{t, gpgtest.Home(t)}
	public, err := k.Public().Armored()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(client.dir, "file")
	write(t, file, public)
	client.gpg("", "--import", file)
	write(t, file, document)
	for line := range strings.Lines(string(client.gpg("", "--status-fd", "1", "--verify", file))) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "VALIDSIG" {
			return f[2]
		}
	}
	return ""
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, name, passphrase string) *sign.Key {
	t.Helper()
	k, err := gpg.Open(name, []byte(passphrase), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const text = "{\n\"a\": 1\n}"

// gpg signs with keys of all kinds in its agent, documents and files, and gpg accepts both.
func TestTheAgentSigns(t *testing.T) {
	h := newHome(t)
	for _, algorithm := range []string{"ed25519", "rsa3072", "nistp256"} {
		f := h.create("", algorithm, "sign")
		k := open(t, "gpg:"+f, "")
		document, err := k.Document(t.Context(), []byte(text))
		if err != nil {
			t.Errorf("%s: %v", algorithm, err)
			continue
		}
		if by := verified(t, k, document); by != f {
			t.Errorf("%s: signed by %q, want %s", algorithm, by, f)
		}
		content := bytes.Repeat([]byte("release\r\n \n\x00"), 100_000)
		if _, err := k.Detached(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }); err != nil {
			t.Errorf("%s: a file: %v", algorithm, err)
		}
	}
}

// The passphrase is handed to gpg, and each way in which it can be wrong has its own error. None of them shows it.
func TestPassphrasesOfTheAgent(t *testing.T) {
	h := newHome(t)
	name := "gpg:" + h.create("correct horse", "rsa2048", "sign")
	forget := func() {
		if out, err := exec.Command("gpgconf", "--homedir", h.dir, "--kill", "gpg-agent").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, row := range []struct {
		passphrase string
		want       error
	}{
		{"", sign.ErrNoPassphrase},
		{"battery staple", sign.ErrPassphrase},
		{"correct horse", nil},
	} {
		forget()
		document, err := open(t, name, row.passphrase).Document(t.Context(), []byte(text))
		if !errors.Is(err, row.want) || (err == nil) == (document == nil) {
			t.Errorf("passphrase %q: %v, want %v", row.passphrase, err, row.want)
		}
		if err != nil && row.passphrase != "" && strings.Contains(err.Error(), row.passphrase) {
			t.Errorf("the passphrase is shown: %v", err)
		}
	}
	if _, err := gpg.Open(name, []byte("correct horse\nx"), time.Now()); !errors.Is(err, sign.ErrPassphrase) {
		t.Errorf("two lines: %v", err)
	}
	// The agent remembers it now.
	if _, err := open(t, name, "").Document(t.Context(), []byte(text)); err != nil {
		t.Error(err)
	}
}

// The newest subkey signs, unless another one, or the primary key, is named.
func TestWhichKeyOfTheAgentSigns(t *testing.T) {
	h := newHome(t)
	primary := h.create("", "ed25519", "cert,sign")
	older := h.subkey(primary, "rsa2048", "sign")
	time.Sleep(1100 * time.Millisecond) // OpenPGP counts seconds
	newer := h.subkey(primary, "ed25519", "sign")
	spaced := strings.ToLower(older[:20] + "  " + older[20:])
	for name, want := range map[string]string{
		"gpg:" + primary:        newer,
		"gpg:" + primary + "!":  primary,
		"gpg:" + older:          older,
		"gpg:" + newer + "!":    newer,
		"gpg:0x" + newer:        newer,
		"gpg: " + spaced + "  ": older,
		"GPG:" + older:          older,
	} {
		k := open(t, name, "")
		if string(k.Fingerprint()) != primary {
			t.Errorf("%s: %s", name, k.Fingerprint())
		}
		document, err := k.Document(t.Context(), []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if by := verified(t, k, document); by != want {
			t.Errorf("%s: signed by %s, want %s", name, by, want)
		}
	}
}

// Keys that cannot sign are found when they are opened, and each reason has its own error.
func TestKeysOfTheAgentThatCannotSign(t *testing.T) {
	h := newHome(t)
	good := h.create("", "ed25519", "sign")
	certifies := h.create("", "ed25519", "cert")
	short := h.create("", "rsa1024", "sign")
	expired := h.create("", "ed25519", "sign")
	h.gpg("", "--faked-system-time", "20300101T000000!", "--quick-set-expire", expired, "1d")
	elsewhere := h.create("", "ed25519", "sign")
	public := filepath.Join(h.dir, "public")
	write(t, public, h.gpg("", "--export", elsewhere))
	h.gpg("", "--delete-secret-keys", elsewhere)
	later := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, row := range map[string]struct {
		is   error
		want string
		at   time.Time
	}{
		"gpg:" + certifies:                 {sign.ErrCannotSign, "not meant to sign", time.Now()},
		"gpg:" + short:                     {nil, "too short", time.Now()},
		"gpg:" + expired:                   {sign.ErrExpired, "expired at", later},
		"gpg:" + elsewhere:                 {gpg.ErrUnknownKey, "no private key", time.Now()},
		"gpg:" + strings.Repeat("A", 40):   {gpg.ErrUnknownKey, "no private key", time.Now()},
		"gpg:" + good[24:]:                 {nil, "want gpg:FINGERPRINT", time.Now()},
		"gpg:release@example.invalid":      {nil, "want gpg:FINGERPRINT", time.Now()},
		"gpg:":                             {nil, "want gpg:FINGERPRINT", time.Now()},
		"gpg:--version":                    {nil, "want gpg:FINGERPRINT", time.Now()},
		"gpg:" + good + " " + certifies:    {nil, "want gpg:FINGERPRINT", time.Now()},
		"gpg:" + strings.Repeat("é", 20):   {nil, "want gpg:FINGERPRINT", time.Now()},
		"gpg:" + strings.Repeat("A\n", 40): {gpg.ErrUnknownKey, "no private key", time.Now()},
	} {
		k, err := gpg.Open(name, nil, row.at)
		if k != nil || err == nil || row.is != nil && !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	if _, err := gpg.Open("gpg:"+good, nil, later); err != nil {
		t.Error(err)
	}
}

// A key in the agent of another machine signs: this one has its public key, and a socket that leads there.
func TestAForwardedAgentSigns(t *testing.T) {
	there := newHome(t)
	f := there.create("", "ed25519", "sign")
	here := newHome(t)
	public := filepath.Join(here.dir, "public")
	write(t, public, there.gpg("", "--export", f))
	here.gpg("", "--import", public)
	if _, err := gpg.Open("gpg:"+f, nil, time.Now()); !errors.Is(err, gpg.ErrUnknownKey) {
		t.Fatalf("without the other agent: %v", err)
	}
	_ = exec.Command("gpgconf", "--homedir", here.dir, "--kill", "gpg-agent").Run()
	extra, err := exec.Command("gpgconf", "--homedir", there.dir, "--list-dirs", "agent-extra-socket").Output()
	if err != nil {
		t.Fatal(err)
	}
	own, err := exec.Command("gpgconf", "--homedir", here.dir, "--list-dirs", "agent-socket").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, err := os.Stat(strings.TrimSpace(string(own))); err == nil; _, err = os.Stat(strings.TrimSpace(string(own))) {
		time.Sleep(10 * time.Millisecond) // the agent removes its socket as it ends
	}
	write(t, strings.TrimSpace(string(own)), []byte("%Assuan%\nsocket="+strings.TrimSpace(string(extra))+"\n"))
	k := open(t, "gpg:"+f, "")
	document, err := k.Document(t.Context(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if by := verified(t, k, document); by != f {
		t.Errorf("signed by %s, want %s", by, f)
	}
	// It goes away.
	if out, err := exec.Command("gpgconf", "--homedir", there.dir, "--kill", "gpg-agent").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if document, err := k.Document(t.Context(), []byte(text)); document != nil || !errors.Is(err, gpg.ErrUnknownKey) && !errors.Is(err, gpg.ErrAgent) {
		t.Errorf("without the other agent: %v", err)
	}
}

// An agent that does not answer ends in an error, and so does a caller that waits no longer.
func TestAnAgentThatDoesNotAnswer(t *testing.T) {
	h := newHome(t)
	name := "gpg:" + h.create("", "ed25519", "sign")
	k := open(t, name, "")
	if out, err := exec.Command("gpgconf", "--homedir", h.dir, "--kill", "gpg-agent").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	socket, err := exec.Command("gpgconf", "--homedir", h.dir, "--list-dirs", "agent-socket").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimSpace(string(socket))
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) { // an agent that ends takes away whatever has its socket's name
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal("the agent does not end")
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := k.Document(ctx, []byte(text)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %v", err)
	}
	gpg.SetPatience(k, 300*time.Millisecond)
	if _, err := k.Document(t.Context(), []byte(text)); !errors.Is(err, gpg.ErrNoAnswer) {
		t.Errorf("no answer: %v", err)
	}
}

// Without gpg there is an error that says so.
func TestThereIsNoGPG(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := gpg.Open("gpg:"+strings.Repeat("A", 40), nil, time.Now()); !errors.Is(err, gpg.ErrNoGPG) {
		t.Error(err)
	}
}

// What a gpg says that is not one is no signature, and no error of ours shows the passphrase.
func TestAnotherProgramOfThatName(t *testing.T) {
	h := newHome(t)
	k := open(t, "gpg:"+h.create("", "ed25519", "sign"), "correct horse")
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for name, script := range map[string]string{
		"nothing":      "exit 0",
		"fails":        "exit 2",
		"garbage":      "echo hello",
		"endless":      "exec /bin/cat /dev/zero",
		"killed":       "kill -9 $$",
		"says nothing": "echo >&2; exit 1",
		"odd status":   "echo '[GNUPG:] ' >&2; echo '[GNUPG:] FAILURE sign -1' >&2; exit 1",
		"escapes":      `printf '\033[31mred\n' >&2; exit 1`,
	} {
		if err := os.WriteFile(filepath.Join(dir, "gpg"), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		gpg.SetPatience(k, time.Second)
		document, err := k.Document(t.Context(), []byte(text))
		if err == nil || document != nil || strings.Contains(err.Error(), "correct horse") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Many documents at once are all signed: no more gpgs run at a time than the agent has memory for.
func TestManyAtOnce(t *testing.T) {
	h := newHome(t)
	k := open(t, "gpg:"+h.create("correct horse", "rsa2048", "sign"), "correct horse")
	var all sync.WaitGroup
	for range 24 {
		all.Go(func() {
			if _, err := k.Document(t.Context(), []byte(text)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// gpg's own options do not change what is signed.
func TestOptionsOfGPGAreNotRead(t *testing.T) {
	h := newHome(t)
	f := h.create("", "ed25519", "sign")
	write(t, filepath.Join(h.dir, "gpg.conf"), []byte("armor\ncomment hello\nsig-notation test@example.org=x\ndigest-algo SHA224\nlocal-user nobody\n"))
	k := open(t, "gpg:"+f, "")
	document, err := k.Document(t.Context(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(document), "Hash: SHA512") {
		t.Errorf("%s", document)
	}
	if _, err := key.Text(document); err != nil {
		t.Error(err)
	}
}
