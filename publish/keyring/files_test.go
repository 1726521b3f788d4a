package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

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
	if want := []string{"a.tar.gz", "bad", "dist/b.tar.gz", "gone"}; err != nil || !slices.Equal(found, want) {
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

// republished publishes another file of a name, with its signature, right before the first signature is replaced.
type republished struct {
	mirror.Store
	once sync.Once
	do   func()
}

func (r *republished) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	r.once.Do(r.do)
	return r.Store.Swap(ctx, u, was)
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
	s := &republished{Store: m, do: func() {
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
