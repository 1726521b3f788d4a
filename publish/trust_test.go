package publish_test

import (
	"bytes"
	"crypto"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
)

const (
	keyOne  = key.Fingerprint("E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5") // signed the fixtures
	keyGood = key.Fingerprint("49A2B952A248E4F41A9B402974A94FA39F9B86F5") // of signed.pub
	keyEd   = key.Fingerprint("2FBB934417628971AFC51D883E3A1C6A9D27F61E") // of trust/keys/ed.pub
)

func trusting(t testing.TB, files ...string) publish.Trust {
	t.Helper()
	var armored []byte
	for _, f := range files {
		armored = append(armored, mustRead(t, original(f+".pub"))...)
	}
	ring, err := key.ReadRing(armored)
	must(t, err)
	return publish.Trust{RequireSigned: true, Keys: ring}
}

// keysIn are the keys that clients are offered: named in the index of keys, or there at all.
func keysIn(t testing.TB, s map[string][]byte) (named, there []key.Fingerprint) {
	t.Helper()
	for name := range s {
		if f, ok := layout.ParseV3Key(name); ok {
			there = append(there, f)
		}
		if f, ok := layout.ParseV2Key(name); ok {
			there = append(there, f)
		}
	}
	index := s[layout.V2KeyIndex]
	if index == nil && s[layout.V3KeyIndex] != nil {
		var err error
		index, err = newReader().behind(s, layout.V3KeyIndex, manifest.KeyIndex)
		must(t, err)
	}
	for _, part := range strings.Split(string(index), `"`) {
		if f, err := key.ParseFingerprint(part); err == nil {
			named = append(named, f)
		}
	}
	slices.Sort(named)
	slices.Sort(there)
	return named, there
}

func wantKeys(t testing.TB, s map[string][]byte, want ...key.Fingerprint) {
	t.Helper()
	slices.Sort(want)
	if named, there := keysIn(t, s); !slices.Equal(named, want) || !slices.Equal(there, want) {
		t.Errorf("clients are told of the keys %v, there are %v, want %v", named, there, want)
	}
}

func warnings(findings []publish.Finding, reason string) (found []publish.Finding) {
	for _, f := range findings {
		if f.Severity == publish.Warning && strings.Contains(f.Reason, reason) {
			found = append(found, f)
		}
	}
	return found
}

// What becomes of each document in test/testdata/signed, and which key clients are then offered.
// Why each is refused is in TestSignedDocuments of publish/key.
func TestSignedDocumentsArePublishedOrNot(t *testing.T) {
	published := []string{"ok", "crlf", "trailspace", "evilkey"}
	dirs, err := os.ReadDir(original("signed"))
	must(t, err)
	for _, dir := range dirs {
		t.Run(dir.Name(), func(t *testing.T) {
			m := emptyMirror(t)
			out, err := publishTo(t, m, original("signed/"+dir.Name()), publish.Options{Trust: trusting(t, "signed")})
			if !slices.Contains(published, dir.Name()) {
				if err == nil || len(fixed(m)) > 0 {
					t.Errorf("%v, stored %q", err, fixed(m))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantKeys(t, m.Snapshot(), keyGood) // from the trusted keys, where the source has it not
			if told := warnings(out.Findings, "it is not among the trusted keys, so this key is not published"); (len(told) == 1) != (dir.Name() == "evilkey") {
				t.Errorf("findings: %v", out.Findings)
			}
		})
	}
}

// A key file with a second key in it is refused, and with --keep-going the key that was meant is
// taken from the trusted keys.
func TestAKeySmuggledIntoAKeyFile(t *testing.T) {
	m := emptyMirror(t)
	out, err := publishTo(t, m, original("signed/twokeys"), publish.Options{KeepGoing: true, Trust: trusting(t, "signed")})
	if err == nil || !strings.Contains(fmt.Sprint(out.Findings), "want one") {
		t.Errorf("%v, findings %v", err, out.Findings)
	}
	wantKeys(t, m.Snapshot(), keyGood)
	armored, err := newReader().behind(m.Snapshot(), layout.V3Key(keyGood), manifest.Key)
	must(t, err)
	if p, err := key.ReadPublic(armored); err != nil || p.Fingerprint() != keyGood {
		t.Errorf("published is %v, %v", p, err)
	}
}

// Spack reads the first record of a key's manifest, whatever it is called.
func TestAKeySmuggledIntoAManifest(t *testing.T) {
	dir := copied(t, "signed/evilkey")
	evil := filepath.Join(dir, "v3/manifests/key/8F6D3AD59182B3EED212B7607C6F5ECF36BD1134.key.manifest.json")
	good := mustRead(t, original("signed.pub"))
	m, err := manifest.Parse(mustRead(t, evil))
	must(t, err)
	m.Records[0].MediaType = "application/octet-stream"
	m.Records = append(m.Records, manifest.Record{Size: int64(len(good)), MediaType: manifest.KeyType, Compression: "none", Digest: blob.DigestOf(good)})
	text, err := m.Encode()
	must(t, err)
	must(t, os.Remove(evil))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(evil), string(keyGood)+".key.manifest.json"), text, 0o644))
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, layout.V3Blob(blob.DigestOf(good)))), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, layout.V3Blob(blob.DigestOf(good))), good, 0o644))
	for _, trust := range []publish.Trust{{}, trusting(t, "signed")} {
		to := emptyMirror(t)
		if out, err := publishTo(t, to, dir, publish.Options{Trust: trust}); err == nil || !strings.Contains(fmt.Sprint(out.Findings), "it has 2 records") {
			t.Errorf("%v, findings %v", err, out)
		}
	}
}

