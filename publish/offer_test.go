package publish_test

import (
	"bytes"
	"crypto"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// Keys follow the packages that they have signed: none is published with no package, whether
// that is known before or found as packages are sent.
func TestKeysFollowThePackages(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		refused := publish.Options{KeepGoing: true}
		refused.Selection.OS = []string{"plan9"}
		m := emptyMirror(t)
		if _, err := publishTo(t, m, original(fixture), refused); err == nil {
			t.Error("nothing is refused")
		}
		wantKeys(t, m.Snapshot())

		m = emptyMirror(t)
		dir := copied(t, fixture)
		flipFile(t, contentFile(t, dir, "zlib"))
		o := only("zlib")
		o.KeepGoing = true
		if _, err := publishTo(t, m, dir, o); err == nil {
			t.Error("nothing is refused")
		}
		wantKeys(t, m.Snapshot())

		m = emptyMirror(t)
		mustPublish(t, m, original(fixture), only("zlib"))
		wantKeys(t, m.Snapshot(), keyOne)

		m = emptyMirror(t)
		o = only("zlib")
		o.Selection.NoKeys, o.Trust = true, buildcache.Trust{Keys: verifyRing(t, "one")}
		out := mustPublish(t, m, original(fixture), o)
		wantKeys(t, m.Snapshot())
		if len(warnings(out.Findings, "clients cannot check the signatures of 1 package: the key "+string(keyOne))) != 1 {
			t.Errorf("findings: %v", out.Findings)
		}
	}
}

// A key that has signed nothing is not published for its being there, unless it is trusted: then
// clients can learn of it before it is used.
func TestAKeyThatHasSignedNothing(t *testing.T) {
	for _, row := range []struct {
		trust []string
		want  []key.Fingerprint
		warn  string
	}{
		{nil, []key.Fingerprint{keyOne}, "it has signed no package that is published"},
		{[]string{"keys/one"}, []key.Fingerprint{keyOne}, "it is not among the trusted keys"},
		{[]string{"keys/one", "trust/keys/ed"}, []key.Fingerprint{keyOne, keyEd}, ""},
	} {
		dir := copied(t, "v2-signed")
		must(t, os.WriteFile(filepath.Join(dir, layout.V2Key(keyEd)), mustRead(t, original("trust/keys/ed.pub")), 0o644))
		o := only("zlib")
		if row.trust != nil {
			o.Trust = trusting(t, row.trust...)
		}
		m := emptyMirror(t)
		out := mustPublish(t, m, dir, o)
		wantKeys(t, m.Snapshot(), row.want...)
		if told := warnings(out.Findings, row.warn); row.warn != "" && len(told) != 1 || row.warn == "" && len(out.Findings) > 0 {
			t.Errorf("%v: findings %v", row.trust, out.Findings)
		}
	}
}

// If the key of a signer is in neither place, the plan says that clients cannot check.
func TestClientsCannotCheck(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		dir := copied(t, fixture)
		must(t, os.RemoveAll(filepath.Join(dir, layout.V3Keys)))
		must(t, os.RemoveAll(filepath.Join(dir, layout.V2Keys)))
		m := emptyMirror(t)
		for range 2 { // the first run, and the one that changes nothing
			if told := warnings(mustPublish(t, m, dir, only("zlib")).Findings, "clients cannot check the signatures of 1 package: the key "+string(keyOne)); len(told) != 1 {
				t.Errorf("%s: not said", fixture)
			}
		}
		if v := mustVerify(t, m, verify.Options{Deep: true}); v.Damaged() || len(warnings(v.Findings, "cannot check the signatures of 1 package: it lacks the key")) != 1 {
			t.Errorf("%s: verify finds %v", fixture, v.Findings)
		}
		mustPublish(t, m, original(fixture), only("zlib")) // with the key
		if out := mustPublish(t, m, dir, only("zlib")); len(out.Findings) > 0 {
			t.Errorf("%s: the destination has the key: %v", fixture, out.Findings)
		}
		m = emptyMirror(t)
		o := only("zlib")
		o.Trust = trusting(t, "keys/one")
		if out := mustPublish(t, m, dir, o); len(out.Findings) > 0 {
			t.Errorf("%s: findings %v", fixture, out.Findings)
		}
		wantKeys(t, m.Snapshot(), keyOne) // from the trusted keys
		if v := mustVerify(t, m, verify.Options{Deep: true, Trust: o.Trust}); v.Damaged() {
			t.Errorf("%s: %v", fixture, v.Findings)
		}
	}
}

// The key that a signature names may be a subkey, which no name in a mirror shows.
func TestClientsCanCheckSubkeys(t *testing.T) {
	e, err := openpgp.NewEntity("subkey", "", "subkey@example.org", &packet.Config{RSABits: 2048})
	must(t, err)
	must(t, e.AddSigningSubkey(nil))
	dir := copied(t, "v2-unsigned")
	name := documentFile(t, dir, "zlib")
	text := bytes.TrimSpace(mustRead(t, name))
	var armored bytes.Buffer // of the signature
	must(t, openpgp.ArmoredDetachSignText(&armored, e, bytes.NewReader(text), &packet.Config{DefaultHash: crypto.SHA512}))
	signed := slices.Concat([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"), text, []byte("\n"), armored.Bytes())
	var public bytes.Buffer
	w, err := armor.Encode(&public, openpgp.PublicKeyType, nil)
	must(t, err)
	must(t, e.Serialize(w))
	must(t, w.Close())
	p, err := key.ReadPublic(public.Bytes())
	must(t, err)
	if by, err := key.IssuerOf(signed); err != nil || by.String() == string(p.Fingerprint()) {
		t.Fatalf("signed by %s, %v", by, err)
	}
	must(t, os.Remove(name))
	must(t, os.WriteFile(name+".sig", signed, 0o644))

	m := emptyMirror(t)
	if told := warnings(mustPublish(t, m, dir, only("zlib")).Findings, "clients cannot check"); len(told) != 1 {
		t.Errorf("not said")
	}
	m = emptyMirror(t)
	m.Plant(layout.V2Key(p.Fingerprint()), public.Bytes())
	for range 2 {
		if told := warnings(mustPublish(t, m, dir, only("zlib")).Findings, "clients cannot check"); len(told) > 0 {
			t.Errorf("the destination has the key: %v", told)
		}
	}
}
