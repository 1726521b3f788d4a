package publishtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// A signer signs files, for tests.
type signer struct {
	entity *openpgp.Entity
	Ring   *key.Ring
}

func NewSigner(t testing.TB) signer {
	t.Helper()
	e, err := openpgp.NewEntity("release", "", "release@example.org", nil)
	Must(t, err)
	var public bytes.Buffer
	w, err := armor.Encode(&public, openpgp.PublicKeyType, nil)
	Must(t, err)
	Must(t, e.Serialize(w))
	Must(t, w.Close())
	ring, err := key.ReadRing(public.Bytes())
	Must(t, err)
	return signer{e, ring}
}

func (s signer) Sign(t testing.TB, name string) {
	t.Helper()
	var out bytes.Buffer
	Must(t, openpgp.ArmoredDetachSign(&out, s.entity, bytes.NewReader(MustRead(t, name)), nil))
	Must(t, os.WriteFile(name+".asc", out.Bytes(), 0o644))
}

const Artifact = "dist/slurm-25.11-noble-amd64-software.tar.gz"

// Release is a directory with an artifact, its signature and its checksum.
func Release(t testing.TB, s signer) string {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, Artifact)
	Must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	Must(t, os.WriteFile(name, bytes.Repeat([]byte("software"), 1000), 0o644))
	s.Sign(t, name)
	Sum(t, name)
	return dir
}

func Sum(t testing.TB, name string) {
	t.Helper()
	Must(t, os.WriteFile(name+".sha256", fmt.Appendf(nil, "%s  %s\n", blob.DigestOf(MustRead(t, name)), filepath.Base(name)), 0o644))
}