// A package outlives the key that signed it.
func TestAPackageOutlivesItsKey(t *testing.T) {
	for _, ring := range []string{"exp", "exp3", "exp4"} {
		trust := trusting(t, "trust/keys/"+ring)
		m := emptyMirror(t)
		mustPublish(t, m, original("trust/expired"), publish.Options{Trust: trust})
		v := mustVerify(t, m, publish.VerifyOptions{Deep: true, Trust: trust})
		if v.Damaged() || v.Packages != 1 {
			t.Errorf("%s: %+v", ring, v)
		}
		v = mustVerify(t, planted(t, "trust/expired"), publish.VerifyOptions{Trust: trust})
		for _, f := range v.Findings {
			if f.Severity == publish.Error && !strings.Contains(f.Reason, "this key is not among the trusted keys") {
				t.Errorf("%s: %v", ring, f) // the mirror has a key that signed nothing
			}
		}
	}
}

// Of a source's keys, only those are published that are trusted, and verify finds the others.
func TestAnUntrustedKeyIsNotPublished(t *testing.T) {
	trust := trusting(t, "trust/keys/ed")
	m := emptyMirror(t)
	out := mustPublish(t, m, original("trust/untrusted-key"), publish.Options{Trust: trust})
	wantKeys(t, m.Snapshot(), keyEd)
	if len(warnings(out.Findings, "this key is not published")) != 1 {
		t.Errorf("findings: %v", out.Findings)
	}
	if v := mustVerify(t, m, publish.VerifyOptions{Deep: true, Trust: trust}); v.Damaged() {
		t.Errorf("what we published: %v", v.Findings)
	}
	v := mustVerify(t, planted(t, "trust/untrusted-key"), publish.VerifyOptions{Trust: trust})
	if !v.Damaged() || !strings.Contains(fmt.Sprint(v.Findings), "this key is not among the trusted keys") {
		t.Errorf("the source: %v", v.Findings)
	}
}

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
		o.Selection.NoKeys, o.Trust = true, publish.Trust{Keys: verifyRing(t, "one")}
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
		if v := mustVerify(t, m, publish.VerifyOptions{Deep: true}); v.Damaged() || len(warnings(v.Findings, "cannot check the signatures of 1 package: it lacks the key")) != 1 {
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
		if v := mustVerify(t, m, publish.VerifyOptions{Deep: true, Trust: o.Trust}); v.Damaged() {
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

// What is there already is judged, too: a run that sends nothing says what clients are offered
// and should not trust.
func TestTrustedKeysJudgeWhatIsThere(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := emptyMirror(t)
		mustPublish(t, m, original(l+"-signed"), publish.Options{})
		two := publish.Options{Trust: publish.Trust{Keys: verifyRing(t, "two")}}

		out, err := publishTo(t, m, original(l+"-signed"), two)
		if err == nil || !strings.Contains(fmt.Sprint(out.Findings), "the destination offers it already, but: signature by a key that is not among the trusted keys") {
			t.Errorf("%s: its own packages: %v", l, err)
		}
		before := m.Snapshot()

		// Packages of others, beside one of ours that is there as well.
		o := two
		o.Selection = only("zlib").Selection
		p := mustPlan(t, m, original(l+"-unsigned"), o)
		packages := mustVerify(t, m, publish.VerifyOptions{}).Packages
		mirror := p.Mirrors[0]
		if len(mirror.Untrusted) < packages-1 || !slices.Contains(mirror.Untrusted, keyName(l, keyOne)) {
			t.Errorf("%s: %d packages, untrusted are %q", l, packages, mirror.Untrusted)
		}
		told := warnings(p.Findings, "clients are offered it, but: signature by a key that is not among the trusted keys")
		if len(told) != min(packages, 10) || len(warnings(p.Findings, "this key is not among the trusted keys")) != 1 {
			t.Errorf("%s: findings %v", l, p.Findings)
		}
		if !maps.EqualFunc(before, m.Snapshot(), bytes.Equal) {
			t.Errorf("%s: something was stored", l)
		}

		// Nobody is bothered with what the keys do cover.
		o.Trust.Keys = verifyRing(t, "one")
		if p := mustPlan(t, m, original(l+"-unsigned"), o); len(p.Mirrors[0].Untrusted) > 0 {
			t.Errorf("%s: untrusted are %q", l, p.Mirrors[0].Untrusted)
		}
	}
}

func keyName(l string, f key.Fingerprint) string {
	if l == "v2" {
		return layout.V2Key(f)
	}
	return layout.V3Key(f)
}

// Judging costs requests only with trusted keys, only for documents whose signer the source does not
// tell, and in a process that goes on only once each.
func TestJudgingIsCheap(t *testing.T) {
	m := emptyMirror(t)
	mustPublish(t, m, original("v3-signed"), publish.Options{})
	requests := func(dir string, o publish.Options) int {
		b := mirrortest.Break(m)
		mustPlan(t, b, dir, o)
		return len(b.Calls())
	}
	trusted := publish.Options{Trust: trusting(t, "keys/one")}
	least := requests(original("v3-signed"), publish.Options{})
	if got := requests(original("v3-signed"), trusted); got != least {
		t.Errorf("with everything in the source: %d requests, want %d as without trusted keys", got, least)
	}
	zlib := only("zlib")
	least = requests(original("v3-signed"), zlib)
	zlib.Trust = trusted.Trust
	zlib.Trust.Judged = new(publish.Judged)
	others := mustVerify(t, m, publish.VerifyOptions{}).Packages - 1
	if got := requests(original("v3-signed"), zlib); got != least+others {
		t.Errorf("with others' packages: %d requests, want %d and one for each of %d", got, least, others)
	}
	if got := requests(original("v3-signed"), zlib); got != least {
		t.Errorf("again: %d requests, want %d", got, least)
	}
}

// A rebuild names only trusted keys, and fails before it touches anything if a package is not trusted.
func TestRebuildNamesTrustedKeys(t *testing.T) {
	m := emptyMirror(t)
	mustPublish(t, m, original("trust/untrusted-key"), publish.Options{Trust: trusting(t, "trust/keys/ed")})
	rsa := mustRead(t, original("trust/keys/rsa.pub"))
	ring, err := key.ReadRing(rsa)
	must(t, err)
	must(t, m.PlantFS(os.DirFS(original("trust/untrusted-key"))))
	if _, there := keysIn(t, m.Snapshot()); !slices.Contains(there, ring.Fingerprints()[0]) {
		t.Fatalf("there are %v", there)
	}
	if _, err := publish.Rebuild(t.Context(), m, publish.Trust{}); err != nil {
		t.Fatal(err)
	}
	if named, _ := keysIn(t, m.Snapshot()); len(named) != 2 {
		t.Errorf("without trusted keys all are named: %v", named)
	}
	if _, err := publish.Rebuild(t.Context(), m, trusting(t, "trust/keys/ed")); err != nil {
		t.Fatal(err)
	}
	if named, _ := keysIn(t, m.Snapshot()); !slices.Equal(named, []key.Fingerprint{keyEd}) {
		t.Errorf("named are %v", named)
	}
}

// Healing tells clients of no key that is not trusted.
func TestHealingTellsOfTrustedKeys(t *testing.T) {
	for trust, want := range map[string]bool{"trust/keys/rsa": true, "keys/one": false} {
		m := planted(t, "trust/untrusted-key")
		m.Uproot(layout.V3KeyIndex)
		healed, err := publish.Heal(t.Context(), m, trusting(t, trust), publish.Told{Names: slices.Collect(maps.Keys(m.Snapshot()))})
		must(t, err)
		if named, _ := keysIn(t, m.Snapshot()); (len(named) == 1) != want {
			t.Errorf("%s: named are %v", trust, named)
		}
		if told := warnings(healed[0].Findings, "this key is not among the trusted keys"); (len(told) == 0) != want {
			t.Errorf("%s: findings %v", trust, healed[0].Findings)
		}
	}
}
