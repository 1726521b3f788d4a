package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/keyring"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
)

// released is a place with plain files that keys have signed, by the names of files; one of a nil key has a signature that is no good.
func released(t *testing.T, bad *sign.Key, files map[string]*sign.Key) *mirrortest.Mem {
	t.Helper()
	m := mirrortest.NewMem(t)
	for name, k := range files {
		content := []byte("content of " + name)
		m.Plant(name, content)
		signed := content
		if k == nil {
			k, signed = bad, []byte("other content")
		}
		signature, err := k.Detached(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(signed)), nil })
		if err != nil {
			t.Fatal(err)
		}
		m.Plant(name+".asc", signature)
	}
	m.Plant("notes.asc", []byte("no signature"))
	return m
}

// The signatures of plain files by the old key are made again by the new one, each once it was checked. Those of other keys, and those that are
// not good, stay. The second time nothing is changed.
func TestSignaturesOfFilesAreRotated(t *testing.T) {
	from, to, third := signtest.Key(t, "old"), signtest.Key(t, "new"), signtest.Key(t, "third")
	m := released(t, from, map[string]*sign.Key{"a.tar.gz": from, "dist/b.tar.gz": from, "dist/c.tar.gz": third, "bad": nil})
	gone, err := from.Detached(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(nil)), nil })
	if err != nil {
		t.Fatal(err)
	}
	m.Plant("gone.asc", gone)
	by := func(name string) key.Fingerprint {
		content := m.Snapshot()
		f, err := new(key.Ring).With(from.Public()).With(to.Public()).With(third.Public()).VerifyDetached(bytes.NewReader(content[name]), content[name+".asc"])
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return f
	}
	found, err := keyring.FilesBy(t.Context(), m, from.Fingerprint(), from.Public())
	if want := []string{"a.tar.gz", "bad", "dist/b.tar.gz"}; err != nil || !slices.Equal(found, want) {
		t.Errorf("by the old key: %q, %v, want %q", found, err, want)
	}
	bad := m.Snapshot()["bad.asc"]
	c, err := keyring.RotateFiles(t.Context(), m, from.Public(), to)
	if err != nil || c.Resigned != 2 || c.Others != 2 || len(c.Findings) != 1 || c.Findings[0].File != "bad.asc" || !slices.Equal(c.Stale, []string{"a.tar.gz.asc", "dist/b.tar.gz.asc"}) {
		t.Errorf("%+v, %v", c, err)
	}
	if by("a.tar.gz") != to.Fingerprint() || by("dist/b.tar.gz") != to.Fingerprint() || by("dist/c.tar.gz") != third.Fingerprint() || !bytes.Equal(bad, m.Snapshot()["bad.asc"]) {
		t.Errorf("signed by %s, %s, %s", by("a.tar.gz"), by("dist/b.tar.gz"), by("dist/c.tar.gz"))
	}
	before := m.Snapshot()
	if c, err := keyring.RotateFiles(t.Context(), m, from.Public(), to); err != nil || c.Resigned != 0 || c.Already != 2 || mirrortest.Diff(before, m.Snapshot()) != "" {
		t.Errorf("again: %+v, %v", c, err)
	}
}

// Signatures that gpg accepts and publish does not read as one, and those of which nobody knows whose they are, keep a key from being
// taken for one that nothing depends on. Those of other keys, public keys, and what has no file do not.
func TestSignaturesThatCannotBeReadAreNamed(t *testing.T) {
	from, to, third := signtest.Key(t, "old"), signtest.Key(t, "new"), signtest.Key(t, "third")
	made := func(k *sign.Key) []byte {
		signature, err := k.Detached(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte("content"))), nil })
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	binary := func(armored []byte) []byte {
		block, err := armor.Decode(bytes.NewReader(armored))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(block.Body)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	public, err := from.Public().Armored()
	if err != nil {
		t.Fatal(err)
	}
	two := slices.Concat(made(from), made(third))
	both := slices.Concat(binary(made(third)), binary(made(from)))
	m := mirrortest.NewMem(t)
	for name, signature := range map[string][]byte{
		"binary": binary(made(from)), "comment": append([]byte("Signed by the old key\n"), made(from)...), "two": two, "both": both,
		"damaged": made(from)[:120], "other": binary(made(third)), "public": public, "text": []byte("a text"), "empty": nil,
	} {
		m.Plant(name, []byte("content"))
		m.Plant(name+".asc", signature)
	}
	m.Plant("gone.asc", both)
	want := []string{"binary", "both", "comment", "damaged", "two"}
	found, err := keyring.FilesBy(t.Context(), m, from.Fingerprint(), from.Public())
	for i, name := range found {
		found[i], _, _ = strings.Cut(name, " ")
	}
	if err != nil || !slices.Equal(found, want) {
		t.Errorf("by the old key: %q, %v, want %q", found, err, want)
	}
	before := m.Snapshot()
	c, err := keyring.RotateFiles(t.Context(), m, from.Public(), to)
	var named []string
	for _, f := range c.Findings {
		name := strings.TrimSuffix(f.File, ".asc")
		named = append(named, name)
		if (f.Severity == buildcache.Warning) != (name == "damaged") {
			t.Errorf("%s", f)
		}
	}
	slices.Sort(named)
	if err != nil || c.Resigned != 0 || !slices.Equal(named, want) || mirrortest.Diff(before, m.Snapshot()) != "" {
		t.Errorf("refused are %q, want %q: %+v, %v", named, want, c, err)
	}
}

// between calls do before an object is opened for the first time.
type between struct {
	mirror.Store
	name string
	once sync.Once
	do   func()
}

func (b *between) Open(ctx context.Context, name string) (*mirror.Object, error) {
	if name == b.name {
		b.once.Do(b.do)
	}
	return b.Store.Open(ctx, name)
}

// A file that is published meanwhile keeps the signature that came with it, until that is made again.
func TestAFileThatIsReplacedDuringARotation(t *testing.T) {
	from, to := signtest.Key(t, "old"), signtest.Key(t, "new")
	m := released(t, from, map[string]*sign.Key{"a": from})
	next := []byte("the next release")
	signature, err := from.Detached(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(next)), nil })
	if err != nil {
		t.Fatal(err)
	}
	s := &late{Store: m, do: func() {
		m.Plant("a.asc", signature)
		m.Plant("a", next)
	}}
	c, err := keyring.RotateFiles(t.Context(), s, from.Public(), to)
	if err != nil || c.Resigned != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	content := m.Snapshot()
	if by, err := new(key.Ring).With(to.Public()).VerifyDetached(bytes.NewReader(content["a"]), content["a.asc"]); err != nil || by != to.Fingerprint() || !bytes.Equal(content["a"], next) {
		t.Errorf("%s: %v", by, err)
	}
	m = released(t, from, map[string]*sign.Key{"a": from})
	between := &between{Store: m, name: "a", do: func() {
		m.Plant("a.asc", signature)
		m.Plant("a", next)
	}}
	if c, err := keyring.RotateFiles(t.Context(), between, from.Public(), to); err != nil || c.Resigned != 1 || len(c.Findings) > 0 {
		t.Errorf("replaced between the signature and the file: %+v, %v", c, err)
	}
	failing := &signtest.Counter{Signer: to.Signer(), Fail: 1, Err: errors.New("it does not sign")}
	failing.Signed.Store(1)
	broken, err := sign.New(failing)
	if err != nil {
		t.Fatal(err)
	}
	before := released(t, from, map[string]*sign.Key{"a": from})
	if _, err := keyring.RotateFiles(t.Context(), before, from.Public(), broken); err == nil {
		t.Error("a signer that fails is no error")
	}
}
