package same_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
)

// Two documents with the same text are the same, signed or not, and whatever the signer.
func TestText(t *testing.T) {
	const name = "v3/manifests/spec/zlib/a"
	one, two := signtest.Key(t, "one"), signtest.Key(t, "two")
	text := []byte(`{"text": 1}`)
	byOne, err := one.Document(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	byTwo, err := two.Document(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	other, err := one.Document(t.Context(), []byte(`{"text": 2}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		what         string
		there, ours  []byte
		same, signed bool
	}{
		{"neither is signed", text, text, true, false},
		{"that which is there is signed", byOne, text, true, true},
		{"ours is signed", text, byOne, true, false},
		{"signed by two", byOne, byTwo, true, true},
		{"another text, signed by the same", other, byOne, false, true},
		{"another text", []byte("{}"), text, false, false},
		{"a signature that is cut off", byOne[:len(byOne)/2], text, false, true},
	} {
		m := mirrortest.NewMem(t)
		m.Plant(name, row.there)
		same, signed, err := same.Text(t.Context(), m, name, row.ours)
		if err != nil || same != row.same || signed != row.signed {
			t.Errorf("%s: same %v, signed %v, %v", row.what, same, signed, err)
		}
	}
}

// A detached signature is accepted if a trusted key has made it of this content, and is read only if it can be one.
func TestDetached(t *testing.T) {
	const name = "release/slurm.tar.asc"
	trusted, other := signtest.Key(t, "trusted"), signtest.Key(t, "other")
	by := func(k *sign.Key) []byte {
		signature, err := k.Detached(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("content")), nil })
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	good := by(trusted)
	for _, row := range []struct {
		what      string
		signature []byte
		content   string
		objection string // in it; empty: there is none
		requests  string
		issuer    key.Issuer
	}{
		{"good", good, "content", "", "open", trusted.Public().Issuer()},
		{"of other content", good, "contents", "content", "open", trusted.Public().Issuer()},
		{"by another key", by(other), "content", "trust", "open", other.Public().Issuer()},
		{"no signature", []byte("none"), "content", "signature", "open", key.Issuer{}},
		{"too large", bytes.Repeat([]byte{'-'}, same.MaxSignature+1), "content", "at most", "", key.Issuer{}},
	} {
		m := mirrortest.NewMem(t)
		m.Plant(name, row.signature)
		info := listed(t, m, name, "")
		issuer, version, objection, err := same.Detached(t.Context(), m, info, blob.Bytes([]byte(row.content)), new(key.Ring).With(trusted.Public()))
		if got := requests(m); err != nil || got != row.requests || version != info.Version || issuer != row.issuer {
			t.Errorf("%s: by %v, version %q after %q, %v", row.what, issuer, version, got, err)
		}
		if (objection == nil) != (row.objection == "") || objection != nil && !strings.Contains(objection.Error(), row.objection) {
			t.Errorf("%s: objection %v", row.what, objection)
		}
	}
}
