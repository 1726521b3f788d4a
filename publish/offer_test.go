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
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// Keys follow the packages that they have signed: none is published with no package, whether
// that is known before or found as packages are sent.
func TestKeysFollowThePackages(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		refused := publish.Options{KeepGoing: true}
		refused.Selection.OS = []string{"plan9"}
		m := publishtest.EmptyMirror(t)
		if _, err := publishtest.PublishTo(t, m, publishtest.Original(fixture), refused); err == nil {
			t.Error("nothing is refused")
		}
		publishtest.WantKeys(t, m.Snapshot())

		m = publishtest.EmptyMirror(t)
		dir := publishtest.Copied(t, fixture)
		publishtest.FlipFile(t, publishtest.ContentFile(t, dir, "zlib"))
		o := publishtest.Only("zlib")
		o.KeepGoing = true
		if _, err := publishtest.PublishTo(t, m, dir, o); err == nil {
			t.Error("nothing is refused")
		}
		publishtest.WantKeys(t, m.Snapshot())

		m = publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("zlib"))
		publishtest.WantKeys(t, m.Snapshot(), publishtest.KeyOne)

		m = publishtest.EmptyMirror(t)
		o = publishtest.Only("zlib")
		o.Selection.NoKeys, o.Trust = true, buildcache.Trust{Keys: publishtest.VerifyRing(t, "one")}
		out := publishtest.MustPublish(t, m, publishtest.Original(fixture), o)
		publishtest.WantKeys(t, m.Snapshot())
		if len(publishtest.Warnings(out.Findings, "clients cannot check the signatures of 1 package: the key "+string(publishtest.KeyOne))) != 1 {
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
		{nil, []key.Fingerprint{publishtest.KeyOne}, "it has signed no package that is published"},
		{[]string{"keys/one"}, []key.Fingerprint{publishtest.KeyOne}, "it is not among the trusted keys"},
		{[]string{"keys/one", "trust/keys/ed"}, []key.Fingerprint{publishtest.KeyOne, publishtest.KeyEd}, ""},
	} {
		dir := publishtest.Copied(t, "v2-signed")
		publishtest.Must(t, os.WriteFile(filepath.Join(dir, layout.V2Key(publishtest.KeyEd)), publishtest.MustRead(t, publishtest.Original("trust/keys/ed.pub")), 0o644))
		o := publishtest.Only("zlib")
		if row.trust != nil {
			o.Trust = publishtest.Trusting(t, row.trust...)
		}
		m := publishtest.EmptyMirror(t)
		out := publishtest.MustPublish(t, m, dir, o)
		publishtest.WantKeys(t, m.Snapshot(), row.want...)
		if told := publishtest.Warnings(out.Findings, row.warn); row.warn != "" && len(told) != 1 || row.warn == "" && len(out.Findings) > 0 {
			t.Errorf("%v: findings %v", row.trust, out.Findings)
		}
	}
}

// If the key of a signer is in neither place, the plan says that clients cannot check.
func TestClientsCannotCheck(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		dir := publishtest.Copied(t, fixture)
		publishtest.Must(t, os.RemoveAll(filepath.Join(dir, layout.V3Keys)))
		publishtest.Must(t, os.RemoveAll(filepath.Join(dir, layout.V2Keys)))
		m := publishtest.EmptyMirror(t)
		for range 2 { // the first run, and the one that changes nothing
			if told := publishtest.Warnings(publishtest.MustPublish(t, m, dir, publishtest.Only("zlib")).Findings, "clients cannot check the signatures of 1 package: the key "+string(publishtest.KeyOne)); len(told) != 1 {
				t.Errorf("%s: not said", fixture)
			}
		}
		if v := publishtest.MustVerify(t, m, verify.Options{Deep: true}); v.Damaged() || len(publishtest.Warnings(v.Findings, "cannot check the signatures of 1 package: it lacks the key")) != 1 {
			t.Errorf("%s: verify finds %v", fixture, v.Findings)
		}
		publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("zlib")) // with the key
		if out := publishtest.MustPublish(t, m, dir, publishtest.Only("zlib")); len(out.Findings) > 0 {
			t.Errorf("%s: the destination has the key: %v", fixture, out.Findings)
		}
		m = publishtest.EmptyMirror(t)
		o := publishtest.Only("zlib")
		o.Trust = publishtest.Trusting(t, "keys/one")
		if out := publishtest.MustPublish(t, m, dir, o); len(out.Findings) > 0 {
			t.Errorf("%s: findings %v", fixture, out.Findings)
		}
		publishtest.WantKeys(t, m.Snapshot(), publishtest.KeyOne) // from the trusted keys
		if v := publishtest.MustVerify(t, m, verify.Options{Deep: true, Trust: o.Trust}); v.Damaged() {
			t.Errorf("%s: %v", fixture, v.Findings)
		}
	}
}

// The key that a signature names may be a subkey, which no name in a mirror shows.
func TestClientsCanCheckSubkeys(t *testing.T) {
	e, err := openpgp.NewEntity("subkey", "", "subkey@example.org", &packet.Config{RSABits: 2048})
	publishtest.Must(t, err)
	publishtest.Must(t, e.AddSigningSubkey(nil))
	dir := publishtest.Copied(t, "v2-unsigned")
	name := publishtest.DocumentFile(t, dir, "zlib")
	text := bytes.TrimSpace(publishtest.MustRead(t, name))
	var armored bytes.Buffer // of the signature
	publishtest.Must(t, openpgp.ArmoredDetachSignText(&armored, e, bytes.NewReader(text), &packet.Config{DefaultHash: crypto.SHA512}))
	signed := slices.Concat([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"), text, []byte("\n"), armored.Bytes())
	var public bytes.Buffer
	w, err := armor.Encode(&public, openpgp.PublicKeyType, nil)
	publishtest.Must(t, err)
	publishtest.Must(t, e.Serialize(w))
	publishtest.Must(t, w.Close())
	p, err := key.ReadPublic(public.Bytes())
	publishtest.Must(t, err)
	if by, err := key.IssuerOf(signed); err != nil || by.String() == string(p.Fingerprint()) {
		t.Fatalf("signed by %s, %v", by, err)
	}
	publishtest.Must(t, os.Remove(name))
	publishtest.Must(t, os.WriteFile(name+".sig", signed, 0o644))

	m := publishtest.EmptyMirror(t)
	if told := publishtest.Warnings(publishtest.MustPublish(t, m, dir, publishtest.Only("zlib")).Findings, "clients cannot check"); len(told) != 1 {
		t.Errorf("not said")
	}
	m = publishtest.EmptyMirror(t)
	m.Plant(layout.V2Key(p.Fingerprint()), public.Bytes())
	for range 2 {
		if told := publishtest.Warnings(publishtest.MustPublish(t, m, dir, publishtest.Only("zlib")).Findings, "clients cannot check"); len(told) > 0 {
			t.Errorf("the destination has the key: %v", told)
		}
	}
}
